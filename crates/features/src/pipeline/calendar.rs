//! Parts of an instant as rows of small tables, and as places on a circle.

use super::transform::part_of;
use chrono::DateTime;
use chrono_tz::Tz;
use vocabulary::model::TimePart;
use vocabulary::turns::sine_cosine;

/// The least value of a part, and how many values it has; none for the year, which has no end.
pub(super) fn range(part: TimePart) -> Option<(i32, u32)> {
    match part {
        TimePart::Hour => Some((0, 24)),
        TimePart::MinuteOfDay => Some((0, 1440)),
        TimePart::Weekday => Some((0, 7)),
        TimePart::HourOfWeek => Some((0, 168)),
        TimePart::Day => Some((1, 31)),
        TimePart::Month => Some((1, 12)),
        TimePart::DayOfYear => Some((1, 366)),
        TimePart::Year => None,
    }
}

/// Whether a part is also given as sine and cosine: where its last value stands beside its first, and neighbours are
/// alike. The hour of the week has both from its parts; day and month are coarser than the day of the year.
pub(super) fn comes_round(part: TimePart) -> bool {
    matches!(part, TimePart::Hour | TimePart::MinuteOfDay | TimePart::Weekday | TimePart::DayOfYear)
}

/// Rows of the part's table, that of null among them.
pub(super) fn table_rows(part: TimePart, years: &[i32]) -> u32 {
    1 + range(part).map_or(years.len() as u32, |(_, count)| count)
}

/// Sine and cosine of a missing instant, and of each value from the least; empty for a part that has none.
pub(super) fn circle(part: TimePart) -> Vec<[f32; 2]> {
    let circle = CalendarPart::new(part, &[]).circle;
    if circle.is_empty() { circle } else { [&[[0.0; 2]], circle.as_slice()].concat() }
}

/// Sine and cosine of each value of a part from the least; empty for the year.
pub(super) fn points(part: TimePart) -> Vec<[f32; 2]> {
    let Some((_, count)) = range(part) else { return Vec::new() };
    let point = |value: u32| {
        let (sine, cosine) = sine_cosine(f64::from(value) / f64::from(count));
        [sine as f32 + 0.0, cosine as f32 + 0.0]
    };
    (0..count).map(point).collect()
}

/// A part as a place on a circle, whatever the recipe.
#[derive(Clone, Debug)]
pub(super) struct Circle {
    part: TimePart,
    least: i32,
    points: Vec<[f32; 2]>,
    missing: [f32; 2],
}

impl Circle {
    /// `None` for the year.
    pub(super) fn new(part: TimePart, missing: f32) -> Option<Circle> {
        let (least, _) = range(part)?;
        Some(Circle { part, least, points: points(part), missing: [missing; 2] })
    }

    #[inline]
    pub(super) fn point(&self, local: Option<&DateTime<Tz>>) -> [f32; 2] {
        local.map_or(self.missing, |local| self.points[(part_of(local, self.part) - self.least) as usize])
    }
}

/// A part, ready to run.
#[derive(Clone, Debug)]
pub(super) struct CalendarPart {
    part: TimePart,
    rows: Rows,
    /// Sine and cosine of each value from the least; empty for a part that has none.
    circle: Vec<[f32; 2]>,
}

#[derive(Clone, Debug)]
enum Rows {
    /// Row 1 is the least value.
    From(i32),
    /// Row 1 is the first of these years. A year between or beyond them takes the last one before it, or else the
    /// first: the newest year known says more about the next than a row that was never learned.
    Years(Vec<i32>),
}

impl CalendarPart {
    pub(super) fn new(part: TimePart, years: &[i32]) -> CalendarPart {
        let Some((least, _)) = range(part) else {
            return CalendarPart { part, rows: Rows::Years(years.to_vec()), circle: Vec::new() };
        };
        let circle = if comes_round(part) { points(part) } else { Vec::new() };
        CalendarPart { part, rows: Rows::From(least), circle }
    }

    /// Writes the part's row and returns its sine and cosine where it has them; row 0 and the circle's middle for a
    /// missing instant.
    #[inline]
    pub(super) fn write(&self, local: Option<&DateTime<Tz>>, slot: &mut u32) -> Option<[f32; 2]> {
        let value = local.map(|local| part_of(local, self.part));
        *slot = value.map_or(0, |value| self.row(value));
        let missing = [0.0; 2];
        (!self.circle.is_empty()).then(|| if *slot == 0 { missing } else { self.circle[*slot as usize - 1] })
    }

    fn row(&self, value: i32) -> u32 {
        match &self.rows {
            Rows::From(least) => (value - least) as u32 + 1,
            Rows::Years(years) if years.is_empty() => 0,
            Rows::Years(years) => years.partition_point(|year| *year <= value).max(1) as u32,
        }
    }
}
