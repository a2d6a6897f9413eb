//! The year as a sequence of events: flights that ask for a prediction, and landings.

use crate::project::Project;
use crate::training;
use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use vocabulary::{Span, Timestamp};

/// Outcomes of one request at most.
const OUTCOMES_A_REQUEST: usize = 500;

/// The events of one hour, in order. Numbers are rows of the timeline.
pub struct Hour {
    /// One group for each instant: flights that are asked about at the same time go in one request.
    pub predictions: Vec<Vec<u32>>,
    pub outcomes: Vec<Vec<(Timestamp, u32)>>,
}

pub struct Timeline {
    rows: RecordBatch,
    /// Columns of a request: all but the target and the time of the outcome.
    asked: RecordBatch,
    keys: Vec<String>,
    asked_at: Vec<Timestamp>,
    /// When each flight landed, in order, with its row.
    landings: Vec<(Timestamp, u32)>,
    target: Vec<f64>,
    begin: Timestamp,
    end: Timestamp,
}

impl Timeline {
    pub fn new(project: &Project, rows: RecordBatch, begin: Timestamp, until: Option<Timestamp>) -> Result<Timeline> {
        let spec = project.model(super::MODEL)?;
        let rows = training::sorted(&rows, spec)?;
        let column = |name: &Option<String>, role: &str| {
            let name = name.as_deref().with_context(|| format!("the model declares no {role}"))?;
            rows.column_by_name(name).with_context(|| format!("the data lacks {name}"))
        };
        let times = column(&spec.time, "time")?.as_primitive::<TimestampMicrosecondType>().clone();
        let known = column(&spec.outcome_at, "outcome_at")?.as_primitive::<TimestampMicrosecondType>().clone();
        let keys = column(&spec.key, "key")?.as_string::<i32>().clone();
        let first = times.values().partition_point(|us| Timestamp(*us) < begin);
        let last = times.values().partition_point(|us| until.is_none_or(|until| Timestamp(*us) < until));
        if first >= last {
            bail!("no flight is left to replay between {begin} and --until");
        }
        let rows = rows.slice(first, last - first);
        let target = features::target_values(spec, &rows)?;
        let kept: Vec<usize> = (0..rows.num_columns())
            .filter(|i| {
                let name = rows.schema_ref().field(*i).name().clone();
                name != spec.target && Some(&name) != spec.outcome_at.as_ref()
            })
            .collect();
        let asked = rows.project(&kept)?;
        let asked_at: Vec<Timestamp> = times.values()[first..last].iter().map(|us| Timestamp(*us)).collect();
        let mut landings: Vec<(Timestamp, u32)> = (0..rows.num_rows())
            .filter(|row| known.is_valid(first + row) && !target[*row].is_nan())
            .map(|row| (Timestamp(known.value(first + row)), row as u32))
            .collect();
        landings.sort_unstable();
        let last_event = landings.last().map(|(at, _)| *at).max(asked_at.last().copied()).unwrap_or(begin);
        let hours = (last_event - begin).0 / Span::hours(1).0 + 1;
        let keys = (first..last).map(|row| keys.value(row).to_owned()).collect();
        Ok(Timeline { rows, asked, keys, asked_at, landings, target, begin, end: begin + Span::hours(hours) })
    }

    pub fn begin(&self) -> Timestamp {
        self.begin
    }

    /// A whole hour after the last event.
    pub fn end(&self) -> Timestamp {
        self.end
    }

    pub fn flights(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn outcomes(&self) -> usize {
        self.landings.len()
    }

    pub fn flights_before(&self, at: Timestamp) -> usize {
        self.asked_at.partition_point(|asked| *asked < at)
    }

    /// What happens from `at` on for an hour.
    pub fn hour(&self, at: Timestamp) -> Hour {
        let next = at + Span::hours(1);
        let mut groups: BTreeMap<Timestamp, Vec<u32>> = BTreeMap::new();
        for row in self.flights_before(at)..self.flights_before(next) {
            groups.entry(self.asked_at[row]).or_default().push(row as u32);
        }
        let landed = |at: Timestamp| self.landings.partition_point(|(landed, _)| *landed < at);
        let landings = &self.landings[landed(at)..landed(next)];
        let outcomes = landings.chunks(OUTCOMES_A_REQUEST).map(<[_]>::to_vec).collect();
        Hour { predictions: groups.into_values().collect(), outcomes }
    }

    /// A request for predictions of these rows, and a name for it that a repetition shares.
    pub fn predict_body(&self, rows: &[u32]) -> Result<(Bytes, String)> {
        let listed: Vec<Map<String, Value>> =
            rows.iter().map(|row| features::row_to_json(&self.asked, *row as usize)).collect();
        let key = format!("quickstart/{}/{}", self.keys[rows[0] as usize], rows.len());
        Ok((super::bytes_of(&json!({ "rows": listed }))?, key))
    }

    /// A request that hands in these landings.
    pub fn outcome_body(&self, landings: &[(Timestamp, u32)]) -> Result<Bytes> {
        let listed: Vec<Value> = landings
            .iter()
            .map(|(at, row)| json!({ "key": self.keys[*row as usize], "value": self.target[*row as usize], "at": at }))
            .collect();
        super::bytes_of(&json!({ "outcomes": listed }))
    }
}
