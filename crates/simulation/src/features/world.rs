//! A world's rows, and the reference that a model would have brought along.

use super::change::Change;
use super::kinds::{CATEGORIES, Kind, UNSEEN};
use crate::random::Random;
use control::RowView;
use vocabulary::dependence::DependenceCounter;
use vocabulary::profile::{
    Bins, FeatureReference, HOURS_OF_WEEK, REFERENCE_FORMAT, Reference, ReferenceDetail, SegmentReference,
};
use vocabulary::{Span, Timestamp};

/// Rows that the bins are made from.
const BIN_ROWS: usize = 4000;
const BINS: usize = 32;
/// A segment's bins are so many of the fine ones.
const COARSE: usize = 4;
/// Standard deviations of the strongest season.
const SEASON_MAX: f64 = 1.5;

#[derive(Clone, Debug)]
pub struct WorldOptions {
    pub seed: u64,
    pub features: usize,
    pub segments: usize,
    /// On average; by night half of it.
    pub rows_an_hour: usize,
    pub reference_weeks: i64,
    /// In every tenth feature, the share of the variance that rows of one hour, and of one day, have in common.
    pub shared: f64,
}

impl Default for WorldOptions {
    fn default() -> Self {
        WorldOptions { seed: 0, features: 50, segments: 20, rows_an_hour: 40, reference_weeks: 12, shared: 0.1 }
    }
}

/// Features, their seasons and their segments.
#[derive(Clone, Debug)]
pub struct World {
    options: WorldOptions,
    kinds: Vec<Kind>,
    /// By feature and hour of the week, in standard deviations.
    seasons: Vec<Vec<f64>>,
    /// By feature and segment.
    segments: Vec<Vec<f64>>,
}

pub(super) fn feature_name(place: usize) -> String {
    format!("x{place:02}")
}

/// Where the live time begins: after the reference's weeks, on a Monday.
const BEGIN: i64 = 24 * 4 + 168 * 200;

impl World {
    pub fn new(options: WorldOptions) -> Self {
        let mut random = Random::new(options.seed, 1);
        let kinds: Vec<Kind> = (0..options.features).map(Kind::at).collect();
        let seasons = (0..options.features).map(|place| season(place, &mut random)).collect();
        let own = |place: usize, random: &mut Random| if place % 3 == 2 { 0.5 * random.normal() } else { 0.0 };
        let segments = (0..options.features)
            .map(|place| (0..options.segments).map(|_| own(place, &mut random)).collect())
            .collect();
        World { options, kinds, seasons, segments }
    }

    /// Rows of the reference's weeks, counted; with segments, and with how much rows resemble each other.
    pub fn reference(&self) -> Reference {
        let mut rows = Rows::new(self, 2);
        let bins = self.bins(&mut rows);
        let features = self.kinds.len();
        let coarse: Vec<Bins> = bins.iter().map(coarser).collect();
        let empty = |bins: &[Bins]| -> Vec<Vec<Vec<u32>>> {
            bins.iter().map(|bins| vec![vec![0; bins.len()]; HOURS_OF_WEEK]).collect()
        };
        let mut counts = empty(&bins);
        let mut by_segment: Vec<_> = (0..self.options.segments).map(|_| empty(&coarse)).collect();
        let mut alike = vec![DependenceCounter::default(); features];
        let mut all = 0;
        let begin = BEGIN - 168 * self.options.reference_weeks;
        for hour in begin..BEGIN {
            let at = Timestamp(hour * Span::hours(1).0);
            let week = usize::from(at.hour_of_week());
            for _ in 0..rows.count(hour) {
                rows.draw(hour);
                all += 1;
                let segment = &mut by_segment[rows.segment];
                for feature in 0..features {
                    let place = rows.bin(feature, &bins[feature]);
                    counts[feature][week][usize::from(place)] += 1;
                    segment[feature][week][usize::from(rows.bin(feature, &coarse[feature]))] += 1;
                    alike[feature].push(at, f64::from(place) / bins[feature].len() as f64);
                }
            }
        }
        let named = |bins: Vec<Bins>, counts: Vec<Vec<Vec<u32>>>| -> Vec<FeatureReference> {
            let both = bins.into_iter().zip(counts).enumerate();
            both.map(|(place, (bins, counts))| FeatureReference {
                name: feature_name(place),
                bins,
                counts,
                stratified: true,
            })
            .collect()
        };
        let segments = by_segment.into_iter().enumerate().map(|(place, counts)| SegmentReference {
            name: format!("segment={place}"),
            features: named(coarse.clone(), counts),
        });
        let detail = ReferenceDetail {
            segments: segments.collect(),
            hours: alike[0].strata_hours(),
            dependence: alike.iter_mut().map(DependenceCounter::estimate).collect(),
            loss: None,
        };
        let features = named(bins, counts);
        Reference { format: REFERENCE_FORMAT, rows: all, features, loss: None, detail: Some(detail) }
    }

