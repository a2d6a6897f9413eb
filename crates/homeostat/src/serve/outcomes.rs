//! Outcomes: late, twice, corrected, or for nobody. Each is logged before it is acknowledged.

use super::api::{OutcomeIn, OutcomesResponse};
use super::error::{ApiError, ApiResult, stored};
use super::ledger::Joined;
use super::state::{App, ModelState};
use serde_json::Value;
use std::sync::atomic::Ordering;
use storage::Record;
use vocabulary::contract::Scalar;
use vocabulary::record::Outcome;
use vocabulary::{ModelSpec, PredictionId, Task};

const UNKNOWN_LISTED_MAX: usize = 100;

struct Accepted<'a> {
    state: &'a ModelState,
    outcome: Outcome,
}

/// Takes all outcomes, or none with a reason.
pub async fn take(app: &App, given: &[OutcomeIn]) -> ApiResult<OutcomesResponse> {
    let mut response = OutcomesResponse::default();
    let mut accepted: Vec<Accepted> = Vec::new();
    for (place, outcome) in given.iter().enumerate() {
        let Some((name, state, id)) = find(app, place, outcome)? else {
            response.unknown += 1;
            if response.unknown_ids.len() < UNKNOWN_LISTED_MAX {
                response.unknown_ids.push(named(outcome));
            }
            if let Some(state) = outcome.model.as_ref().and_then(|model| app.models.get(model)) {
                state.unknown_outcomes.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        };
        let value = value(&state.spec, place, &outcome.value)?;
        let at = match &outcome.at {
            Some(text) => text.parse().map_err(|error| ApiError::malformed(format!("outcome {place}: {error}")))?,
            None => app.clock.now().unwrap_or_else(crate::clock::wall),
        };
        let twice = accepted.iter().any(|other| other.outcome.id == id && other.outcome.value == value);
        match state.ledger().look(&id, at, value) {
            Joined::Accepted(_) if !twice => response.accepted += 1,
            Joined::Corrected(_) => response.corrected += 1,
            _ => {
                response.duplicate += 1;
                state.duplicate_outcomes.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        }
        accepted.push(Accepted { state, outcome: Outcome { id, model: name.to_owned(), value, at } });
    }
    let records: Vec<Record> = accepted.iter().map(|a| Record::Outcome(a.outcome.clone())).collect();
    app.journal.append(&records).await.map_err(stored)?;
    for Accepted { state, outcome } in accepted {
        state.ledger().join(outcome.id, outcome.at, outcome.value);
    }
    Ok(response)
}

fn named(outcome: &OutcomeIn) -> String {
    match (&outcome.id, &outcome.key) {
        (Some(id), _) => id.clone(),
        (None, Some(key)) => key_text(key),
        _ => String::new(),
    }
}

fn key_text(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

/// The model and prediction that an outcome belongs to.
fn find<'a>(
    app: &'a App,
    place: usize,
    outcome: &OutcomeIn,
) -> ApiResult<Option<(&'a str, &'a ModelState, PredictionId)>> {
    if let Some(model) = &outcome.model {
        app.model(model)?;
    }
    let wanted = |name: &String| outcome.model.as_ref().is_none_or(|model| model == name);
    let models = app.models.iter().filter(|(name, _)| wanted(name));
    match (&outcome.id, &outcome.key) {
        (Some(id), None) => {
            let id: PredictionId =
                id.parse().map_err(|error| ApiError::malformed(format!("outcome {place}: {error}")))?;
            let mut models = models;
            Ok(models.find(|(_, state)| state.ledger().get(&id).is_some()).map(|(n, s)| (n.as_str(), s, id)))
        }
        (None, Some(key)) => {
            let key = key_text(key);
            let found: Vec<_> =
                models.filter_map(|(n, s)| s.ledger().by_key(&key).map(|id| (n.as_str(), s, id))).collect();
            if found.len() > 1 {
                let what =
                    format!("outcome {place}: key \"{key}\" is known to several models; name one with \"model\"");
                return Err(ApiError::malformed(what));
            }
            Ok(found.into_iter().next())
        }
        _ => Err(ApiError::malformed(format!("outcome {place}: give it either \"id\" or \"key\""))),
    }
}

fn value(spec: &ModelSpec, place: usize, value: &Value) -> ApiResult<f64> {
    let positive = match &spec.positive {
        Some(Scalar::Text(text)) => Some(Value::from(text.clone())),
        Some(Scalar::Int(n)) => Some(Value::from(*n)),
        Some(Scalar::Bool(b)) => Some(Value::from(*b)),
        Some(Scalar::Float(x)) => Some(Value::from(*x)),
        None => None,
    };
    let class = |text: &str| spec.class_names().iter().position(|name| name == text).map(|place| place as f64);
    let found = match (spec.task, value) {
        (Task::Multiclass, Value::String(text)) => class(text),
        (Task::Multiclass, named @ (Value::Number(_) | Value::Bool(_))) => class(&named.to_string()),
        (Task::Binary, Value::Bool(b)) => Some(f64::from(u8::from(*b))),
        (Task::Binary, Value::Number(n)) => n.as_f64().filter(|x| *x == 0.0 || *x == 1.0),
        (Task::Binary, text @ Value::String(_)) => positive.map(|positive| f64::from(u8::from(positive == *text))),
        (Task::Regression, Value::Number(n)) => n.as_f64().filter(|x| x.is_finite()),
        _ => None,
    };
    found.ok_or_else(|| {
        let wanted = match spec.task {
            Task::Binary => "0, 1, true or false",
            Task::Regression => "a number",
            Task::Multiclass => "one of the model's classes",
        };
        let problem =
            serde_json::json!([{ "row": place, "column": spec.target, "what": format!("{value} is not {wanted}") }]);
        ApiError::contract(
            format!("outcome {place}: {value} is not {wanted}, as model \"{}\" predicts", spec.name),
            problem,
        )
    })
}
