//! The values to predict.

use crate::FeatureError;
use crate::columns::{Values, column_index};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeSet, HashMap};
use vocabulary::contract::Scalar;
use vocabulary::model::{ModelSpec, Task};
use vocabulary::time::Timestamp;

/// The target of each row of a canonical batch; NaN where it is null. A binary target is 0 or 1: a bool, the numbers 0
/// and 1, or any values with `positive` declared. A regression's target is a finite number, a multiclass target the
/// place of its value among the declared classes.
pub fn target_values(spec: &ModelSpec, batch: &RecordBatch) -> Result<Vec<f64>, FeatureError> {
    let index = column_index(batch.schema_ref(), &spec.target, usize::MAX)?;
    let values = Values::of_any(batch.column(index), &spec.target)?;
    let rows = batch.num_rows();
    let failed = |what| FeatureError::Target { column: spec.target.clone(), what };
    match spec.task {
        Task::Regression => numbers(&values, rows),
        Task::Binary => match &spec.positive {
            Some(positive) => against(&values, rows, positive),
            None => zeros_and_ones(&values, rows),
        },
        Task::Multiclass => classes(&values, rows, &spec.class_names()),
    }
    .map_err(failed)
}

fn numbers(values: &Values<'_>, rows: usize) -> Result<Vec<f64>, String> {
    if matches!(values, Values::Text(_) | Values::Time(_)) {
        return Err("a regression needs numbers; predict another column, or set task = \"binary\"".to_owned());
    }
    let number = |row| match values.number(row) {
        Some(value) if value.is_infinite() => {
            Err(format!("{value} cannot be learned (row {row}); make it null or correct it"))
        }
        value => Ok(value.unwrap_or(f64::NAN)),
    };
    (0..rows).map(number).collect()
}

fn zeros_and_ones(values: &Values<'_>, rows: usize) -> Result<Vec<f64>, String> {
    let number = |row| values.number(row).filter(|value| *value == 0.0 || *value == 1.0).map(|value| value + 0.0);
    let wrong = |row: &usize| words(values, *row).is_some() && number(*row).is_none();
    match (0..rows).find(wrong) {
        None => Ok((0..rows).map(|row| number(row).unwrap_or(f64::NAN)).collect()),
        Some(_) => Err(format!(
            "its values are not 0 and 1 but {}; say which one counts as 1, such as positive = {}",
            listed(values, rows),
            example(values, rows)
        )),
    }
}

fn against(values: &Values<'_>, rows: usize, positive: &Scalar) -> Result<Vec<f64>, String> {
    let positive = positive.text();
    let found: Vec<f64> = (0..rows)
        .map(|row| words(values, row).map_or(f64::NAN, |text| f64::from(u8::from(text == positive))))
        .collect();
    // One other value alone may be a batch that happens to have no positive; two cannot be two classes.
    let mut others = (0..rows).filter_map(|row| words(values, row));
    let first = others.next();
    if !found.contains(&1.0) && others.any(|other| Some(&other) != first.as_ref()) {
        return Err(format!("positive = \"{positive}\" never occurs; the values are {}", listed(values, rows)));
    }
    Ok(found)
}

fn classes(values: &Values<'_>, rows: usize, classes: &[String]) -> Result<Vec<f64>, String> {
    let places: HashMap<&str, f64> =
        classes.iter().enumerate().map(|(place, name)| (name.as_str(), place as f64)).collect();
    let place = |row| match words(values, row) {
        None => Ok(f64::NAN),
        Some(text) => places.get(text.as_str()).copied().ok_or_else(|| {
            format!(
                "{} in row {row} is none of the {} declared classes; add it to classes, or let the contract reject it",
                quoted(values, &text),
                classes.len()
            )
        }),
    };
    (0..rows).map(place).collect()
}

