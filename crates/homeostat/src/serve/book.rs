//! How good the answers were: for each month and day of event time, the served answers beside those of the first
//! version, on the same rows.

use super::ledger::Entry;
use chrono_tz::Tz;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use vocabulary::answer::most_probable;
use vocabulary::{Answer, Metrics, Task, Timestamp};

#[derive(Default)]
struct Part {
    served: Vec<f64>,
    frozen: Vec<f64>,
    outcomes: Vec<f64>,
    /// Rows whose frozen answer is not known are in none of the lists.
    shown: Option<Value>,
}

#[derive(Default, Clone)]
struct Day {
    predictions: u64,
    rows: u64,
    served_loss: f64,
    frozen_loss: f64,
    outcome_sum: f64,
    prediction_sum: f64,
    latency: Vec<u64>,
}

pub struct Book {
    task: Task,
    threshold: f64,
    /// Days and months are those of this zone.
    zone: Tz,
    months: BTreeMap<String, Part>,
    days: BTreeMap<String, Day>,
    /// The whole, as it was last measured, and when.
    total: Option<(Instant, usize, Value)>,
}

/// Figures over everything are measured again this often at most, while outcomes arrive.
const TOTAL_EVERY: Duration = Duration::from_secs(3);

fn loss(task: Task, said: &Answer, outcome: f64) -> f64 {
    match task {
        Task::Binary => learning::log_loss(said.value(), outcome),
        Task::Regression => (said.value() - outcome) * (said.value() - outcome),
        Task::Multiclass => learning::class_loss(said.values(), outcome),
    }
}

/// What the answers say on average beside what came true: for several classes, how probable the most probable class was
/// said to be, and whether it came true.
fn said_and_true(said: &Answer, outcome: f64) -> (f64, f64) {
    match said {
        Answer::One(value) => (*value, outcome),
        Answer::Classes(probabilities) => {
            let label = said.value();
            (probabilities[label as usize], f64::from(label == outcome))
        }
    }
}

impl Book {
    pub fn new(task: Task, threshold: f64, zone: Tz) -> Self {
        Book { task, threshold, zone, months: BTreeMap::new(), days: BTreeMap::new(), total: None }
    }

    /// Calendar date in the book's zone, `YYYY-MM-DD`.
    fn date(&self, at: Timestamp) -> String {
        match chrono::DateTime::from_timestamp_micros(at.0) {
            Some(instant) => instant.with_timezone(&self.zone).format("%Y-%m-%d").to_string(),
            None => at.date(),
        }
    }

    /// A row that was answered.
    pub fn answered(&mut self, at: Timestamp) {
        self.days.entry(self.date(at)).or_default().predictions += 1;
    }

    /// A row whose outcome is known; `frozen` is the first version.
    pub fn known(&mut self, entry: &Entry, frozen: u32) {
        let (Some((_, outcome)), Some(first)) = (entry.outcome, entry.said(frozen)) else { return };
        let date = self.date(entry.at);
        let month = self.months.entry(date[..7].to_owned()).or_default();
        month.served.extend(entry.value.values());
        month.frozen.extend(first.values());
        month.outcomes.push(outcome);
        month.shown = None;
        let day = self.days.entry(date).or_default();
        day.rows += 1;
        day.served_loss += loss(self.task, &entry.value, outcome);
        day.frozen_loss += loss(self.task, first, outcome);
        let (said, came_true) = said_and_true(&entry.value, outcome);
        day.outcome_sum += came_true;
        day.prediction_sum += said;
    }

    /// Adds the latencies counted since the last call to the day of `at`.
    pub fn latency(&mut self, at: Timestamp, counts: &[u64]) {
        let day = self.days.entry(self.date(at)).or_default();
        if day.latency.is_empty() {
            day.latency = counts.to_vec();
        } else {
            day.latency.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// The share of served answers that were right so far: accuracy, or for a regression nothing.
    pub fn correct(&self) -> Option<(u64, u64)> {
        if self.task == Task::Regression {
            return None;
        }
        let parts = self.months.values();
        let right = |part: &Part| {
            let rows = part.served.chunks_exact(part.served.len() / part.outcomes.len().max(1)).zip(&part.outcomes);
            let hit = |row: &[f64], y: f64| match self.task {
                Task::Multiclass => most_probable(row) == y as usize,
                _ => (row[0] >= self.threshold) == (y >= 0.5),
            };
            rows.filter(|(row, y)| hit(row, **y)).count() as u64
        };
        Some(parts.fold((0, 0), |(correct, all), part| (correct + right(part), all + part.outcomes.len() as u64)))
    }

    fn metrics(&self, predicted: &[f64], outcomes: &[f64]) -> Value {
        let measured: Metrics = learning::evaluate(self.task, predicted, outcomes, self.threshold);
        json!(measured.values)
    }

    /// By month, both sides.
    pub fn months(&mut self) -> Vec<Value> {
        let names: Vec<String> = self.months.keys().cloned().collect();
        names.iter().map(|name| self.month(name)).collect()
    }

    fn month(&mut self, name: &str) -> Value {
        let part = &self.months[name];
        if let Some(shown) = &part.shown {
            return shown.clone();
        }
        let shown = json!({
            "month": name,
            "rows": part.outcomes.len(),
            "live": self.metrics(&part.served, &part.outcomes),
            "frozen": self.metrics(&part.frozen, &part.outcomes),
        });
        if let Some(part) = self.months.get_mut(name) {
            part.shown = Some(shown.clone());
        }
        shown
    }

    /// Over everything.
    pub fn total(&mut self) -> Value {
        let rows = self.months.values().map(|part| part.outcomes.len()).sum();
        if let Some((when, of, shown)) = &self.total
            && (*of == rows || when.elapsed() < TOTAL_EVERY)
        {
            return shown.clone();
        }
        let shown = if rows == 0 {
            json!({ "rows": 0, "live": {}, "frozen": {} })
        } else {
            let gather = |pick: fn(&Part) -> &Vec<f64>| -> Vec<f64> {
                self.months.values().flat_map(|part| pick(part).iter().copied()).collect()
            };
            let outcomes = gather(|part| &part.outcomes);
            json!({
                "rows": rows,
                "live": self.metrics(&gather(|part| &part.served), &outcomes),
                "frozen": self.metrics(&gather(|part| &part.frozen), &outcomes),
            })
        };
        self.total = Some((Instant::now(), rows, shown.clone()));
        shown
    }

    pub fn days(&self) -> Vec<Value> {
        let (live, frozen) = match self.task {
            Task::Binary | Task::Multiclass => ("live_logloss", "frozen_logloss"),
            Task::Regression => ("live_rmse", "frozen_rmse"),
        };
        let shown = |(name, day): (&String, &Day)| {
            let mean = |sum: f64| (day.rows > 0).then(|| sum / day.rows as f64);
            let loss = |sum: f64| mean(sum).map(|loss| if self.task == Task::Regression { loss.sqrt() } else { loss });
            json!({
                "day": name,
                "rows": day.rows,
                "predictions": day.predictions,
                live: loss(day.served_loss),
                frozen: loss(day.frozen_loss),
                "outcome_mean": mean(day.outcome_sum),
                "prediction_mean": mean(day.prediction_sum),
                "p99_ms": serving::histogram::quantile_ms(&day.latency, 0.99),
            })
        };
        self.days.iter().map(shown).collect()
    }
}
