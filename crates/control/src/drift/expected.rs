//! What the reference expects of rows at some hour of the week, for all features of one scope side by side. Reference
//! counts become shares here once; nobody else reads them.

use std::sync::Arc;
use vocabulary::profile::{Bins, FeatureReference, HOURS_OF_WEEK};

/// Where each feature's bins lie in one long row of bins.
#[derive(Clone, Debug)]
pub struct Layout {
    pub begins: Vec<usize>,
    pub total: usize,
}

impl Layout {
    pub fn of(widths: impl Iterator<Item = usize>) -> Self {
        let mut begins = vec![0];
        let mut total = 0;
        for width in widths {
            total += width;
            begins.push(total);
        }
        Layout { begins, total }
    }

    pub fn features(&self) -> usize {
        self.begins.len() - 1
    }

    pub fn range(&self, feature: usize) -> std::ops::Range<usize> {
        self.begins[feature]..self.begins[feature + 1]
    }
}

/// Shares by stratum. A stratum is an hour of the week, or where the reference has too few rows there an hour of the day, or
/// all rows.
#[derive(Clone, Debug)]
pub struct Expected {
    pub layout: Arc<Layout>,
    /// The stratum that stands for each hour of the week.
    places: Vec<u16>,
    shares: Vec<f32>,
    /// Reference rows behind each stratum.
    pub rows: Vec<f64>,
    /// By stratum and feature: mean and variance of the rank.
    means: Vec<f32>,
    variances: Vec<f32>,
    /// The rank of each bin among all reference rows; that of missing values is in the middle.
    pub ranks: Vec<f32>,
    /// By feature: the farthest that a rank may be from its expectation.
    pub reach: Vec<f64>,
    pub numeric: Vec<bool>,
}

impl Expected {
    /// Strata with fewer than `least` rows are replaced by wider ones.
    pub fn new(features: &[FeatureReference], least: u64) -> Self {
        let layout = Layout::of(features.iter().map(|feature| feature.bins.len()));
        let stratified = features.iter().any(|feature| feature.stratified);
        let hours: Vec<u64> = (0..HOURS_OF_WEEK).map(|hour| features.first().map_or(0, |f| rows_in(f, hour))).collect();
        let (mut places, mut members) = (vec![0u16; HOURS_OF_WEEK], vec![(0..HOURS_OF_WEEK).collect::<Vec<_>>()]);
        if stratified {
            let mut days = [None; 24];
            for hour in 0..HOURS_OF_WEEK {
                let day: Vec<usize> = (hour % 24..HOURS_OF_WEEK).step_by(24).collect();
                let enough_a_day = day.iter().map(|hour| hours[*hour]).sum::<u64>() >= least;
                if hours[hour] >= least {
                    members.push(vec![hour]);
                    places[hour] = members.len() as u16 - 1;
                } else if enough_a_day {
                    places[hour] = *days[hour % 24].get_or_insert_with(|| {
                        members.push(day);
                        members.len() as u16 - 1
                    });
                }
            }
        }
        let ranks: Vec<f32> = features.iter().flat_map(ranks).collect();
        let numeric: Vec<bool> = features.iter().map(|f| matches!(f.bins, Bins::Numeric { .. })).collect();
        let (mut shares, mut rows, mut means, mut variances) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut reach = vec![0.5f64; features.len()];
        for hours in &members {
            for (place, feature) in features.iter().enumerate() {
                let (counts, total) = summed(feature, hours);
                let own: Vec<f64> = counts.iter().map(|count| count / total.max(1.0)).collect();
                let ranks = &ranks[layout.range(place)];
                let mean: f64 = own.iter().zip(ranks).map(|(share, rank)| share * f64::from(*rank)).sum();
                let off = |rank: f32| f64::from(rank) - mean;
                let variance: f64 = own.iter().zip(ranks).map(|(share, rank)| share * off(*rank) * off(*rank)).sum();
                reach[place] = reach[place].max(mean).max(1.0 - mean);
                means.push(mean as f32);
                variances.push(variance.max(1e-4) as f32);
                shares.extend(own.iter().map(|share| *share as f32));
            }
            rows.push(hours_rows(&hours_of(features, hours)));
        }
        Expected { layout: Arc::new(layout), places, shares, rows, means, variances, ranks, reach, numeric }
    }

