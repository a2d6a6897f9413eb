//! `[[features.windows]]`: what a stream knows about a row's key at the row's time, as columns `STREAM.FEATURE` that the
//! pipeline takes like those of the contract. Knows no events: how windows are computed is the business of `features`.

use crate::contract::{Column, Contract};
use crate::model::{ModelSpec, ModelSpecError};
use crate::stream::{StreamColumn, StreamSpec};
use crate::suggest;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One stream's features for a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowFeatures {
    pub stream: String,
    /// The contract's columns that hold the stream's key, in the order of the stream's key columns.
    pub key: Vec<String>,
    /// The stream's features to take, such as `hour_paid`; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    #[serde(default, skip_serializing_if = "Known::is_default")]
    pub known: Known,
    /// In training, events are taken to become known this long after they happened, instead of when they really did: for
    /// a history that was brought in long afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// The features taken with their types: filled in from the stream's declaration, see [`ModelSpec::with_streams`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<StreamColumn>,
}

/// Which events count for a row that is learned from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Those that were known at the row's time: what an answer given then would have seen.
    #[default]
    Then,
    /// All those before the row's time, however late they became known.
    Now,
}

impl Known {
    fn is_default(&self) -> bool {
        *self == Known::default()
    }
}

impl WindowFeatures {
    /// The name of the column that holds a feature.
    pub fn column(&self, feature: &str) -> String {
        format!("{}.{feature}", self.stream)
    }

    /// The columns, in the order of the features taken.
    pub fn columns(&self) -> impl Iterator<Item = String> + '_ {
        self.types.iter().map(|taken| self.column(&taken.name))
    }

    fn problems(&self, spec: &ModelSpec, contract: &Contract, say: &mut dyn FnMut(String), stream: &StreamSpec) {
        let name = &self.stream;
        if self.key.len() != stream.key.len() {
            say(format!(
                "features.windows of stream \"{name}\": key has {} columns, the stream's key has {}: {}",
                self.key.len(),
                stream.key.len(),
                stream.key.join(", ")
            ));
        }
        for (ours, theirs) in self.key.iter().zip(&stream.key) {
            let Some(column) = contract.column(ours) else {
                let hint = suggest::hint(ours, contract.column_names());
                say(format!(
                    "features.windows of stream \"{name}\": key names column \"{ours}\", which contract \"{}\" does not \
                     declare{hint}",
                    contract.name
                ));
                continue;
            };
            if let Some(wanted) = stream.column(theirs).filter(|wanted| *wanted != column.kind) {
                say(format!(
                    "features.windows of stream \"{name}\": key column \"{ours}\" is {}, but the stream's \"{theirs}\" \
                     is {}; declare both alike",
                    column.kind.name(),
                    wanted.name()
                ));
            }
            if *ours == spec.target {
                say(format!(
                    "features.windows of stream \"{name}\": key names the target, which a request does not know"
                ));
            }
        }
        let known = stream.features();
        for wanted in &self.features {
            if !known.iter().any(|feature| feature.name == *wanted) {
                let hint = suggest::hint(wanted, known.iter().map(|feature| feature.name.as_str()));
                say(format!("features.windows: stream \"{name}\" has no feature \"{wanted}\"{hint}"));
            }
        }
        if self.delay.is_some_and(|delay| delay.0 < 0) {
            say(format!("features.windows of stream \"{name}\": delay is negative; write 0s or more"));
        }
        if self.delay.is_some() && self.known == Known::Now {
            say(format!(
                "features.windows of stream \"{name}\": delay says when events are known; leave out known = \"now\""
            ));
        }
    }
}

impl ModelSpec {
    /// The same model with the types of its window features filled in; what a stream lacks is left out, for
    /// [`ModelSpec::window_problems`] to name.
    pub fn with_streams(&self, streams: &BTreeMap<String, StreamSpec>) -> ModelSpec {
        let mut spec = self.clone();
        for windows in &mut spec.features.windows {
            let known = streams.get(&windows.stream).map(StreamSpec::features).unwrap_or_default();
            let taken = known.into_iter();
            let taken = taken.filter(|one| windows.features.is_empty() || windows.features.contains(&one.name));
            windows.types = taken.map(|one| StreamColumn { name: one.name, kind: one.kind }).collect();
        }
        spec
    }

    /// What is wrong with the window features, beside the streams of the project.
    pub fn window_problems(&self, contract: &Contract, streams: &BTreeMap<String, StreamSpec>) -> Vec<ModelSpecError> {
        let mut found = Vec::new();
        let mut say = |what: String| found.push(ModelSpecError { model: self.name.clone(), what });
        let all = &self.features.windows;
        if !all.is_empty() && self.time.is_none() {
            say("features.windows needs time, the column that says as of when a stream is asked".to_owned());
        }
        for (place, windows) in all.iter().enumerate() {
            let name = &windows.stream;
            if all[..place].iter().any(|earlier| earlier.stream == *name) {
                say(format!("features.windows names stream \"{name}\" twice; name all its features at one place"));
            }
            match streams.get(name) {
                Some(stream) => windows.problems(self, contract, &mut say, stream),
                None => {
                    let hint = suggest::hint(name, streams.keys().map(String::as_str));
                    say(format!(
                        "features.windows names stream \"{name}\", which no file under streams/ declares{hint}"
                    ));
                }
            }
            for column in windows.columns().filter(|column| contract.column(column).is_some()) {
                say(format!(
                    "features.windows makes a column \"{column}\", which the contract declares too; rename that"
                ));
            }
        }
        found
    }

