//! What becomes of declared statistics, circles and bags.

use super::super::Recipe;
use super::super::bag::Content;
use super::super::derived::text;
use super::super::means::{Gives, Known, Learned, Statistics, smoothed};
use super::super::plan::PlannedGives;
use super::super::step::Step;
use super::Fitter;
use super::categories::Tallied;
use crate::FeatureError;
use std::collections::BTreeMap;
use vocabulary::model::{TextScale, TimePart};

impl Fitter<'_> {
    pub(super) fn statistics(
        &mut self,
        columns: Vec<String>,
        gives: PlannedGives,
        min_rows: u32,
    ) -> Result<Option<Step>, FeatureError> {
        let classes = self.classes();
        let learned = match gives {
            PlannedGives::Target { .. } => Learned::of(classes.as_deref()),
            PlannedGives::Counts(_) => Learned::Nothing,
        };
        let Tallied { priors, tallies, kept } = self.tallied(&columns, &learned, u64::from(min_rows.max(1)))?;
        if kept.is_empty() {
            return Ok(None);
        }
        let smoothing = if let PlannedGives::Target { smoothing } = gives { smoothing } else { 0.0 };
        let mean = |sum: f64, targets: f64, prior: f64| match targets + smoothing > 0.0 {
            true => smoothed(sum, targets, prior, smoothing),
            false => prior,
        };
        let known = |key: String| {
            let tally = &tallies[&key];
            let means =
                tally.sums.iter().zip(&priors).map(|(sum, prior)| mean(*sum, tally.targets, *prior) as f32 + 0.0);
            let known = Known { rows: tally.rows, means: means.collect() };
            (key, known)
        };
        let entries: BTreeMap<String, Known> = kept.into_iter().map(known).collect();
        let gives = match gives {
            PlannedGives::Target { smoothing } => {
                Gives::Means { classes: classes.unwrap_or_default(), priors, smoothing }
            }
            PlannedGives::Counts(forms) => Gives::Counts(forms),
        };
        let rows = self.data.rows.len() as u64;
        let mut statistics = Statistics { columns, gives, rows, entries, standard: None };
        if self.recipe != Recipe::Trees {
            statistics.standard = Some(standard(&statistics));
        }
        Ok(Some(Step::Statistics(statistics)))
    }

    pub(super) fn cyclic(
        &mut self,
        column: String,
        zone: String,
        parts: Vec<TimePart>,
    ) -> Result<Option<Step>, FeatureError> {
        let values = self.view(&column)?;
        if self.rows().all(|row| values.micros(row).is_none()) {
            self.note(format!("\"{column}\" has no value in the rows to learn from; its circles say nothing yet"));
        }
        Ok(Some(Step::Cyclic { column, zone, parts }))
    }

    pub(super) fn bag(
        &mut self,
        column: String,
        content: Content,
        scale: TextScale,
        slots: u32,
    ) -> Result<Option<Step>, FeatureError> {
        let values = self.view(&column)?;
        if self.rows().all(|row| text(&values, row).is_none()) {
            self.note(format!("\"{column}\" has no value in the rows to learn from; it is left out"));
            return Ok(None);
        }
        Ok(Some(Step::Bag { column, content, scale, slots }))
    }
}

/// Mean and deviation of each output over the rows of known keys, in the keys' order.
fn standard(statistics: &Statistics) -> Vec<[f64; 2]> {
    let rows: f64 = statistics.entries.values().map(|known| known.rows as f64).sum();
    let figures: Vec<(f64, Vec<f32>)> =
        statistics.entries.values().map(|known| (known.rows as f64, statistics.figures(Some(known)))).collect();
    let of = |place: usize| {
        let sum: f64 = figures.iter().map(|(rows, figures)| rows * f64::from(figures[place])).sum();
        let mean = sum / rows;
        let off = |(rows, figures): &(f64, Vec<f32>)| {
            let off = f64::from(figures[place]) - mean;
            rows * (off * off)
        };
        let deviation = (figures.iter().map(off).sum::<f64>() / rows).sqrt();
        let usable = mean.is_finite() && deviation.is_finite() && deviation > 0.0;
        if usable { [mean + 0.0, deviation] } else { [f64::from(figures[0].1[place]), 1.0] }
    };
    (0..statistics.width()).map(of).collect()
}
