//! Making findings: their id is what they are about and since when, so that the same one has the same id at each look.

use std::collections::BTreeMap;
use vocabulary::{Finding, FindingKind, Timestamp};

/// A finding that was first certain at `at` and rests on what happened since `since`.
pub fn finding(
    model: &str,
    kind: FindingKind,
    subject: Option<String>,
    at: Timestamp,
    since: Timestamp,
    message: String,
    evidence: BTreeMap<String, f64>,
) -> Finding {
    let about = subject.as_deref().map(|subject| format!("/{subject}")).unwrap_or_default();
    let id = format!("{model}/{}{about}/{since}", kind.name());
    Finding { id, model: model.to_owned(), kind, subject, at, since, message, evidence, cause: None }
}
