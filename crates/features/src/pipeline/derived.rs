//! Columns that are computed from others of the same row before any step sees them: expressions, distances, and figures
//! of lists. Steps read them as they read the batch's own columns.

use crate::columns::Values;
use crate::expression::Expression;
use arrow::array::{ArrayRef, Float64Array, Int64Array};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use vocabulary::contract::ColumnKind;
use vocabulary::elementary::arcsine;
use vocabulary::model::ListForm;
use vocabulary::turns::{cosine, sine};

/// Kilometres: the mean radius of the earth (IUGG, 1980).
const EARTH_RADIUS: f64 = 6371.0088;

/// A column as it lands on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Derived {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: ColumnKind,
    pub(super) from: Derivation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Derivation {
    Expression(Expression),
    /// Latitude and longitude of one place, then of the other, in degrees.
    Distance([String; 4]),
    ListFigure {
        column: String,
        separator: String,
        gives: ListForm,
    },
}

impl Derived {
    /// The columns of the batch that it reads.
    pub(super) fn columns(&self) -> Vec<&str> {
        match &self.from {
            Derivation::Expression(expression) => expression.columns.iter().map(String::as_str).collect(),
            Derivation::Distance(columns) => columns.iter().map(String::as_str).collect(),
            Derivation::ListFigure { column, .. } => vec![column],
        }
    }

    /// For a person: what is computed.
    pub(super) fn meaning(&self) -> String {
        match &self.from {
            Derivation::Expression(expression) => expression.sql.clone(),
            Derivation::Distance([from_lat, from_lon, to_lat, to_lon]) => {
                format!("kilometres from ({from_lat}, {from_lon}) to ({to_lat}, {to_lon})")
            }
            Derivation::ListFigure { column, separator, gives } => {
                format!("{} of the list in {column}, separated by {separator:?}", gives.name())
            }
        }
    }

    /// Checks what was read from a file; `kinds` are the types of [`Derived::columns`].
    pub(super) fn check(&self, kinds: &[ColumnKind]) -> Result<(), String> {
        let (wanted, gives): (&[ColumnKind], ColumnKind) = match &self.from {
            Derivation::Expression(expression) => return expression.check(kinds, self.kind),
            Derivation::Distance(_) => (&[ColumnKind::Int, ColumnKind::Float], ColumnKind::Float),
            Derivation::ListFigure { gives: ListForm::Count, .. } => (&[ColumnKind::String], ColumnKind::Int),
            Derivation::ListFigure { gives: ListForm::Items, .. } => {
                return Err(format!("\"{}\" cannot be the items of a list; the file was changed", self.name));
            }
            Derivation::ListFigure { .. } => (&[ColumnKind::String], ColumnKind::Float),
        };
        match kinds.iter().all(|kind| wanted.contains(kind)) && self.kind == gives {
            true => Ok(()),
            false => Err(format!("the types of \"{}\" do not fit; the file was changed", self.name)),
        }
    }

    /// The value of each row; `columns` are those of [`Derived::columns`].
    pub(super) fn column(&self, columns: &[Values<'_>], rows: usize) -> ArrayRef {
        match &self.from {
            Derivation::Expression(expression) => expression.column(columns, rows, self.kind),
            Derivation::Distance(_) => {
                let at = |place: usize, row| columns[place].number(row);
                let row = |row| kilometres([at(0, row)?, at(1, row)?], [at(2, row)?, at(3, row)?]);
                Arc::new((0..rows).map(row).collect::<Float64Array>())
            }
            Derivation::ListFigure { separator, gives: ListForm::Count, .. } => {
                let count = |row| text(&columns[0], row).map(|text| items(text, separator).count() as i64);
                Arc::new((0..rows).map(count).collect::<Int64Array>())
            }
            Derivation::ListFigure { separator, gives, .. } => {
                let figure = |row| figure(items(text(&columns[0], row)?, separator), *gives);
                Arc::new((0..rows).map(figure).collect::<Float64Array>())
            }
        }
    }
}

pub(super) fn text<'a>(values: &Values<'a>, row: usize) -> Option<&'a str> {
    match values {
        Values::Text(array) if !values.is_null(row) => Some(array.value(row)),
        _ => None,
    }
}