    fn bins(&self, rows: &mut Rows<'_>) -> Vec<Bins> {
        let mut seen: Vec<Vec<f64>> = vec![Vec::new(); self.kinds.len()];
        for row in 0..BIN_ROWS {
            rows.draw(BEGIN - 168 * 20 + row as i64 * 5 % 168);
            for (values, number) in seen.iter_mut().zip(&rows.numbers) {
                if !number.is_nan() {
                    values.push(*number);
                }
            }
        }
        let bins = |(kind, mut values): (&Kind, Vec<f64>)| {
            if kind.is_category() {
                return Bins::Categories { values: CATEGORIES.iter().map(|name| (*name).to_owned()).collect() };
            }
            values.sort_unstable_by(f64::total_cmp);
            let mut edges: Vec<f64> = (1..BINS).map(|edge| values[edge * values.len() / BINS]).collect();
            edges.dedup();
            Bins::Numeric { edges }
        };
        self.kinds.iter().zip(seen).map(bins).collect()
    }

    /// Live rows, with a change from `hour` on, counted from the first live one.
    pub fn live<'a>(&'a self, reference: &'a Reference, change: Option<(Change, i64)>) -> Live<'a> {
        Live { rows: Rows::new(self, 3), reference, change, hour: 0, stuck: None, bins: vec![0; self.kinds.len()] }
    }

    /// The start of live hour `hour`.
    pub fn at(hour: i64) -> Timestamp {
        Timestamp((BEGIN + hour) * Span::hours(1).0)
    }
}

/// Seasons as they are and as they should not be: none, the day's wave, a night that is another world, one afternoon of
/// the week, and week-ends.
fn season(place: usize, random: &mut Random) -> Vec<f64> {
    let (size, phase) = (0.3 + (SEASON_MAX - 0.3) * random.unit(), random.below(24));
    let of_hour = |hour: usize| {
        let (day, clock) = (hour / 24, (hour + phase) % 24);
        let wave = (clock as f64 / 24.0 * std::f64::consts::TAU).sin();
        match place % 6 {
            0 => 0.0,
            1 | 2 => size * wave,
            3 if clock < 9 => -size,
            3 => 0.2 * size,
            4 if day == phase % 7 && clock > 18 => 2.0 * size,
            5 if day >= 5 => size,
            _ => 0.0,
        }
    };
    (0..HOURS_OF_WEEK).map(of_hour).collect()
}

fn coarser(fine: &Bins) -> Bins {
    match fine {
        Bins::Numeric { edges } => {
            Bins::Numeric { edges: edges.iter().skip(COARSE - 1).step_by(COARSE).copied().collect() }
        }
        Bins::Categories { values } => Bins::Categories { values: values[..values.len() / 2].to_vec() },
    }
}

/// One row after the other.
#[derive(Clone, Debug)]
struct Rows<'a> {
    world: &'a World,
    random: Random,
    /// What rows of this hour and of this day have in common, by feature.
    common: (i64, Vec<f64>, i64, Vec<f64>),
    segment: usize,
    numbers: Vec<f64>,
    /// Place among [`CATEGORIES`]; their number for one that is not among them; none for missing.
    categories: Vec<Option<usize>>,
}

impl<'a> Rows<'a> {
    fn new(world: &'a World, purpose: u64) -> Self {
        let count = world.kinds.len();
        Rows {
            world,
            random: Random::new(world.options.seed, purpose),
            common: (i64::MIN, vec![0.0; count], i64::MIN, vec![0.0; count]),
            segment: 0,
            numbers: vec![f64::NAN; count],
            categories: vec![None; count],
        }
    }

    /// Rows of an hour: by night half as many as by day.
    fn count(&mut self, hour: i64) -> usize {
        let mean = self.world.options.rows_an_hour as f64 * if hour.rem_euclid(24) < 8 { 0.6 } else { 1.2 };
        (mean + mean.sqrt() * self.random.normal()).round().max(1.0) as usize
    }

    fn draw(&mut self, hour: i64) {
        self.draw_at(hour, hour);
    }

