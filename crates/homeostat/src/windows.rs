//! What streams knew about rows, for whoever learns, measures or scores a file: computed from the streams' histories, by
//! default as it was known at each row's time. And the same as it was logged with an answer. Serving looks up instead,
//! see `serve::windows`.

use crate::project::Project;
use crate::streams::History;
use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch};
use features::windows::{
    Backfill, Counted, Event, Key, Knowledge, Value, column_of, instants_of, keys_of, places, with_columns,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use vocabulary::model::{Known, WindowFeatures};
use vocabulary::{ModelSpec, Timestamp};

/// The histories that a model's window features are computed from, held in memory.
#[derive(Default)]
pub struct Windows {
    streams: Vec<Attached>,
}

struct Attached {
    declared: WindowFeatures,
    /// The row's time.
    time: String,
    backfill: Backfill,
    /// Of each feature taken, its place among those of the backfill.
    places: Vec<usize>,
    events: HashMap<Key, Vec<Event>>,
    until: u64,
}

impl Windows {
    /// Of a model's declaration, or of the one that a version was made with. `until` says for streams up to which event
    /// their history counts, where it is to be as it was once.
    pub fn open(project: &Project, spec: &ModelSpec, until: &BTreeMap<String, u64>) -> Result<Windows> {
        let open = |declared: &WindowFeatures| -> Result<Attached> {
            let stream = project.stream(&declared.stream)?;
            let knowledge = match declared.known {
                Known::Then => Knowledge::AsKnownThen,
                Known::Now => Knowledge::Complete,
            };
            let backfill = Backfill::new(stream, knowledge)?;
            let places = places(declared, backfill.features())?;
            let history = History::read(project, stream, until.get(&declared.stream).copied())?;
            let mut events: HashMap<Key, Vec<Event>> = HashMap::new();
            for Counted { mut event, .. } in history.events {
                if let Some(delay) = declared.delay {
                    event.known_at = Some(Timestamp(event.time.0.saturating_add(delay.0)));
                }
                events.entry(event.key.clone()).or_default().push(event);
            }
            let time = spec.time.clone().context("window features need the model's time column")?;
            Ok(Attached { declared: declared.clone(), time, backfill, places, events, until: history.until })
        };
        let named = |declared: &WindowFeatures| {
            open(declared)
                .with_context(|| format!("model \"{}\": features.windows of \"{}\"", spec.name, declared.stream))
        };
        Ok(Windows { streams: spec.features.windows.iter().map(named).collect::<Result<_>>()? })
    }

    /// The batch with the columns of window features behind its own. A row gets the same in any batch.
    pub fn attach(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut more = Vec::new();
        for attached in &self.streams {
            more.extend(attached.columns(batch)?);
        }
        if more.is_empty() { Ok(batch.clone()) } else { Ok(with_columns(batch, more)?) }
    }

    /// Of each stream, the newest event of the history that was read.
    pub fn until(&self) -> BTreeMap<String, u64> {
        self.streams.iter().map(|attached| (attached.declared.stream.clone(), attached.until)).collect()
    }
}

impl Attached {
    fn columns(&self, batch: &RecordBatch) -> Result<Vec<(String, ArrayRef)>> {
        let keys = keys_of(batch, &self.declared.key)?;
        let instants = instants_of(batch, &self.time)?;
        let nothing: Vec<Value> = self.backfill.of_counted(&mut [], &[Timestamp(0)]).pop().unwrap_or_default();
        let mut asked: BTreeMap<&Key, Vec<(usize, Timestamp)>> = BTreeMap::new();
        for (row, (key, at)) in keys.iter().zip(&instants).enumerate() {
            if let (Some(key), Some(at)) = (key, at) {
                asked.entry(key).or_default().push((row, *at));
            }
        }
        let mut rows = vec![nothing; batch.num_rows()];
        for (key, asked) in asked {
            let Some(events) = self.events.get(key) else { continue };
            let at: Vec<Timestamp> = asked.iter().map(|(_, at)| *at).collect();
            let found = self.backfill.of_counted(&mut events.iter().collect::<Vec<_>>(), &at);
            for ((row, _), values) in asked.into_iter().zip(found) {
                rows[row] = values;
            }
        }
        let taken = self.declared.types.iter().zip(&self.places);
        Ok(taken.map(|(one, place)| (self.declared.column(&one.name), column_of(one.kind, &rows, *place))).collect())
    }
}

/// What a stream knew when a row was answered, as the decision log has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    pub key: Vec<serde_json::Value>,
    /// How many events the stream had accepted.
    pub events: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Timestamp>,
    /// Why nothing was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
    pub values: BTreeMap<String, serde_json::Value>,
}

