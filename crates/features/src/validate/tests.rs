//! A small table of orders against what is expected of it.

use super::*;
use crate::testing::{canonical_batches, column, contract, wide_contract};
use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;
use std::sync::Arc;
use vocabulary::contract::{CheckRule, Column, ColumnKind, Distribution, Repair, Severities, TableRules};
use vocabulary::time::Span;

const HOUR: i64 = 3_600_000_000;

fn orders() -> RecordBatch {
    let at: TimestampMicrosecondArray = (0..6).map(|row| Some(row * HOUR)).collect();
    let price = Float64Array::from(vec![Some(5.0), Some(-1.0), None, Some(7.0), Some(500.0), None]);
    let id = Int64Array::from(vec![1, 2, 3, 2, 1, 2]);
    let shop = StringArray::from(vec![Some("a"), Some("a"), Some("a"), Some("b"), None, None]);
    RecordBatch::try_from_iter([
        ("at", Arc::new(at.with_timezone("UTC")) as ArrayRef),
        ("price", Arc::new(price) as _),
        ("id", Arc::new(id) as _),
        ("shop", Arc::new(shop) as _),
    ])
    .unwrap()
}

fn expected() -> Contract {
    let mut contract = contract(vec![
        column("at", ColumnKind::Timestamp),
        Column { range: Some([0.0, 100.0]), null_share: Some(0.2), ..column("price", ColumnKind::Float) },
        Column { unique: true, ..column("id", ColumnKind::Int) },
        column("shop", ColumnKind::String),
    ]);
    (contract.time, contract.key) = (Some("at".into()), Some("id".into()));
    contract
}

fn reported(contract: &Contract, as_of: Option<Timestamp>) -> Report {
    let validator = Validator::new(contract, &[]).unwrap();
    let mut seen = Observed::default();
    validator.observe(&orders(), 0, &mut seen).unwrap();
    validator.report(&seen, as_of)
}

#[track_caller]
fn finding<'a>(report: &'a Report, title: &str) -> &'a Finding {
    report.expectations.iter().find(|finding| finding.title() == title).unwrap_or_else(|| panic!("{report:#?}"))
}