    pub fn stratum(&self, hour_of_week: u16) -> u16 {
        self.places[usize::from(hour_of_week) % HOURS_OF_WEEK]
    }

    /// Shares of all bins in one stratum.
    pub fn shares(&self, stratum: u16) -> &[f32] {
        let begin = usize::from(stratum) * self.layout.total;
        &self.shares[begin..begin + self.layout.total]
    }

    pub fn variances(&self, stratum: u16) -> &[f32] {
        let (begin, count) = (usize::from(stratum) * self.layout.features(), self.layout.features());
        &self.variances[begin..begin + count]
    }

    /// Expected rank of a feature at some hour of the week.
    pub fn mean(&self, hour_of_week: u16, feature: usize) -> f64 {
        self.mean_of(self.stratum(hour_of_week), feature)
    }

    /// Expected rank of a feature in a stratum.
    pub fn mean_of(&self, stratum: u16, feature: usize) -> f64 {
        f64::from(self.means[usize::from(stratum) * self.layout.features() + feature])
    }

    /// How much a feature's expected rank varies over the hours of the week: its variance.
    pub fn season(&self, feature: usize) -> f64 {
        let means = || (0..HOURS_OF_WEEK as u16).map(|hour| self.mean(hour, feature));
        let mean = means().sum::<f64>() / HOURS_OF_WEEK as f64;
        means().map(|m| (m - mean) * (m - mean)).sum::<f64>() / HOURS_OF_WEEK as f64
    }
}

fn rows_in(feature: &FeatureReference, hour: usize) -> u64 {
    feature.counts.get(hour).map_or(0, |counts| counts.iter().map(|count| u64::from(*count)).sum())
}

fn summed(feature: &FeatureReference, hours: &[usize]) -> (Vec<f64>, f64) {
    let mut counts = vec![0.0; feature.bins.len()];
    for hour in hours {
        for (sum, count) in counts.iter_mut().zip(feature.counts.get(*hour).into_iter().flatten()) {
            *sum += f64::from(*count);
        }
    }
    let total = counts.iter().sum();
    (counts, total)
}

fn hours_of(features: &[FeatureReference], hours: &[usize]) -> Vec<u64> {
    hours.iter().map(|hour| features.first().map_or(0, |feature| rows_in(feature, *hour))).collect()
}

fn hours_rows(rows: &[u64]) -> f64 {
    (rows.iter().sum::<u64>() as f64).max(1.0)
}

/// The middle of each bin's share of all rows that have a value.
fn ranks(feature: &FeatureReference) -> Vec<f32> {
    let hours: Vec<usize> = (0..feature.counts.len()).collect();
    let (counts, total) = summed(feature, &hours);
    let valued = (total - counts[0]).max(1.0);
    let mut below = 0.0;
    let mut ranks = vec![0.5f32];
    for count in &counts[1..] {
        ranks.push(((below + 0.5 * count) / valued) as f32);
        below += count;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_hours_borrow_from_their_hour_of_the_day_and_thinner_ones_from_all() {
        let mut counts = vec![Vec::new(); HOURS_OF_WEEK];
        counts[10] = vec![0, 60, 40];
        counts[11] = vec![0, 4, 0];
        counts[35] = vec![0, 0, 6];
        let feature =
            FeatureReference { name: "x".into(), bins: Bins::Numeric { edges: vec![0.0] }, counts, stratified: true };
        let expected = Expected::new(&[feature], 10);
        let shares = |hour| expected.shares(expected.stratum(hour)).to_vec();
        assert_eq!(shares(10), [0.0, 0.6, 0.4]);
        assert_eq!(shares(11), [0.0, 0.4, 0.6]);
        assert_eq!(shares(35), shares(11));
        assert_eq!(expected.rows[usize::from(expected.stratum(12))], 110.0);
        assert!(expected.season(0) > 0.0 && expected.reach[0] >= 0.5);
    }
}
