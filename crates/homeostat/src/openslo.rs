//! Promises from OpenSLO v1 files. What is understood is read; anything else is an error that says what to do.

mod yaml;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use vocabulary::{Span, suggest};

/// What a file promises, in the words of `[objective]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promises {
    pub period: Option<Span>,
    pub latency_ms: Option<f64>,
    pub latency_target: Option<f64>,
    pub availability: Option<f64>,
    pub accuracy: Option<f64>,
}

const KINDS: [&str; 3] = ["latency", "availability", "accuracy"];

/// Reads all documents of kind `SLO`; other kinds are passed over.
pub fn read(text: &str) -> Result<Promises> {
    let documents = match serde_json::from_str::<Value>(text) {
        Ok(value) => vec![value],
        Err(_) => yaml::documents(text)?,
    };
    let mut promises = Promises::default();
    let mut found = 0;
    for document in documents.iter().filter(|document| document["kind"] == "SLO") {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        slo(document, name, &mut promises).with_context(|| format!("SLO \"{name}\""))?;
        found += 1;
    }
    if found == 0 {
        bail!("there is no document with kind: SLO");
    }
    Ok(promises)
}

fn slo(document: &Value, name: &str, promises: &mut Promises) -> Result<()> {
    if document["apiVersion"] != "openslo/v1" {
        bail!("apiVersion is {}; openslo/v1 is understood", document["apiVersion"]);
    }
    let spec = &document["spec"];
    if spec["budgetingMethod"] != "Occurrences" {
        bail!("budgetingMethod is {}; Occurrences is understood: shares of requests", spec["budgetingMethod"]);
    }
    let windows = spec["timeWindow"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [window] = windows else { bail!("timeWindow has {} entries; one is understood", windows.len()) };
    if window["isRolling"] != true {
        bail!("timeWindow.isRolling is {}; a rolling window is understood", window["isRolling"]);
    }
    let duration = window["duration"].as_str().unwrap_or_default();
    let period: Option<Span> = duration.parse().ok().filter(|_| duration.ends_with(['d', 'w']));
    let Some(period) = period else {
        bail!("timeWindow.duration is {}; days or weeks are understood, such as 30d", window["duration"]);
    };
    if promises.period.is_some_and(|other| other != period) {
        bail!(
            "timeWindow.duration is {period}, and {} elsewhere; a model has one period",
            promises.period.unwrap_or(period)
        );
    }
    promises.period = Some(period);
    let objectives = spec["objectives"].as_array().filter(|all| !all.is_empty()).context("objectives is empty")?;
    for objective in objectives {
        promise(objective, name, promises)?;
    }
    Ok(())
}

fn promise(objective: &Value, slo: &str, promises: &mut Promises) -> Result<()> {
    const KNOWN: [&str; 5] = ["displayName", "target", "targetPercent", "op", "value"];
    for key in objective.as_object().into_iter().flat_map(|map| map.keys()) {
        if !KNOWN.contains(&key.as_str()) {
            bail!("objectives.{key} is not understood{}", suggest::hint(key, KNOWN));
        }
    }
    let target = match (objective["target"].as_f64(), objective["targetPercent"].as_f64()) {
        (Some(target), None) => target,
        (None, Some(percent)) => percent / 100.0,
        _ => bail!("an objective needs either target or targetPercent"),
    };
    let shown = objective["displayName"].as_str().unwrap_or_default();
    let named = |name: &str| KINDS.into_iter().find(|kind| name.to_lowercase().contains(kind));
    let Some(kind) = named(shown).or(named(slo)) else {
        bail!(
            "neither the objective's displayName \"{shown}\" nor the SLO's name says what is promised; let it contain one \
             of {}",
            KINDS.join(", ")
        );
    };
    let place = match kind {
        "latency" => {
            let within = objective["value"].as_f64();
            let (Some(within), Some("lt" | "lte")) = (within, objective["op"].as_str()) else {
                bail!("a promise of latency needs op: lte, and value: the milliseconds");
            };
            promises.latency_ms = Some(within);
            &mut promises.latency_target
        }
        "availability" => &mut promises.availability,
        _ => &mut promises.accuracy,
    };
    if place.replace(target).is_some() {
        bail!("{kind} is promised twice");
    }
    Ok(())
}

impl Promises {
    /// Keys of `[objective]` and their values.
    pub fn keys(&self) -> Vec<(&'static str, toml_edit::Value)> {
        let period = self.period.map(|period| ("period", period.to_string().into()));
        let numbers = [
            ("latency_ms", self.latency_ms),
            ("latency_target", self.latency_target),
            ("availability", self.availability),
            ("accuracy", self.accuracy),
        ];
        let numbers = numbers.into_iter().filter_map(|(key, value)| Some((key, value?.into())));
        period.into_iter().chain(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "apiVersion: openslo/v1\nkind: SLO\nmetadata:\n  name: arrival-availability\nspec:\n  service: flights\n  budgetingMethod: Occurrences\n  timeWindow:\n    - duration: 4w\n      isRolling: true\n  objectives:\n    - targetPercent: 99.5\n    - displayName: Latency of answers\n      op: lte\n      value: 80\n      target: 0.99\n";

    #[test]
    fn promises_are_read() {
        let promises = read(FILE).unwrap();
        assert_eq!(promises.period, Some(Span::days(28)));
        assert_eq!((promises.latency_ms, promises.latency_target), (Some(80.0), Some(0.99)));
        assert_eq!((promises.availability, promises.accuracy), (Some(0.995), None));
        assert_eq!(promises.keys().len(), 4);
        let json = r#"{"apiVersion":"openslo/v1","kind":"SLO","metadata":{"name":"accuracy"},"spec":{"budgetingMethod":"Occurrences",
            "timeWindow":[{"duration":"30d","isRolling":true}],"objectives":[{"target":0.8}]}}"#;
        assert_eq!(read(json).unwrap().accuracy, Some(0.8));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (from, to, said) in [
            ("Occurrences", "Timeslices", "Occurrences is understood"),
            ("4w", "1M", "days or weeks"),
            ("isRolling: true", "isRolling: false", "rolling"),
            ("op: lte", "op: gte", "op: lte"),
            ("op: lte", "opp: lte", "did you mean \"op\"?"),
            ("arrival-availability", "arrival", "says what is promised"),
            ("openslo/v1", "openslo/v2", "openslo/v1 is understood"),
            ("kind: SLO", "kind: SLI", "no document"),
        ] {
            let error = format!("{:#}", read(&FILE.replace(from, to)).unwrap_err());
            assert!(error.contains(said), "{to}: {error}");
        }
    }
}
