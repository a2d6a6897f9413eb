//! What each input looked like in the rows that were learned from: exact counts by hour of the week and bin.

use crate::FeatureError;
use crate::columns::{Values, column_index};
use crate::statistics::{edges, sorted_finite};
use arrow::record_batch::RecordBatch;
use std::collections::HashMap;
use vocabulary::contract::ColumnKind;
use vocabulary::dependence::DependenceCounter;
use vocabulary::profile::{Bins, FeatureReference, HOURS_OF_WEEK, ReferenceDetail};
use vocabulary::time::Timestamp;

/// Bins of a number at most, null aside.
const NUMERIC_BINS: usize = 32;
/// Categories with a bin of their own at most.
const CATEGORIES: usize = 64;

/// The references of `columns` over `rows` of a canonical batch; instants, the `time` column among them, have none.
/// With a `time` column, counts are by its hour of the week in UTC; rows without an instant are in hour 0.
pub fn reference(
    columns: &[String],
    batch: &RecordBatch,
    rows: &[u32],
    time: Option<&str>,
) -> Result<Vec<FeatureReference>, FeatureError> {
    let hours = match time {
        Some(name) => {
            let index = column_index(batch.schema_ref(), name, usize::MAX)?;
            let values = Values::new(batch.column(index), name, ColumnKind::Timestamp)?;
            let hour = |row: &u32| values.micros(*row as usize).map_or(0, |at| Timestamp(at).hour_of_week());
            Some(rows.iter().map(hour).collect::<Vec<u16>>())
        }
        None => None,
    };
    let mut references = Vec::new();
    for (guess, name) in columns.iter().enumerate() {
        let index = column_index(batch.schema_ref(), name, guess)?;
        let values = Values::of_any(batch.column(index), name)?;
        if matches!(values, Values::Time(_)) || Some(name.as_str()) == time {
            continue;
        }
        let bins = bins_of(&values, rows);
        let counts = counts(&values, &bins, rows, hours.as_deref());
        references.push(FeatureReference { name: name.clone(), bins, counts, stratified: hours.is_some() });
    }
    Ok(references)
}

/// The bin of one row's value of each feature, in the order of `features`. A column that the batch lacks, or that has
/// another type than the reference, counts as null.
pub fn bins(features: &[FeatureReference], batch: &RecordBatch, row: usize) -> Vec<u16> {
    let bin = |(guess, feature): (usize, &FeatureReference)| {
        let index = column_index(batch.schema_ref(), &feature.name, guess).ok()?;
        let values = Values::of_any(batch.column(index), &feature.name).ok()?;
        Some(bin_of(&values, &feature.bins, row))
    };
    features.iter().enumerate().map(|feature| bin(feature).unwrap_or(0)).collect()
}

/// One row's values as the cause of a change is read from them, in the order of `features`: numbers, not a number where
/// there is none, and the texts that have no bin of their own, by place.
pub fn raw(features: &[FeatureReference], batch: &RecordBatch, row: usize) -> (Vec<f64>, Vec<(u16, String)>) {
    let (mut numbers, mut unseen) = (vec![f64::NAN; features.len()], Vec::new());
    for (place, feature) in features.iter().enumerate() {
        let Ok(index) = column_index(batch.schema_ref(), &feature.name, place) else { continue };
        let Ok(values) = Values::of_any(batch.column(index), &feature.name) else { continue };
        match &feature.bins {
            Bins::Numeric { .. } => numbers[place] = values.number(row).unwrap_or(f64::NAN),
            Bins::Categories { values: known } => {
                let text = category(&values, row).filter(|text| !known.iter().any(|known| known == text));
                unseen.extend(text.map(|text| (place as u16, text.to_owned())));
            }
        }
    }
    (numbers, unseen)
}

/// How much the rows behind `features` resemble each other within an hour and a day. None without a time column.
pub fn detail(
    features: &[FeatureReference],
    batch: &RecordBatch,
    rows: &[u32],
    time: Option<&str>,
) -> Result<Option<ReferenceDetail>, FeatureError> {
    let Some(time) = time else { return Ok(None) };
    let index = column_index(batch.schema_ref(), time, usize::MAX)?;
    let times = Values::new(batch.column(index), time, ColumnKind::Timestamp)?;
    let mut counters = vec![DependenceCounter::default(); features.len()];
    for ((guess, feature), counter) in features.iter().enumerate().zip(&mut counters) {
        let index = column_index(batch.schema_ref(), &feature.name, guess)?;
        let values = Values::of_any(batch.column(index), &feature.name)?;
        for row in rows.iter().map(|row| *row as usize) {
            if let Some(at) = times.micros(row) {
                counter.push(Timestamp(at), f64::from(bin_of(&values, &feature.bins, row)));
            }
        }
    }
    let hours = counters.first_mut().map(DependenceCounter::strata_hours).unwrap_or_default();
    let dependence = counters.iter_mut().map(DependenceCounter::estimate).collect();
    Ok(Some(ReferenceDetail { hours, dependence, ..ReferenceDetail::default() }))
}

#[inline]
fn bin_of(values: &Values<'_>, bins: &Bins, row: usize) -> u16 {
    match bins {
        Bins::Numeric { .. } => bins.number(values.number(row)),
        Bins::Categories { .. } => bins.category(category(values, row)),
    }
}

