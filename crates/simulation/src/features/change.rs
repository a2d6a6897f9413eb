//! What may happen to the rows of a world.

use vocabulary::CauseKind;

/// From its hour on, for all rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Values of a number move by so many standard deviations.
    Shift { feature: usize, sigma: f64 },
    /// As [`Change::Shift`], in one segment.
    SegmentShift { feature: usize, segment: usize, sigma: f64 },
    /// Another unit: `factor * value + offset`.
    Unit { feature: usize, factor: f64, offset: f64 },
    /// This share of the values goes missing.
    Nulls { feature: usize, share: f64 },
    /// This share of the rows has a category that nobody has seen.
    NewCategory { feature: usize, share: f64 },
    /// Two columns exchange places.
    Swap { one: usize, other: usize },
    /// A sensor repeats its last value.
    Frozen { feature: usize },
    /// Rows that happen at one hour are stamped with an earlier one.
    TimeZone { hours: i32 },
}

impl Change {
    /// Whether a cause names this change.
    pub fn is_named_by(&self, cause: &CauseKind, feature: Option<&str>) -> bool {
        let about = |wanted: &usize| feature == Some(crate::features::world::feature_name(*wanted).as_str());
        match (self, cause) {
            (Change::Shift { feature, .. } | Change::SegmentShift { feature, .. }, CauseKind::Shifted) => {
                about(feature)
            }
            (Change::Unit { feature, factor, offset }, CauseKind::UnitChange { factor: f, offset: o, .. }) => {
                about(feature) && (f / factor - 1.0).abs() < 0.05 && (o - offset).abs() < 0.05 * (1.0 + offset.abs())
            }
            (Change::Nulls { feature, .. }, CauseKind::NullFlood) => about(feature),
            (Change::NewCategory { feature, .. }, CauseKind::UnseenValues { values }) => {
                about(feature) && values.iter().any(|value| value == super::UNSEEN)
            }
            (Change::Swap { one, other }, CauseKind::Swapped { with }) => {
                let name = |place: &usize| crate::features::world::feature_name(*place);
                (about(one) && *with == name(other)) || (about(other) && *with == name(one))
            }
            (Change::Frozen { feature }, CauseKind::Frozen { .. }) => about(feature),
            (Change::TimeZone { hours }, CauseKind::TimeZone { hours: found }) => hours == found,
            _ => false,
        }
    }
}
