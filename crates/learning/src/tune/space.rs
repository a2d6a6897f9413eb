//! What is searched: parameters with their domains, and points of the space they span. Knows nothing of models.

use inference::elementary::{exp, ln};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Figures that a real parameter is rounded to, so that a point reads well in a declaration.
const FIGURES: usize = 4;

/// A parameter's values, in order or without one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    Real { low: f64, high: f64, scale: Scale },
    Integer { low: i64, high: i64, scale: Scale },
    Choice { values: Vec<Value> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal differences count alike.
    Linear,
    /// Equal ratios count alike.
    Log,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub domain: Domain,
    /// The parameter exists only where an earlier choice has this value.
    pub when: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Place of the earlier parameter, a choice.
    pub parameter: usize,
    /// Place among its values.
    pub value: usize,
}

/// The parameters; a condition names an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Space {
    pub parameters: Vec<Parameter>,
}

/// For each parameter its value, or the place among a choice's values; none where the parameter does not exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Point(pub Vec<Option<f64>>);

impl Parameter {
    pub fn always(name: &str, domain: Domain) -> Parameter {
        Parameter { name: name.to_owned(), domain, when: None }
    }

    pub fn exists(&self, earlier: &[Option<f64>]) -> bool {
        self.when.as_ref().is_none_or(|when| earlier[when.parameter] == Some(when.value as f64))
    }
}

impl Domain {
    pub fn real(low: f64, high: f64) -> Domain {
        Domain::Real { low, high, scale: Scale::Linear }
    }

    pub fn log_real(low: f64, high: f64) -> Domain {
        Domain::Real { low, high, scale: Scale::Log }
    }

    pub fn integer(low: i64, high: i64) -> Domain {
        Domain::Integer { low, high, scale: Scale::Linear }
    }

    pub fn log_integer(low: i64, high: i64) -> Domain {
        Domain::Integer { low, high, scale: Scale::Log }
    }

    /// Number of values of a choice; none for what has an order.
    pub fn choices(&self) -> Option<usize> {
        match self {
            Domain::Choice { values } => Some(values.len()),
            _ => None,
        }
    }

    /// The ends between which coordinates run; half a step beyond an integer's range, so that each value has the same
    /// room.
    fn ends(&self) -> (f64, f64, Scale) {
        match self {
            Domain::Real { low, high, scale } => (*low, *high, *scale),
            Domain::Integer { low, high, scale } => (*low as f64 - 0.5, *high as f64 + 0.5, *scale),
            Domain::Choice { values } => (0.0, values.len() as f64, Scale::Linear),
        }
    }

    /// The value at a coordinate: between 0 and 1 for what has an order, the place for a choice.
    pub fn value(&self, coordinate: f64) -> f64 {
        let (low, high, scale) = self.ends();
        let value = match scale {
            Scale::Linear => low + coordinate * (high - low),
            Scale::Log => exp(ln(low) + coordinate * (ln(high) - ln(low))),
        };
        match self {
            Domain::Real { low, high, .. } => rounded(value).clamp(*low, *high),
            Domain::Integer { low, high, .. } => value.round().clamp(*low as f64, *high as f64),
            Domain::Choice { values } => coordinate.floor().clamp(0.0, values.len() as f64 - 1.0),
        }
    }

    /// The coordinate of a value.
    pub fn coordinate(&self, value: f64) -> f64 {
        let (low, high, scale) = self.ends();
        match (self, scale) {
            (Domain::Choice { .. }, _) => value,
            (_, Scale::Linear) => (value - low) / (high - low),
            (_, Scale::Log) => (ln(value) - ln(low)) / (ln(high) - ln(low)),
        }
    }

    fn json(&self, value: f64) -> Value {
        match self {
            Domain::Real { .. } => Value::from(value),
            Domain::Integer { .. } => Value::from(value as i64),
            Domain::Choice { values } => values[value as usize].clone(),
        }
    }

    /// The nearest value that the domain holds; none for a choice that does not hold it.
    pub fn nearest(&self, json: &Value) -> Option<f64> {
        match self {
            Domain::Real { low, high, .. } => Some(json.as_f64()?.clamp(*low, *high)),
            Domain::Integer { low, high, .. } => Some(json.as_f64()?.round().clamp(*low as f64, *high as f64)),
            Domain::Choice { values } => values.iter().position(|value| value == json).map(|place| place as f64),
        }
    }
}