fn category<'a>(values: &Values<'a>, row: usize) -> Option<&'a str> {
    match values {
        _ if values.is_null(row) => None,
        Values::Text(array) => Some(array.value(row)),
        Values::Bool(array) => Some(if array.value(row) { "true" } else { "false" }),
        _ => None,
    }
}

fn bins_of(values: &Values<'_>, rows: &[u32]) -> Bins {
    match values {
        Values::Text(_) | Values::Bool(_) => {
            let mut counts: HashMap<&str, u64> = HashMap::new();
            for value in rows.iter().filter_map(|row| category(values, *row as usize)) {
                *counts.entry(value).or_default() += 1;
            }
            let mut ranked: Vec<(&str, u64)> = counts.into_iter().collect();
            ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            ranked.truncate(CATEGORIES);
            Bins::Categories { values: ranked.into_iter().map(|(value, _)| value.to_owned()).collect() }
        }
        _ => Bins::Numeric {
            edges: edges(&sorted_finite(rows.iter().map(|row| values.number(*row as usize))), NUMERIC_BINS),
        },
    }
}

fn counts(values: &Values<'_>, bins: &Bins, rows: &[u32], hours: Option<&[u16]>) -> Vec<Vec<u32>> {
    // Ten million rows would walk the list of categories ten million times; a table does not.
    let places: HashMap<&str, u16> = match bins {
        Bins::Categories { values } => (1..).zip(values).map(|(place, value)| (value.as_str(), place)).collect(),
        Bins::Numeric { .. } => HashMap::new(),
    };
    let bin = |row: usize| match bins {
        Bins::Numeric { .. } => bins.number(values.number(row)),
        Bins::Categories { values: known } => {
            category(values, row).map_or(0, |value| places.get(value).copied().unwrap_or(known.len() as u16 + 1))
        }
    };
    let mut counts = vec![Vec::new(); if hours.is_some() { HOURS_OF_WEEK } else { 1 }];
    for (place, row) in rows.iter().enumerate() {
        let hour = hours.map_or(0, |hours| usize::from(hours[place]));
        let stratum: &mut Vec<u32> = &mut counts[hour];
        if stratum.is_empty() {
            stratum.resize(bins.len(), 0);
        }
        stratum[usize::from(bin(*row as usize))] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let hour = 3_600_000_000;
        // Monday midnight, Monday 05:00 (twice) and a row without a time.
        let monday = 1_364_774_400_000_000;
        let at =
            TimestampMicrosecondArray::from(vec![Some(monday), Some(monday + 5 * hour), Some(monday + 5 * hour), None]);
        let x = Float64Array::from(vec![Some(1.0), Some(2.0), None, Some(2.0)]);
        let c = StringArray::from(vec![Some("a"), Some("b"), Some("b"), None]);
        RecordBatch::try_from_iter([
            ("at", Arc::new(at.with_timezone("UTC")) as ArrayRef),
            ("x", Arc::new(x) as _),
            ("c", Arc::new(c) as _),
        ])
        .unwrap()
    }

    #[test]
    fn counts_are_exact_by_hour_and_bin() {
        let columns = ["at", "x", "c"].map(str::to_owned);
        let found = reference(&columns, &batch(), &[0, 1, 2, 3], Some("at")).unwrap();
        assert_eq!(found.iter().map(|feature| feature.name.as_str()).collect::<Vec<_>>(), ["x", "c"]);
        assert_eq!(found[0].bins, Bins::Numeric { edges: vec![1.0, 2.0] });
        // Bins: null, up to 1, up to 2, above.
        assert_eq!(found[0].counts[0], [0, 1, 1, 0]);
        assert_eq!(found[0].counts[5], [1, 0, 1, 0]);
        assert!(found[0].counts[6].is_empty() && found[0].stratified);
        assert_eq!(found[1].bins, Bins::Categories { values: vec!["b".to_owned(), "a".to_owned()] });
        assert_eq!(found[1].counts[5], [0, 2, 0, 0]);
    }

    #[test]
    fn what_a_cause_is_read_from_is_the_row_as_it_came() {
        let columns = ["x", "c"].map(str::to_owned);
        let batch = batch();
        let mut found = reference(&columns, &batch, &[0, 1, 2, 3], Some("at")).unwrap();
        found[1].bins = Bins::Categories { values: vec!["b".to_owned()] };
        let (numbers, unseen) = raw(&found, &batch, 0);
        assert!(numbers[0] == 1.0 && numbers[1].is_nan());
        assert_eq!(unseen, [(1, "a".to_owned())]);
        assert!(raw(&found, &batch, 2).0[0].is_nan() && raw(&found, &batch, 2).1.is_empty());
        let detail = detail(&found, &batch, &[0, 1, 2, 3], Some("at")).unwrap().unwrap();
        assert_eq!((detail.hours.iter().sum::<u32>(), detail.dependence.len()), (2, 2));
    }

    #[test]
    fn bins_of_a_row_agree_with_the_counts() {
        let columns = ["x", "c"].map(str::to_owned);
        let found = reference(&columns, &batch(), &[0, 1, 2, 3], None).unwrap();
        let mut counts: Vec<Vec<u32>> = found.iter().map(|feature| vec![0; feature.bins.len()]).collect();
        for row in 0..4 {
            for (feature, bin) in bins(&found, &batch(), row).into_iter().enumerate() {
                counts[feature][usize::from(bin)] += 1;
            }
        }
        assert_eq!(counts, [found[0].counts[0].clone(), found[1].counts[0].clone()]);
    }
}
