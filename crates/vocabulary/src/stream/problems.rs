//! What is wrong with a stream's declaration, in words for the person who wrote it.

use super::{AggregateFunction, AggregateSpec, LAST_MAX, SourceSpec, StreamSpec, WindowKind, WindowSpec};
use crate::contract::ColumnKind;
use crate::suggest;
use crate::time::Span;

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("stream \"{stream}\": {what}")]
pub struct StreamSpecError {
    pub stream: String,
    pub what: String,
}

/// Tiles that one window spans at most: a look-up visits each.
const TILES_MAX: i64 = 100_000;

/// A request of the default size fits into a quarter of it.
const SPOOL_BYTES_LEAST: u64 = 64 << 10;

impl StreamSpec {
    /// Checks the declaration against itself; every problem found is returned. A stream that names a contract is checked
    /// after [`StreamSpec::with_contract`].
    pub fn problems(&self) -> Vec<StreamSpecError> {
        let mut found = Vec::new();
        let mut say = |what: String| found.push(StreamSpecError { stream: self.name.clone(), what });
        self.columns_problems(&mut say);
        self.times_problems(&mut say);
        self.source.problems(&mut say);
        if self.windows.is_empty() {
            say("has no window; add [[window]] with a name, a kind and [[window.aggregate]]".to_owned());
        }
        for (i, window) in self.windows.iter().enumerate() {
            if self.windows[..i].iter().any(|earlier| earlier.name == window.name) {
                say(format!("window \"{}\" is declared twice; give each its own name", window.name));
            }
            window.problems(self, &mut |what| say(format!("window \"{}\": {what}", window.name)));
        }
        let features = self.features();
        for (i, feature) in features.iter().enumerate() {
            if features[..i].iter().any(|earlier| earlier.name == feature.name) {
                say(format!("feature \"{}\" is given twice; rename a window or an aggregate", feature.name));
            }
        }
        found
    }

    fn columns_problems(&self, say: &mut dyn FnMut(String)) {
        if self.columns.is_empty() {
            say("has no columns; name a contract, or add [[column]] with name and type".to_owned());
            return;
        }
        for (i, column) in self.columns.iter().enumerate() {
            if self.columns[..i].iter().any(|earlier| earlier.name == column.name) {
                say(format!("column \"{}\" is declared twice", column.name));
            }
        }
        if self.key.is_empty() {
            say("key is empty; name the columns that say whom an event is about".to_owned());
        }
        let times = [("time", Some(&self.time)), ("known_at", self.known_at.as_ref())];
        for (role, name) in times.into_iter().filter_map(|(role, name)| Some((role, name?))) {
            self.typed(role, name, say, |kind| {
                (kind != ColumnKind::Timestamp).then(|| format!("needs type timestamp, not {}", kind.name()))
            });
        }
        let named = self.key.iter().map(|name| ("key", name)).chain(self.id.iter().map(|name| ("id", name)));
        for (role, name) in named {
            self.typed(role, name, say, |kind| {
                (kind == ColumnKind::Float)
                    .then(|| "cannot be a float, of which equal values are not sure to be equal".to_owned())
            });
        }
    }

    /// Says that the column is missing, or what `wrong` says about its type.
    fn typed(&self, role: &str, name: &str, say: &mut dyn FnMut(String), wrong: impl Fn(ColumnKind) -> Option<String>) {
        match self.column(name) {
            None => {
                let hint = suggest::hint(name, self.columns.iter().map(|column| column.name.as_str()));
                let declared = match &self.contract {
                    Some(contract) => format!("which contract \"{contract}\" does not declare"),
                    None => "which no [[column]] declares".to_owned(),
                };
                say(format!("{role} names column \"{name}\", {declared}{hint}"));
            }
            Some(kind) => {
                if let Some(what) = wrong(kind) {
                    say(format!("{role} column \"{name}\" {what}"));
                }
            }
        }
    }