/// `value` to [`FIGURES`] figures. Formatting and reading are exact, so that this is the same everywhere.
fn rounded(value: f64) -> f64 {
    format!("{value:.*e}", FIGURES - 1).parse().unwrap_or(value)
}

impl Space {
    /// By the parameter's name, for the journal and the declaration.
    pub fn json(&self, point: &Point) -> Map<String, Value> {
        let named = self.parameters.iter().zip(&point.0);
        named
            .filter_map(|(parameter, value)| Some((parameter.name.clone(), parameter.domain.json((*value)?))))
            .collect()
    }

    /// The point with these values, each brought into its domain; none where one is missing or no value of its choice.
    pub fn point(&self, value: impl Fn(&str) -> Option<Value>) -> Option<Point> {
        let mut values = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let exists = parameter.exists(&values);
            values.push(if exists { Some(parameter.domain.nearest(&value(&parameter.name)?)?) } else { None });
        }
        Some(Point(values))
    }

    /// Coordinates of a point, in the order of the parameters.
    pub fn coordinates(&self, point: &Point) -> Vec<Option<f64>> {
        let pairs = self.parameters.iter().zip(&point.0);
        pairs.map(|(parameter, value)| value.map(|value| parameter.domain.coordinate(value))).collect()
    }
}

impl Point {
    /// Equal for equal points.
    pub fn key(&self) -> Vec<u64> {
        // No value is NaN; zero has one sign.
        self.0.iter().map(|value| value.map_or(u64::MAX, |value| (value + 0.0).to_bits())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn space() -> Space {
        let named = |values: &[&str]| values.iter().map(|value| Value::from(*value)).collect();
        let when = |value| Some(Condition { parameter: 0, value });
        Space {
            parameters: vec![
                Parameter::always("kind", Domain::Choice { values: named(&["trees", "linear"]) }),
                Parameter { name: "leaves".to_owned(), domain: Domain::log_integer(7, 255), when: when(0) },
                Parameter { name: "alpha".to_owned(), domain: Domain::log_real(0.001, 1.0), when: when(1) },
                Parameter::always("share", Domain::real(0.0, 1.0)),
            ],
        }
    }

    #[test]
    fn a_point_goes_to_json_and_back_and_leaves_out_what_does_not_exist() {
        let point = Point(vec![Some(1.0), None, Some(0.01), Some(0.5)]);
        let json = space().json(&point);
        assert_eq!(serde_json::to_string(&json).unwrap(), r#"{"alpha":0.01,"kind":"linear","share":0.5}"#);
        assert_eq!(space().point(|name| json.get(name).cloned()), Some(point));
    }

    #[test]
    fn declared_values_outside_are_brought_inside_and_strangers_are_none() {
        let of = |kind: &str| {
            let kind = kind.to_owned();
            space().point(move |name| match name {
                "kind" => Some(Value::from(kind.as_str())),
                "leaves" => Some(Value::from(1000)),
                _ => Some(Value::from(-0.5)),
            })
        };
        assert_eq!(of("trees"), Some(Point(vec![Some(0.0), Some(255.0), None, Some(0.0)])));
        assert_eq!(of("network"), None);
    }

    #[test]
    fn every_integer_has_the_same_room() {
        let domain = Domain::integer(1, 4);
        let mut counts = [0; 4];
        (0..400).for_each(|i| counts[domain.value((f64::from(i) + 0.5) / 400.0) as usize - 1] += 1);
        assert_eq!(counts, [100; 4]);
    }

    proptest! {
        #[test]
        fn values_stay_inside_and_return_from_their_coordinates(u in 0.0..=1.0_f64, low in 1e-6..1.0_f64, ratio in 1.5..1e6_f64) {
            for domain in [Domain::log_real(low, low * ratio), Domain::real(-low, low * ratio), Domain::log_integer(1, 2 + ratio as i64)] {
                let (from, to) = match &domain {
                    Domain::Real { low, high, .. } => (*low, *high),
                    Domain::Integer { low, high, .. } => (*low as f64, *high as f64),
                    Domain::Choice { .. } => unreachable!(),
                };
                let value = domain.value(u);
                prop_assert!((from..=to).contains(&value), "{value} of {domain:?}");
                let again = domain.value(domain.coordinate(value));
                prop_assert!((again - value).abs() <= 1e-3 * value.abs().max(1e-3), "{again} {value}");
            }
        }
    }
}