/// What stands between separators, without white space around it; nothing is no item.
pub(super) fn items<'t>(text: &'t str, separator: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(separator).map(str::trim).filter(|item| !item.is_empty())
}

/// A figure of the items that are finite numbers; none where no item is. The sum runs in the order of the items.
fn figure<'t>(items: impl Iterator<Item = &'t str>, gives: ListForm) -> Option<f64> {
    let numbers = items.filter_map(|item| item.parse::<f64>().ok()).filter(|number| number.is_finite());
    let (mut count, mut sum, mut least, mut most) = (0u64, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    for number in numbers {
        count += 1;
        sum += number;
        least = if number < least { number } else { least };
        most = if number > most { number } else { most };
    }
    (count > 0).then(|| match gives {
        ListForm::Min => least + 0.0,
        ListForm::Max => most + 0.0,
        ListForm::Mean => (sum / count as f64).clamp(f64::MIN, f64::MAX) + 0.0,
        ListForm::Count | ListForm::Items => count as f64,
    })
}

/// The haversine formula, from latitudes and longitudes in degrees; none for what is no place.
fn kilometres(from: [f64; 2], to: [f64; 2]) -> Option<f64> {
    let is_place = |[latitude, longitude]: [f64; 2]| latitude.abs() <= 90.0 && longitude.abs() <= 360.0;
    if !(is_place(from) && is_place(to)) {
        return None;
    }
    // Half of a difference in degrees is a 720th of it in turns.
    let half = |place: usize| sine((to[place] - from[place]) / 720.0);
    let (north, east) = (half(0), half(1));
    let narrowing = cosine(from[0] / 360.0) * cosine(to[0] / 360.0);
    let square = (north * north + narrowing * (east * east)).min(1.0);
    Some(2.0 * EARTH_RADIUS * arcsine(square.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_sphere() {
        let near = |found: Option<f64>, known: f64| (found.unwrap() - known).abs() < 1e-6;
        assert_eq!(kilometres([10.0, 20.0], [10.0, 20.0]), Some(0.0));
        // A quarter of a meridian, and half of the equator.
        assert!(near(kilometres([0.0, 0.0], [90.0, 0.0]), EARTH_RADIUS * std::f64::consts::FRAC_PI_2));
        assert!(near(kilometres([0.0, -90.0], [0.0, 90.0]), EARTH_RADIUS * std::f64::consts::PI));
        // The same meridian written twice.
        assert!(kilometres([5.0, 180.0], [5.0, -180.0]).unwrap() < 1e-6);
        // JFK to LAX, as great-circle calculators have it.
        let long = kilometres([40.639_751, -73.778_925], [33.942_536, -118.408_075]).unwrap();
        assert!((long - 3974.3).abs() < 1.0, "{long}");
        assert_eq!(kilometres([91.0, 0.0], [0.0, 0.0]), None);
        assert_eq!(kilometres([f64::INFINITY, 0.0], [0.0, 0.0]), None);
    }

    #[test]
    fn lists_are_counted_and_their_numbers_measured() {
        let items_of = |text: &'static str| items(text, "|").collect::<Vec<_>>();
        assert_eq!(items_of(" red | green ||blue"), ["red", "green", "blue"]);
        assert_eq!(items_of(""), [""; 0]);
        let figures =
            [ListForm::Min, ListForm::Max, ListForm::Mean].map(|gives| figure(items("3, x, -1.5, inf", ","), gives));
        assert_eq!(figures, [Some(-1.5), Some(3.0), Some(0.75)]);
        assert_eq!(figure(items("a,b", ","), ListForm::Mean), None);
    }
}