/// A value as text; none for null and NaN.
fn words(values: &Values<'_>, row: usize) -> Option<String> {
    if values.is_null(row) {
        return None;
    }
    Some(match values {
        Values::Bool(array) => array.value(row).to_string(),
        Values::Int(array) => array.value(row).to_string(),
        Values::Float(_) => (values.number(row)? + 0.0).to_string(),
        Values::Text(array) => array.value(row).to_owned(),
        Values::Time(array) => Timestamp(array.value(row)).to_string(),
    })
}

/// Up to eight different values.
fn distinct(values: &Values<'_>, rows: usize) -> BTreeSet<String> {
    const SHOWN: usize = 8;
    let mut seen = BTreeSet::new();
    for text in (0..rows).filter_map(|row| words(values, row)) {
        seen.insert(text);
        if seen.len() > SHOWN {
            break;
        }
    }
    seen
}

fn quoted(values: &Values<'_>, text: &str) -> String {
    if matches!(values, Values::Text(_) | Values::Time(_)) { format!("\"{text}\"") } else { text.to_owned() }
}

fn listed(values: &Values<'_>, rows: usize) -> String {
    let seen = distinct(values, rows);
    let mut shown: Vec<String> = seen.iter().take(8).map(|text| quoted(values, text)).collect();
    if seen.len() > 8 {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

fn example(values: &Values<'_>, rows: usize) -> String {
    distinct(values, rows).last().map_or_else(String::new, |text| quoted(values, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn targets(array: ArrayRef, task: Task, positive: Option<&str>) -> Result<Vec<f64>, String> {
        let batch = RecordBatch::try_from_iter([("y", array)]).unwrap();
        let positive = positive.map(|text| Scalar::Text(text.to_owned()));
        let spec = ModelSpec { task, positive, ..spec("y") };
        target_values(&spec, &batch).map_err(|error| error.to_string())
    }

    #[test]
    fn binary_targets() {
        let bools = targets(Arc::new(BooleanArray::from(vec![Some(true), None])), Task::Binary, None).unwrap();
        assert!(bools[0] == 1.0 && bools[1].is_nan());
        assert_eq!(targets(Arc::new(Int64Array::from(vec![0, 1])), Task::Binary, None).unwrap(), [0.0, 1.0]);
        let words = || Arc::new(StringArray::from(vec!["no", "yes"])) as ArrayRef;
        assert_eq!(targets(words(), Task::Binary, Some("yes")).unwrap(), [0.0, 1.0]);
        assert_eq!(
            targets(words(), Task::Binary, None).unwrap_err(),
            "target \"y\": its values are not 0 and 1 but \"no\", \"yes\"; say which one counts as 1, such as positive = \"yes\""
        );
        assert!(targets(words(), Task::Binary, Some("Yes")).unwrap_err().contains("never occurs"));
        assert!(targets(Arc::new(Int64Array::from(vec![1, 2])), Task::Binary, None).is_err());
    }

    #[test]
    fn multiclass_targets_are_places_among_the_declared_classes() {
        let classes = ["cat", "dog"].map(|name| Scalar::Text(name.to_owned())).to_vec();
        let spec = ModelSpec { task: Task::Multiclass, classes, ..spec("y") };
        let found = |words: Vec<Option<&str>>| {
            let batch = RecordBatch::try_from_iter([("y", Arc::new(StringArray::from(words)) as ArrayRef)]).unwrap();
            target_values(&spec, &batch).map_err(|error| error.to_string())
        };
        let places = found(vec![Some("dog"), None, Some("cat")]).unwrap();
        assert!(places[0] == 1.0 && places[1].is_nan() && places[2] == 0.0);
        let error = found(vec![Some("cat"), Some("cow")]).unwrap_err();
        assert!(error.contains("\"cow\" in row 1 is none of the 2 declared classes"), "{error}");
    }

    #[test]
    fn regression_targets() {
        let found = targets(Arc::new(Float64Array::from(vec![1.5, f64::NAN])), Task::Regression, None).unwrap();
        assert!(found[0] == 1.5 && found[1].is_nan());
        let infinite = Arc::new(Float64Array::from(vec![f64::INFINITY]));
        assert!(targets(infinite, Task::Regression, None).unwrap_err().contains("row 0"));
    }
}