    fn times_problems(&self, say: &mut dyn FnMut(String)) {
        for (role, span) in [("out_of_order", self.out_of_order), ("allowed_lateness", self.allowed_lateness)] {
            if span.0 < 0 {
                say(format!("{role} = \"{span}\" is negative; write 0s or more"));
            }
        }
        if self.commit_every.0 <= 0 {
            say(format!("commit_every = \"{}\" must be longer than nothing, such as 1s", self.commit_every));
        }
        for (role, span) in [("idle_after", self.idle_after), ("ahead_max", self.ahead_max)] {
            if let Some(span) = span
                && span.0 <= 0
            {
                say(format!("{role} = \"{span}\" must be longer than nothing; leave it out for never"));
            }
        }
        let remembered = Span(self.longest_open().0.saturating_add(self.allowed_lateness.0));
        if let Some(span) = self.duplicates.span {
            if self.id.is_none() {
                say("[duplicates] needs id, the column that identifies an event".to_owned());
            }
            if span < remembered {
                say(format!(
                    "[duplicates] for = \"{span}\" is shorter than an event can be counted; write \"{remembered}\" or \
                     more, or leave it out"
                ));
            }
        }
        let limits = [
            ("[duplicates] max", self.duplicates.max.unwrap_or(1)),
            ("[limits] keys", self.limits.keys),
            ("[limits] tiles", self.limits.tiles),
            ("[limits] events", self.limits.events),
            ("[history] events_max", self.history.events_max),
        ];
        if self.history.keep.0 < 0 {
            say(format!("[history] keep = \"{}\" is negative; write 0s to keep none", self.history.keep));
        }
        for (role, _) in limits.into_iter().filter(|(_, limit)| *limit == 0) {
            say(format!("{role} = 0 lets nothing in; write 1 or more"));
        }
    }
}

impl SourceSpec {
    fn problems(&self, say: &mut dyn FnMut(String)) {
        let texts: &[(&str, &str)] = match self {
            SourceSpec::Files { path } => &[("path", path)],
            SourceSpec::Http { spool_bytes_max } => {
                if *spool_bytes_max < SPOOL_BYTES_LEAST {
                    say(format!(
                        "[source] spool_bytes_max = {spool_bytes_max} is too little; write {SPOOL_BYTES_LEAST} or more"
                    ));
                }
                &[]
            }
            SourceSpec::Nats { url, stream, subject } => &[("url", url), ("stream", stream), ("subject", subject)],
        };
        for (role, _) in texts.iter().filter(|(_, text)| text.trim().is_empty()) {
            say(format!("[source] {role} is empty"));
        }
    }
}

impl WindowSpec {
    fn problems(&self, stream: &StreamSpec, say: &mut dyn FnMut(String)) {
        let declared = [("size", self.size), ("slide", self.slide), ("gap", self.gap), ("tile", self.tile)];
        let (needed, unused): (&[&str], &[&str]) = match self.kind {
            WindowKind::Tumbling => (&["size"], &["slide", "gap"]),
            WindowKind::Hopping => (&["size", "slide"], &["gap"]),
            WindowKind::Sliding => (&["size"], &["slide", "gap"]),
            WindowKind::Session => (&["gap"], &["size", "slide"]),
        };
        let mut sound = true;
        for (role, span) in declared {
            let what = match span {
                None if needed.contains(&role) => format!("a {} window needs {role}", self.kind.name()),
                Some(_) if unused.contains(&role) => format!("a {} window has no {role}", self.kind.name()),
                Some(span) if span.0 <= 0 => format!("{role} = \"{span}\" must be longer than nothing"),
                _ => continue,
            };
            sound = false;
            say(what);
        }
        if sound {
            self.tile_problems(say);
        }
        if self.aggregates.is_empty() {
            say("has no [[window.aggregate]]".to_owned());
        }
        for aggregate in &self.aggregates {
            let sink = &mut |what| say(format!("aggregate \"{}\": {what}", aggregate.name));
            aggregate.problems(stream, sink);
            if let Some(half_life) = aggregate.half_life
                && sound
                && self.tile().0 / 32 > half_life.0
            {
                sink(format!("half_life = \"{half_life}\" is too short for tiles of {}; write a tile", self.tile()));
            }
        }
    }

