//! What `check` says in a terminal.

use super::Checked;
use super::evolution::Evolution;
use super::pipelines::collided;
use crate::output;
use features::leakage::Leak;
use features::{Finding, Report, Status};
use vocabulary::contract::evolution::Effect;

/// One model, in a line where all is well.
pub fn model(name: &str, checked: &Checked) -> String {
    let mut text = format!("{name}: {} rows, {} break the contract", checked.rows, checked.refused);
    for (recipe, report) in checked.parity.iter().flatten() {
        text.push_str(&format!(
            "; {recipe} pipeline: {} differences in {} rows, whole against one by one",
            report["differences"], report["rows"]
        ));
    }
    text.push('\n');
    let collisions = checked.collisions.iter().flatten();
    collisions.for_each(|(recipe, report)| text.push_str(&collided(recipe, report)));
    if checked.validation.expectations.iter().any(|finding| finding.status > Status::Skipped) {
        text.push_str(&format!("\n{}\n", report(&checked.validation)));
    }
    checked.leaks.iter().for_each(|found| text.push_str(&leak(found)));
    text
}

fn leak(leak: &Leak) -> String {
    format!("column \"{}\" may know the outcome: {}\n  to do: {}\n", leak.column, leak.what, leak.remedy)
}

/// A table of the expectations, then rows to look at.
pub fn report(report: &Report) -> String {
    let mut head = format!(
        "{} rows against contract \"{}\", version {}: {} refused, {} set aside",
        report.rows, report.contract, report.version, report.rejected_rows, report.quarantined_rows
    );
    if report.corrected_rows > 0 {
        head.push_str(&format!(", {} corrected earlier", report.corrected_rows));
    }
    let row = |finding: &Finding| {
        vec![finding.status.name().to_owned(), finding.title(), finding.declared.clone(), finding.sentence()]
    };
    let mut findings: Vec<&Finding> = report.expectations.iter().collect();
    // Stable: the worst first, and otherwise column by column.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.status));
    let rows: Vec<Vec<String>> = findings.iter().map(|finding| row(finding)).collect();
    let mut text = match rows.is_empty() {
        true => format!("{head}\nthe contract expects nothing but types\n"),
        false => format!("{head}\n\n{}\n", output::table(&["", "expectation", "expected", "found"], &rows)),
    };
    let with_examples = findings.iter().filter(|finding| !finding.examples.is_empty());
    for (place, finding) in with_examples.enumerate() {
        if place == 0 {
            text.push_str("\nrows, counted from 0:\n");
        }
        for example in &finding.examples {
            let values = serde_json::to_string(&example.values).unwrap_or_default();
            text.push_str(&format!("  {}: row {} {values}\n", finding.title(), example.row));
        }
    }
    text
}

/// What a contract's change means for the versions under it.
pub fn evolution(evolution: &Evolution) -> String {
    let mut text = String::new();
    if !evolution.compared.is_empty() {
        let verdict = match evolution.ok() {
            true => "compatible",
            false => "not compatible",
        };
        let compared = evolution.compared.join(", ");
        let (contract, mode) = (&evolution.contract, evolution.mode.name());
        text = format!("contract \"{contract}\" ({mode}): {verdict} with {compared}\n");
    }
    for change in &evolution.changes {
        let role = change.role.as_ref().map(|role| format!(" ({role})")).unwrap_or_default();
        let verdict = match (change.forbidden, change.effect) {
            (true, _) => "breaks",
            (false, Effect::Breaks) => "note:",
            (false, Effect::Empties) => "warning:",
        };
        text.push_str(&format!(
            "  {verdict} {}{role}, {}: column \"{}\" {}\n    to do: {}\n",
            change.version,
            change.direction.name(),
            change.column,
            change.what,
            change.remedy
        ));
    }
    evolution.notes.iter().for_each(|note| text.push_str(&format!("  note: {note}\n")));
    text
}
