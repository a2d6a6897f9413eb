//! `check --parity --online`: what streams knew of logged rows, computed again from the streams' histories as they were
//! when the answer was given, and beside what was logged. Each difference is named.

use crate::output;
use crate::project::Project;
use crate::streams::History;
use crate::windows::{self, Looked, value_of};
use anyhow::Result;
use features::windows::{Backfill, Event, Key, Knowledge, Value, key_from_json};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use storage::parquet_log::Columns;
use vocabulary::contract::ColumnKind;
use vocabulary::stream::StreamSpec;
use vocabulary::{ModelSpec, PredictionId, Timestamp};

/// Differences that are listed; all are counted.
const LISTED_MAX: usize = 100;

/// What was found of one model.
#[derive(Default, Serialize)]
pub struct Online {
    /// Look-ups that were computed again, one for each row and stream.
    lookups: u64,
    /// Values compared.
    values: u64,
    differences: u64,
    /// Look-ups that found nothing then (too old, stream not ready): there is nothing to compare.
    missed: u64,
    /// Look-ups of events that the history lacks: not committed yet, let go, or from before there was one.
    out_of_history: u64,
    first: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    id: PredictionId,
    feature: String,
    logged: serde_json::Value,
    recomputed: serde_json::Value,
}

/// A logged look-up.
struct Asked {
    id: PredictionId,
    at: Timestamp,
    looked: Looked,
}

pub fn run(project: &Project, models: &[&ModelSpec], json: bool) -> Result<bool> {
    let mut found: BTreeMap<&str, Online> = BTreeMap::new();
    for spec in models {
        found.insert(&spec.name, model(project, &spec.name)?);
    }
    let ok = found.values().all(|online| online.differences == 0);
    let shown = serde_json::json!({ "ok": ok, "online": found });
    output::show(json, &shown, || {
        let mut text = String::new();
        for (name, online) in &found {
            text.push_str(&said(name, online));
        }
        text + if ok { "all is well" } else { "not all is well" }
    })?;
    Ok(ok)
}

fn said(name: &str, online: &Online) -> String {
    let Online { lookups, values, differences, missed, out_of_history, first } = online;
    let mut text = format!(
        "{name}: {lookups} look-ups with {values} values computed again, {differences} differ; {missed} had found \
         nothing, {out_of_history} are outside the history\n"
    );
    for difference in first {
        let Difference { id, feature, logged, recomputed } = difference;
        text.push_str(&format!("  {id}: {feature} was logged as {logged}, the history gives {recomputed}\n"));
    }
    text
}

fn model(project: &Project, name: &str) -> Result<Online> {
    let mut by_stream: BTreeMap<String, Vec<Asked>> = BTreeMap::new();
    for prediction in storage::log::read(&project.log_path(), name, Columns::All)?.predictions {
        for (stream, looked) in windows::logged(prediction.windows.as_deref())? {
            by_stream.entry(stream).or_default().push(Asked { id: prediction.id, at: prediction.at, looked });
        }
    }
    let mut online = Online::default();
    for (name, asked) in by_stream {
        let stream = project.stream(&name)?;
        let history = History::read(project, stream, None)?;
        let again = Again::new(stream, &history)?;
        asked.iter().for_each(|asked| again.compare(asked, &mut online));
    }
    Ok(online)
}

/// A history, ready to be asked again.
struct Again<'a> {
    name: &'a str,
    kinds: Vec<ColumnKind>,
    backfill: Backfill,
    events: HashMap<&'a Key, Vec<(u64, &'a Event)>>,
    history: &'a History,
    /// The first event's time that is certainly complete.
    complete_from: Timestamp,
}

impl<'a> Again<'a> {
    fn new(stream: &'a StreamSpec, history: &'a History) -> Result<Again<'a>> {
        let mut events: HashMap<&Key, Vec<(u64, &Event)>> = HashMap::new();
        for counted in &history.events {
            events.entry(&counted.event.key).or_default().push((counted.number, &counted.event));
        }
        let reach = stream.windows.iter().map(|window| window.size.or(window.gap).unwrap_or_default().0);
        let oldest = history.events.iter().map(|counted| counted.event.time).min().unwrap_or(Timestamp::MIN);
        let reach = reach.max().unwrap_or(0);
        let late = stream.out_of_order.0.saturating_add(stream.allowed_lateness.0);
        let complete_from = match history.is_cut {
            // Twice the longest window: its tiles and slides may reach further back than its size.
            true => Timestamp(oldest.0.saturating_add(reach.saturating_mul(2)).saturating_add(late)),
            false => Timestamp::MIN,
        };
        Ok(Again {
            name: &stream.name,
            kinds: stream.key.iter().map(|name| stream.column(name).unwrap_or(ColumnKind::String)).collect(),
            // What the engine had accepted when it was asked counts, however late it came.
            backfill: Backfill::new(stream, Knowledge::Complete)?,
            events,
            history,
            complete_from,
        })
    }

    fn compare(&self, asked: &Asked, online: &mut Online) {
        let looked = &asked.looked;
        if looked.missed.is_some() {
            online.missed += 1;
            return;
        }
        if looked.events > self.history.until || asked.at < self.complete_from {
            online.out_of_history += 1;
            return;
        }
        let key = key_from_json(&self.kinds, &looked.key);
        let of_key = key.as_ref().and_then(|key| self.events.get(key)).map(Vec::as_slice).unwrap_or_default();
        let mut then: Vec<&Event> =
            of_key.iter().take_while(|(number, _)| *number <= looked.events).map(|(_, event)| *event).collect();
        let again = self.backfill.of_counted(&mut then, &[asked.at]).pop().unwrap_or_default();
        online.lookups += 1;
        for (feature, value) in self.backfill.features().iter().zip(&again) {
            let Some(logged) = looked.values.get(&feature.name) else { continue };
            online.values += 1;
            if !value.same(&value_of(logged)) {
                online.differences += 1;
                if online.first.len() < LISTED_MAX {
                    online.first.push(self.difference(asked, &feature.name, value));
                }
            }
        }
    }

    fn difference(&self, asked: &Asked, feature: &str, again: &Value) -> Difference {
        Difference {
            id: asked.id,
            feature: format!("{}.{feature}", self.name),
            logged: asked.looked.values.get(feature).cloned().unwrap_or_default(),
            recomputed: again.to_json(),
        }
    }
}