/// By stream.
pub type LookedUp = BTreeMap<String, Looked>;

/// What was logged with an answer; nothing where no stream was asked.
pub fn logged(windows: Option<&str>) -> Result<LookedUp> {
    windows.map_or_else(
        || Ok(LookedUp::new()),
        |text| serde_json::from_str(text).context("the decision log holds windows that are not understood"),
    )
}

/// The batch with window features as they were logged with its rows, one entry a row. Where nothing was logged, the
/// batch's own value stays, or there is none.
pub fn attach_logged(spec: &ModelSpec, batch: &RecordBatch, rows: &[LookedUp]) -> Result<RecordBatch> {
    let mut more = Vec::new();
    for declared in &spec.features.windows {
        for taken in &declared.types {
            let name = declared.column(&taken.name);
            let before = batch.column_by_name(&name).map(values_of);
            let value = |(row, looked): (usize, &LookedUp)| match looked.get(&declared.stream) {
                Some(looked) if looked.values.contains_key(&taken.name) => vec![value_of(&looked.values[&taken.name])],
                _ => vec![before.as_ref().and_then(|values| values.get(row).cloned()).unwrap_or_default()],
            };
            let values: Vec<Vec<Value>> = rows.iter().enumerate().map(value).collect();
            more.push((name, column_of(taken.kind, &values, 0)));
        }
    }
    if more.is_empty() { Ok(batch.clone()) } else { Ok(with_columns(batch, more)?) }
}

/// A logged value; the text of what is no number.
pub fn value_of(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Number(number) => number.as_f64().map_or(Value::Null, Value::number),
        serde_json::Value::String(text) => Value::Text(text.as_str().into()),
        _ => Value::Null,
    }
}

