//! When each key was last seen, from the rows that are learned from.

use super::super::Recipe;
use super::super::means::with_key;
use super::super::recency::{Recency, last_seen};
use super::super::step::Step;
use super::Fitter;
use crate::FeatureError;
use crate::statistics::mean_and_deviation;
use std::collections::{BTreeMap, HashMap};
use vocabulary::model::RecencySpec;

/// What a key has seen.
struct Seen {
    number: u32,
    rows: u32,
    last: Option<i64>,
}

impl Fitter<'_> {
    pub(super) fn recency(&mut self, declared: RecencySpec) -> Result<Option<Step>, FeatureError> {
        let time = self.spec.time.clone().expect("the plan asks for a time");
        let times = self.view(&time)?;
        let views = self.views(&declared.columns)?;
        let places: Vec<usize> = (0..views.len()).collect();
        let rows: Vec<usize> = self.rows().collect();
        let (mut buffer, mut seen) = (String::new(), HashMap::<Box<str>, Seen>::new());
        let mut numbers: HashMap<usize, u32> = HashMap::new();
        for row in &rows {
            with_key(&views, &places, *row, &mut buffer, |key| {
                let number = seen.len() as u32;
                let known = seen.entry(key.into()).or_insert(Seen { number, rows: 0, last: None });
                known.rows += 1;
                known.last = known.last.max(times.micros(*row));
                numbers.insert(*row, known.number);
            });
        }
        seen.retain(|_, known| known.rows >= declared.min_rows && known.last.is_some());
        let name = declared.columns.join("*");
        if seen.is_empty() {
            self.note(format!("\"{name}\" has no key that was seen often enough; its recency is left out"));
            return Ok(None);
        }
        let kept: std::collections::HashSet<u32> = seen.values().map(|known| known.number).collect();
        let last: BTreeMap<String, i64> =
            seen.into_iter().filter_map(|(key, known)| Some((key.into(), known.last?))).collect();
        let (delay_us, most_us) = (declared.delay.0, declared.most.0);
        let mut step = Recency { columns: declared.columns, time, delay_us, most_us, last, standard: None };
        if self.recipe != Recipe::Trees {
            let before =
                last_seen(&rows, &times, delay_us, |row| numbers.get(&row).copied().filter(|key| kept.contains(key)));
            let figure = |row: &usize| {
                numbers.get(row)?;
                Some(step.figure(times.micros(*row)?, before.get(row).copied()))
            };
            let figures: Vec<f64> = rows.iter().filter_map(figure).collect();
            let usable = mean_and_deviation(figures.iter().copied()).filter(|(_, deviation)| *deviation > 0.0);
            let first = figures.first().copied().unwrap_or_default();
            step.standard = Some(usable.map_or([first, 1.0], |(mean, deviation)| [mean + 0.0, deviation]));
        }
        Ok(Some(Step::Recency(step)))
    }
}