#[test]
fn each_expectation_says_how_it_fared_with_rows_to_look_at() {
    let report = reported(&expected(), None);
    assert!(!report.ok);
    assert_eq!((report.rows, report.rejected_rows), (6, 2));
    let range = finding(&report, "price range");
    assert_eq!((range.status, range.count, range.share), (Status::Refused, 2, 2.0 / 6.0));
    let rows: Vec<u64> = range.examples.iter().map(|example| example.row).collect();
    assert_eq!(rows, [1, 4]);
    let values = serde_json::to_string(&range.examples[0].values).unwrap();
    assert_eq!(values, r#"{"at":"1970-01-01T01:00:00Z","id":2,"price":-1.0}"#);
    let nulls = finding(&report, "price null_share");
    assert_eq!((nulls.status, nulls.count), (Status::Failed, 2));
    assert_eq!(nulls.sentence(), "33.333 % are null");
    let unique = finding(&report, "id unique");
    assert_eq!((unique.status, unique.count), (Status::Failed, 3));
    assert_eq!(unique.examples.iter().map(|example| example.row).collect::<Vec<_>>(), [3, 4, 5]);
    let titles: Vec<String> = report.expectations.iter().map(Finding::title).collect();
    assert_eq!(titles, ["price range", "price null_share", "id unique"]);
    let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(back, report);
}

#[test]
fn warnings_and_repairs_are_shown_and_stop_nothing() {
    let mut contract = expected();
    contract.columns[1].repair = Repair::Clip;
    contract.columns[1].severity = Severities::Each([(Expectation::NullShare, Severity::Warn)].into());
    contract.columns[2].severity = Severities::All(Severity::Warn);
    let report = reported(&contract, None);
    assert!(report.ok && report.reasons_to_stop().is_empty());
    assert_eq!(finding(&report, "price range").status, Status::Repaired);
    assert_eq!(finding(&report, "price range").sentence(), "33.333 % of rows: 2 clipped");
    assert_eq!(finding(&report, "price null_share").status, Status::Warned);
    assert_eq!(finding(&report, "id unique").status, Status::Warned);
}

#[test]
fn rows_are_counted_and_a_table_of_mostly_bad_rows_stops_training() {
    let mut contract = expected();
    contract.columns[1].null_share = None;
    contract.columns[2].unique = false;
    assert!(reported(&contract, None).reasons_to_stop().is_empty(), "two rows of six are bad");
    contract.table = TableRules { rows_min: Some(7), refused_share: Some(0.3), ..Default::default() };
    let report = reported(&contract, None);
    assert_eq!(
        report.reasons_to_stop(),
        [
            "table rows: expected at least 7 rows, found 6 rows",
            "table refused_share: expected at most 30 % of the rows refused, found 2 of 6 rows break the contract"
        ]
    );
    contract.table = TableRules::default();
    contract.columns[1].range = Some([6.0, 8.0]);
    contract.columns[1].nulls = vocabulary::NullPolicy::Forbid;
    assert_eq!(reported(&contract, None).reasons_to_stop().len(), 1, "five of six: more than half, declared or not");
}

#[test]
fn the_newest_event_with_a_value_must_be_fresh() {
    let mut contract = expected();
    contract.columns.retain(|column| ["at", "shop"].contains(&column.name.as_str()));
    contract.key = None;
    contract.columns[0].freshness = Some(Span::hours(2));
    contract.columns[1].freshness = Some(Span::hours(1));
    let report = reported(&contract, None);
    assert_eq!(finding(&report, "at freshness").status, Status::Passed, "against the data's own end");
    let shop = finding(&report, "shop freshness");
    assert_eq!(shop.status, Status::Failed);
    assert_eq!(shop.sentence(), "it is of 1970-01-01T03:00:00Z, at 1970-01-01T05:00:00Z");
    let later = reported(&contract, Some(Timestamp(8 * HOUR)));
    assert_eq!(finding(&later, "at freshness").status, Status::Failed);
}

fn shaped(index: usize, distribution: Distribution) -> Report {
    let mut contract = expected();
    contract.columns[index].distribution = Some(distribution);
    reported(&contract, None)
}

#[test]
fn distributions_are_compared_with_the_contracts_reference() {
    let words = |tolerance| Distribution {
        tolerance,
        measure: None,
        edges: None,
        values: Some(vec!["a".into(), "b".into()]),
        shares: Some(vec![0.5, 0.4]),
    };
    // Three of four are "a".
    assert_eq!(finding(&shaped(3, words(0.25)), "shop distribution").status, Status::Passed);
    let report = shaped(3, words(0.24));
    let shop = finding(&report, "shop distribution");
    assert_eq!(shop.status, Status::Failed);
    assert_eq!(shop.sentence(), "0.2500 from the contract's reference; most of all \"a\": 75.00 % instead of 50.00 %");
    let numbers = Distribution {
        tolerance: 0.2,
        measure: None,
        edges: Some(vec![0.0, 10.0]),
        values: None,
        shares: Some(vec![0.25, 0.5, 0.25]),
    };
    let report = shaped(1, numbers);
    assert_eq!(
        finding(&report, "price distribution").sentence().split(';').next(),
        Some("0.0000 from the contract's reference")
    );
}

#[test]
fn distributions_are_compared_with_a_versions_reference_or_skipped() {
    let declared = Distribution { tolerance: 0.1, measure: None, edges: None, values: None, shares: None };
    let report = shaped(1, declared.clone());
    let skipped = finding(&report, "price distribution");
    assert!(
        skipped.status == Status::Skipped && skipped.status.is_good() && skipped.sentence().contains("no reference")
    );
    let mut contract = expected();
    contract.columns[1].distribution = Some(declared);
    let columns = ["price".to_owned()];
    let own = crate::profile::reference(&columns, &orders(), &[0, 1, 2, 3, 4, 5], None).unwrap();
    let validator = Validator::new(&contract, &own).unwrap();
    let mut seen = Observed::default();
    validator.observe(&orders(), 0, &mut seen).unwrap();
    assert_eq!(finding(&validator.report(&seen, None), "price distribution").status, Status::Passed);
    let other = crate::profile::reference(&columns, &orders().slice(0, 1), &[0], None).unwrap();
    let validator = Validator::new(&contract, &other).unwrap();
    let mut seen = Observed::default();
    validator.observe(&orders(), 0, &mut seen).unwrap();
    assert_eq!(finding(&validator.report(&seen, None), "price distribution").status, Status::Failed);
}

proptest! {
    /// A table in parts is the same table.
    #[test]
    fn parts_add_up_to_the_whole(batch in canonical_batches(1..60), cuts in prop::collection::vec(0.0..1.0f64, 0..3)) {
        let mut contract = wide_contract();
        for column in &mut contract.columns {
            (column.unique, column.null_share, column.freshness) = (true, Some(0.5), Some(Span::hours(1)));
            match column.kind {
                ColumnKind::Int | ColumnKind::Float => column.range = Some([-2.0, 2.0]),
                ColumnKind::String => column.length = Some([1, 3]),
                _ => {}
            }
        }
        contract.time = Some("timestamp_a".into());
        contract.checks = vec![CheckRule::new("order", "int_a <= int_b".parse().unwrap())];
        let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        let names = ["float_a".to_owned(), "string_b".to_owned()];
        let own = crate::profile::reference(&names, &batch, &rows, None).unwrap();
        for name in &names {
            let column = contract.columns.iter_mut().find(|column| column.name == *name).unwrap();
            column.distribution = Some(Distribution { tolerance: 0.1, measure: None, edges: None, values: None, shares: None });
        }
        let validator = Validator::new(&contract, &own).unwrap();
        let mut whole = Observed::default();
        validator.observe(&batch, 0, &mut whole).unwrap();
        let mut places: Vec<usize> = cuts.iter().map(|cut| (cut * batch.num_rows() as f64) as usize).collect();
        places.extend([0, batch.num_rows()]);
        places.sort_unstable();
        let mut sum = Observed::default();
        for pair in places.windows(2) {
            let mut part = Observed::default();
            validator.observe(&batch.slice(pair[0], pair[1] - pair[0]), pair[0] as u64, &mut part).unwrap();
            sum.merge(part);
        }
        prop_assert_eq!(validator.report(&sum, None), validator.report(&whole, None));
    }
}