    /// Draws a row whose features are those of `pattern`'s hour of the week.
    fn draw_at(&mut self, hour: i64, pattern: i64) {
        self.share(hour);
        let week = usize::from(Timestamp(pattern * Span::hours(1).0).hour_of_week());
        let options = &self.world.options;
        // By night, other segments are awake.
        let (u, night) = (self.random.unit(), hour.rem_euclid(24) < 8);
        let lean = if night { u * u } else { u };
        self.segment = ((lean * options.segments as f64) as usize).min(options.segments.saturating_sub(1));
        for feature in 0..self.world.kinds.len() {
            let kind = &self.world.kinds[feature];
            let missing = feature % 5 == 1 && self.random.chance(0.02);
            let season = self.world.seasons[feature][week];
            if kind.is_category() {
                let drawn = Kind::category(&mut self.random, season);
                self.categories[feature] = (!missing).then_some(drawn);
                continue;
            }
            let of_segment = self.world.segments[feature].get(self.segment).copied().unwrap_or_default();
            let (mut own, mut common) = (1.0, 0.0);
            if feature % 10 == 9 {
                let share = options.shared;
                own = (1.0 - 2.0 * share).max(0.0).sqrt();
                common = share.sqrt() * (self.common.1[feature] + self.common.3[feature]);
            }
            let z = own * self.random.normal() + common + season + of_segment;
            self.numbers[feature] = if missing { f64::NAN } else { kind.number(z) };
        }
    }

    /// Draws what a new hour or day has in common.
    fn share(&mut self, hour: i64) {
        if self.world.options.shared == 0.0 {
            return;
        }
        let day = hour.div_euclid(24);
        let fresh = [(self.common.0 != hour), (self.common.2 != day)];
        (self.common.0, self.common.2) = (hour, day);
        for (fresh, common) in fresh.into_iter().zip([&mut self.common.1, &mut self.common.3]) {
            if fresh {
                common.iter_mut().skip(9).step_by(10).for_each(|common| *common = self.random.normal());
            }
        }
    }

    fn bin(&self, feature: usize, bins: &Bins) -> u16 {
        match (self.categories[feature], bins) {
            (Some(place), Bins::Categories { values }) => 1 + place.min(values.len()) as u16,
            (_, Bins::Numeric { .. }) => bins.number(Some(self.numbers[feature])),
            _ => 0,
        }
    }
}

/// Rows of the live time, hour by hour.
#[derive(Debug)]
pub struct Live<'a> {
    rows: Rows<'a>,
    reference: &'a Reference,
    change: Option<(Change, i64)>,
    hour: i64,
    stuck: Option<f64>,
    bins: Vec<u16>,
}

impl Live<'_> {
    /// Hands out the rows of the next hour; returns how many there were.
    pub fn hour(&mut self, mut row: impl FnMut(&RowView<'_>)) -> usize {
        let (hour, at) = (BEGIN + self.hour, World::at(self.hour));
        let change = self.change.clone().filter(|(_, from)| self.hour >= *from).map(|(change, _)| change);
        let pattern = match change {
            Some(Change::TimeZone { hours }) => hour + i64::from(hours),
            _ => hour,
        };
        let count = self.rows.count(hour);
        let width = self.bins.len();
        for _ in 0..count {
            self.rows.draw_at(hour, pattern);
            if let Some(change) = &change {
                self.befall(change);
            }
            for (feature, reference) in self.reference.features.iter().enumerate() {
                self.bins[feature] = self.rows.bin(feature, &reference.bins);
            }
            let mut unseen = Vec::new();
            for feature in 0..width {
                if self.rows.categories[feature] == Some(CATEGORIES.len()) {
                    unseen.push((feature as u16, UNSEEN));
                }
            }
            let segments = [self.rows.segment as u16];
            row(&RowView { at, bins: &self.bins, numbers: &self.rows.numbers, unseen: &unseen, segments: &segments });
        }
        self.hour += 1;
        count
    }

    fn befall(&mut self, change: &Change) {
        let rows = &mut self.rows;
        match change {
            Change::Shift { feature, sigma } => shift(rows, *feature, *sigma),
            Change::SegmentShift { feature, segment, sigma } if rows.segment == *segment => {
                shift(rows, *feature, *sigma)
            }
            Change::Unit { feature, factor, offset } => {
                rows.numbers[*feature] = factor * rows.numbers[*feature] + offset
            }
            Change::Nulls { feature, share } => {
                if rows.random.chance(*share) {
                    (rows.numbers[*feature], rows.categories[*feature]) = (f64::NAN, None);
                }
            }
            Change::NewCategory { feature, share } => {
                if rows.random.chance(*share) {
                    rows.categories[*feature] = Some(CATEGORIES.len());
                }
            }
            Change::Swap { one, other } => rows.numbers.swap(*one, *other),
            Change::Frozen { feature } => {
                let value = *self.stuck.get_or_insert(rows.numbers[*feature]);
                rows.numbers[*feature] = value;
            }
            Change::SegmentShift { .. } | Change::TimeZone { .. } => {}
        }
    }
}

/// Moves a number by `sigma` of its own standard deviation within the hour.
fn shift(rows: &mut Rows<'_>, feature: usize, sigma: f64) {
    if let Kind::Normal { deviation, .. } = rows.world.kinds[feature] {
        rows.numbers[feature] += sigma * deviation;
    }
}