    /// The columns that window features make.
    pub fn window_columns(&self) -> impl Iterator<Item = String> + '_ {
        self.features.windows.iter().flat_map(WindowFeatures::columns)
    }

    /// The contract with the columns of window features behind its own: what the pipeline is planned over.
    pub fn widened<'a>(&self, contract: &'a Contract) -> Cow<'a, Contract> {
        if self.features.windows.is_empty() {
            return Cow::Borrowed(contract);
        }
        let mut wide = contract.clone();
        for windows in &self.features.windows {
            let columns = windows.types.iter().map(|taken| Column::new(windows.column(&taken.name), taken.kind));
            wide.columns.extend(columns.filter(|column| contract.column(&column.name).is_none()));
        }
        Cow::Owned(wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ColumnKind;
    use serde_json::json;

    fn stream() -> StreamSpec {
        serde_json::from_value(json!({
            "name": "clicks", "time": "at", "key": ["user"], "source": {"kind": "http"},
            "column": [{"name": "at", "type": "timestamp"}, {"name": "user", "type": "string"},
                {"name": "price", "type": "float"}, {"name": "shop", "type": "string"}],
            "window": [{"name": "hour", "kind": "sliding", "size": "1h", "aggregate": [
                {"name": "paid", "of": "price", "as": "sum"}, {"name": "shop", "of": "shop", "as": "last"}]}],
        }))
        .unwrap()
    }

    fn problems(windows: serde_json::Value, time: Option<&str>) -> Vec<String> {
        let contract = Contract::new(
            "orders",
            vec![
                Column::new("when", ColumnKind::Timestamp),
                Column::new("buyer", ColumnKind::String),
                Column::new("number", ColumnKind::Int),
                Column::new("late", ColumnKind::Bool),
            ],
        );
        let spec = json!({"name": "m", "contract": "orders", "target": "late", "task": "binary", "time": time,
            "data": {"file": "x.csv"}, "features": {"windows": windows}});
        let spec: ModelSpec = serde_json::from_value(spec).unwrap();
        let streams = BTreeMap::from([("clicks".to_owned(), stream())]);
        let spec = spec.with_streams(&streams);
        spec.window_problems(&contract, &streams).into_iter().map(|problem| problem.what).collect()
    }

    #[test]
    fn features_become_typed_columns_behind_the_contracts() {
        let spec = json!({"name": "m", "contract": "orders", "target": "late", "task": "binary", "time": "when",
            "data": {"file": "x.csv"}, "features": {"windows": [{"stream": "clicks", "key": ["buyer"]}]}});
        let spec: ModelSpec = serde_json::from_value(spec).unwrap();
        let spec = spec.with_streams(&BTreeMap::from([("clicks".to_owned(), stream())]));
        let contract = Contract::new("orders", vec![Column::new("buyer", ColumnKind::String)]);
        let wide = spec.widened(&contract);
        let columns: Vec<(&str, ColumnKind)> = wide.columns.iter().map(|c| (c.name.as_str(), c.kind)).collect();
        let wanted = [
            ("buyer", ColumnKind::String),
            ("clicks.hour_paid", ColumnKind::Float),
            ("clicks.hour_shop_1", ColumnKind::String),
        ];
        assert_eq!(columns, wanted);
        let back: ModelSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        assert_eq!(back, spec);
    }

    #[test]
    fn each_slip_is_named_with_its_remedy() {
        let fine = json!([{"stream": "clicks", "key": ["buyer"], "features": ["hour_paid"], "delay": "5m"}]);
        assert_eq!(problems(fine, Some("when")), Vec::<String>::new());
        let said = |windows, time, wanted: &str| {
            let found = problems(windows, time);
            assert!(found.iter().any(|what| what.contains(wanted)), "{wanted} in {found:?}");
        };
        let at = Some("when");
        said(json!([{"stream": "clicks", "key": ["buyer"]}]), None, "needs time");
        said(json!([{"stream": "click", "key": ["buyer"]}]), at, "did you mean \"clicks\"?");
        said(json!([{"stream": "clicks", "key": ["buyr"]}]), at, "did you mean \"buyer\"?");
        said(
            json!([{"stream": "clicks", "key": ["number"]}]),
            at,
            "\"number\" is int, but the stream's \"user\" is string",
        );
        said(json!([{"stream": "clicks", "key": []}]), at, "key has 0 columns, the stream's key has 1: user");
        said(
            json!([{"stream": "clicks", "key": ["buyer"], "features": ["hour_payed"]}]),
            at,
            "did you mean \"hour_paid\"?",
        );
        said(json!([{"stream": "clicks", "key": ["buyer"], "delay": "1m", "known": "now"}]), at, "leave out known");
        let twice = json!([{"stream": "clicks", "key": ["buyer"]}, {"stream": "clicks", "key": ["buyer"]}]);
        said(twice, at, "twice");
    }
}