    fn tile_problems(&self, say: &mut dyn FnMut(String)) {
        let tile = self.tile();
        for (role, span) in [("size", self.size), ("slide", self.slide)] {
            if let Some(span) = span
                && span.0 % tile.0 != 0
            {
                say(format!("tile = \"{tile}\" does not divide {role} = \"{span}\""));
            }
        }
        if let Some(gap) = self.gap
            && tile > gap
        {
            say(format!("tile = \"{tile}\" is longer than gap = \"{gap}\""));
        }
        if let (Some(size), Some(slide)) = (self.size, self.slide)
            && slide > size
        {
            say(format!("slide = \"{slide}\" is longer than size = \"{size}\": events between windows would be lost"));
        }
        if let Some(size) = self.size
            && size.0 / tile.0 > TILES_MAX
        {
            say(format!("size = \"{size}\" has more than {TILES_MAX} tiles of {tile}; write a longer tile"));
        }
    }
}

impl AggregateSpec {
    fn problems(&self, stream: &StreamSpec, say: &mut dyn FnMut(String)) {
        use AggregateFunction as F;
        let function = self.function.name();
        match &self.of {
            None if !matches!(self.function, F::Count | F::Decayed) => {
                say(format!("as = \"{function}\" needs of, the column to aggregate"));
            }
            Some(of) => {
                let any = matches!(self.function, F::Count | F::Distinct | F::Last);
                stream.typed("of", of, say, |kind| {
                    let number = matches!(kind, ColumnKind::Int | ColumnKind::Float | ColumnKind::Bool);
                    (!number && !any).then(|| format!("of type {} has no {function}; it needs a number", kind.name()))
                });
            }
            None => {}
        }
        let parameters = [
            ("q", self.q.is_some(), F::Quantile, true),
            ("k", self.k.is_some(), F::Last, false),
            ("half_life", self.half_life.is_some(), F::Decayed, true),
        ];
        for (name, given, of, needed) in parameters {
            if given && self.function != of {
                say(format!("{name} belongs to as = \"{}\", not to \"{function}\"", of.name()));
            }
            if !given && needed && self.function == of {
                say(format!("as = \"{function}\" needs {name}"));
            }
        }
        if let Some(q) = self.q
            && !(0.0..=1.0).contains(&q)
        {
            say(format!("q = {q} is not between 0 and 1"));
        }
        if let Some(k) = self.k
            && !(1..=LAST_MAX).contains(&k)
        {
            say(format!("k = {k} is not between 1 and {LAST_MAX}"));
        }
        if let Some(half_life) = self.half_life
            && half_life.0 <= 0
        {
            say(format!("half_life = \"{half_life}\" must be longer than nothing"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use serde_json::json;

    fn stream(change: impl FnOnce(&mut serde_json::Value)) -> Vec<String> {
        let mut spec = json!({
            "name": "clicks", "time": "at", "key": ["user"], "id": "id",
            "source": {"kind": "http"},
            "out_of_order": "1m", "allowed_lateness": "10m",
            "duplicates": {"for": "1d", "max": 1000},
            "column": [
                {"name": "at", "type": "timestamp"}, {"name": "user", "type": "string"},
                {"name": "id", "type": "string"}, {"name": "price", "type": "float"},
            ],
            "window": [
                {"name": "hour", "kind": "hopping", "size": "1h", "slide": "5m", "aggregate": [
                    {"name": "events", "as": "count"}, {"name": "paid", "of": "price", "as": "sum"},
                    {"name": "p90", "of": "price", "as": "quantile", "q": 0.9}]},
                {"name": "day", "kind": "sliding", "size": "1d", "aggregate": [
                    {"name": "recent", "of": "price", "as": "decayed", "half_life": "6h"},
                    {"name": "price", "of": "price", "as": "last", "k": 2}]},
                {"name": "visit", "kind": "session", "gap": "30m", "aggregate": [{"name": "events", "as": "count"}]},
            ],
        });
        change(&mut spec);
        let spec: StreamSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(serde_json::from_value::<StreamSpec>(serde_json::to_value(&spec).unwrap()).unwrap(), spec);
        spec.problems().iter().map(ToString::to_string).collect()
    }

    fn first(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let problems = stream(change);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.into_iter().next().unwrap()
    }

    #[test]
    fn a_sound_stream_has_no_problems_and_names_its_features() {
        assert_eq!(stream(|_| {}), Vec::<String>::new());
        let mut names = Vec::new();
        stream(|spec| {
            let spec: StreamSpec = serde_json::from_value(spec.clone()).unwrap();
            names = spec.features().into_iter().map(|feature| feature.name).collect();
            assert_eq!(
                spec.windows.iter().map(WindowSpec::tile).collect::<Vec<_>>(),
                [Span(300_000_000), Span::hours(1), Span(1_800_000_000)]
            );
        });
        assert_eq!(
            names,
            ["hour_events", "hour_paid", "hour_p90", "day_recent", "day_price_1", "day_price_2", "visit_events"]
        );
    }

    #[test]
    fn each_slip_is_named_with_its_remedy() {
        assert_eq!(
            first(|s| s["source"]["spool_bytes_max"] = json!(10)),
            "stream \"clicks\": [source] spool_bytes_max = 10 is too little; write 65536 or more"
        );
        assert_eq!(
            first(|s| s["commit_every"] = json!("0s")),
            "stream \"clicks\": commit_every = \"0w\" must be longer than nothing, such as 1s"
        );
        assert_eq!(
            first(|s| s["key"] = json!(["usr"])),
            "stream \"clicks\": key names column \"usr\", which no [[column]] declares; did you mean \"user\"?"
        );
        assert_eq!(
            first(|s| s["time"] = json!("price")),
            "stream \"clicks\": time column \"price\" needs type timestamp, not float"
        );
        assert_eq!(
            first(|s| s["duplicates"]["for"] = json!("5m")),
            "stream \"clicks\": [duplicates] for = \"5m\" is shorter than an event can be counted; write \
             \"10m\" or more, or leave it out"
        );
        assert_eq!(
            first(|s| s["history"] = json!({"events_max": 0})),
            "stream \"clicks\": [history] events_max = 0 lets nothing in; write 1 or more"
        );
        let window = "stream \"clicks\": window \"hour\":";
        assert_eq!(first(|s| s["window"][0]["slide"] = json!(null)), format!("{window} a hopping window needs slide"));
        assert_eq!(
            first(|s| s["window"][0]["tile"] = json!("2m")),
            format!("{window} tile = \"2m\" does not divide slide = \"5m\"")
        );
        assert_eq!(
            first(|s| s["window"][0]["aggregate"][1]["of"] = json!("user")),
            format!("{window} aggregate \"paid\": of column \"user\" of type string has no sum; it needs a number")
        );
        assert_eq!(
            first(|s| s["window"][0]["aggregate"][2]["q"] = json!(90)),
            format!("{window} aggregate \"p90\": q = 90 is not between 0 and 1")
        );
        assert_eq!(
            first(|s| s["window"][1]["aggregate"][0]["half_life"] = json!("1m")),
            "stream \"clicks\": window \"day\": aggregate \"recent\": half_life = \"1m\" is too short for tiles of 1h; \
             write a tile"
        );
        let twice = stream(|s| s["window"][0]["name"] = json!("visit"));
        assert!(
            twice.contains(&"stream \"clicks\": window \"visit\" is declared twice; give each its own name".to_owned()),
            "{twice:?}"
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        let wrong = json!({"name": "x", "time": "at", "key": ["user"], "source": {"kind": "http", "port": 1}});
        assert!(serde_json::from_value::<StreamSpec>(wrong).unwrap_err().to_string().contains("port"));
        let wrong = json!({"name": "x", "time": "at", "key": ["u"], "source": {"kind": "http"}, "windows": []});
        assert!(serde_json::from_value::<StreamSpec>(wrong).unwrap_err().to_string().contains("windows"));
    }
}