fn values_of(array: &ArrayRef) -> Vec<Value> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float64Type;
    if let Some(texts) = array.as_string_opt::<i32>() {
        return texts.iter().map(|text| text.map_or(Value::Null, |text| Value::Text(text.into()))).collect();
    }
    match array.as_primitive_opt::<Float64Type>() {
        Some(numbers) => numbers.iter().map(|number| number.map_or(Value::Null, Value::number)).collect(),
        None => vec![Value::Null; array.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{Live, Runner, Until};
    use arrow::array::{AsArray, Float64Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Float64Type;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    const STREAM: &str = r#"
name = "clicks"
time = "at"
key = ["shop"]
allowed_lateness = "2h"
[source]
kind = "files"
path = "events.jsonl"
[[column]]
name = "at"
type = "timestamp"
[[column]]
name = "shop"
type = "string"
[[window]]
name = "day"
kind = "sliding"
size = "1d"
[[window.aggregate]]
name = "events"
as = "count"
"#;

    /// One click at six, one at eight, and then one of seven o'clock that comes late.
    fn project(folder: &Path) -> Project {
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("homeostat.toml", "[project]\nname = \"t\"\n");
        put("streams/clicks.toml", STREAM);
        let columns = [("when", "timestamp"), ("shop", "string"), ("sold", "int")];
        let columns = columns.map(|(name, kind)| format!("[[column]]\nname = \"{name}\"\ntype = \"{kind}\"\n"));
        put("contracts/orders.toml", &format!("name = \"orders\"\n{}", columns.join("")));
        let events =
            ["06", "08", "07"].map(|hour| format!("{{\"at\": \"2024-01-01T{hour}:00:00Z\", \"shop\": \"a\"}}\n"));
        put("events.jsonl", &events.join(""));
        Project::load(folder).unwrap()
    }

    fn model(project: &Project, more: &str) -> ModelSpec {
        let text = format!(
            "name = \"m\"\ncontract = \"orders\"\ntask = \"binary\"\ntarget = \"sold\"\ntime = \"when\"\n[data]\n\
             file = \"x.csv\"\n[[features.windows]]\nstream = \"clicks\"\nkey = [\"shop\"]\n{more}\n"
        );
        toml::from_str::<ModelSpec>(&text).unwrap().with_streams(&project.streams)
    }

    fn counts(project: &Project, more: &str, until: &BTreeMap<String, u64>) -> Vec<Option<f64>> {
        let at = |minutes: i64| "2024-01-01T00:00:00Z".parse::<Timestamp>().unwrap().0 + minutes * 60_000_000;
        // Before anything, half past seven, eight, half past eight, the same of a shop that nobody clicked, and of none.
        let minutes = [5 * 60, 7 * 60 + 30, 8 * 60, 8 * 60 + 30, 8 * 60 + 30, 8 * 60 + 30];
        let shops = StringArray::from(vec![Some("a"), Some("a"), Some("a"), Some("a"), Some("b"), None]);
        let times = TimestampMicrosecondArray::from_iter_values(minutes.map(at)).with_timezone("UTC");
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("when", Arc::new(times) as ArrayRef, true),
            ("shop", Arc::new(shops), true),
        ]);
        let batch = Windows::open(project, &model(project, more), until).unwrap().attach(&batch.unwrap()).unwrap();
        batch.column_by_name("clicks.day_events").unwrap().as_primitive::<Float64Type>().iter().collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_came_late_counts_from_when_it_was_known() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        let all = BTreeMap::new();
        let said = Windows::open(&project, &model(&project, ""), &all).err().unwrap();
        assert!(format!("{said:#}").contains("has no history yet; run `homeostat stream run clicks"), "{said:#}");
        let live = Arc::new(Live::new(&project.streams["clicks"]).unwrap());
        let runtime = tokio::runtime::Handle::current();
        let mut runner = Runner::open(&project, &live, Until::End, &runtime, &Default::default()).unwrap();
        runner.run(&AtomicBool::new(false), &mut |_| {}).unwrap();

        let some = |values: [f64; 6]| values.map(Some).to_vec();
        // The click of seven o'clock came after that of eight: known from eight on. An event is not its own feature.
        assert_eq!(counts(&project, "", &all), some([0.0, 1.0, 2.0, 3.0, 0.0, 0.0]));
        assert_eq!(counts(&project, "known = \"now\"", &all), some([0.0, 2.0, 2.0, 3.0, 0.0, 0.0]));
        assert_eq!(counts(&project, "delay = \"90m\"", &all), some([0.0, 1.0, 1.0, 2.0, 0.0, 0.0]));
        let two = BTreeMap::from([("clicks".to_owned(), 2)]);
        assert_eq!(counts(&project, "", &two), some([0.0, 1.0, 1.0, 2.0, 0.0, 0.0]));
    }

    #[test]
    fn what_was_logged_comes_back_to_the_bit_and_what_was_not_stays() {
        let folder = tempfile::tempdir().unwrap();
        let spec = model(&project(folder.path()), "");
        let before = Arc::new(Float64Array::from(vec![7.0, 8.0])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("clicks.day_events", before)]).unwrap();
        let value = 0.1 + 0.2;
        let looked = Looked {
            key: vec![serde_json::json!("a")],
            events: 3,
            watermark: None,
            missed: None,
            values: [("day_events".to_owned(), serde_json::json!(value))].into(),
        };
        let text = serde_json::to_string(&LookedUp::from([("clicks".to_owned(), looked)])).unwrap();
        let rows = [logged(Some(&text)).unwrap(), logged(None).unwrap()];
        let batch = attach_logged(&spec, &batch, &rows).unwrap();
        assert_eq!(batch.column(0).as_primitive::<Float64Type>().values()[..], [value, 8.0]);
        assert!(logged(Some("{")).unwrap_err().to_string().contains("not understood"));
    }
}
