//! Enforcement as stories: what each repair does to a small table, and what is said about it.

use super::*;
use crate::testing::{column, contract};
use arrow::array::{Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use std::sync::Arc;
use vocabulary::contract::{CheckRule, Column, ColumnKind, NullPolicy, Scalar, Severities};
use vocabulary::time::Span;

fn batch() -> RecordBatch {
    let delay = Float64Array::from(vec![Some(5.0), Some(-900.0), None, Some(f64::INFINITY)]);
    let carrier = StringArray::from(vec![Some("UA"), Some("UA"), Some("ZZ"), None]);
    RecordBatch::try_from_iter([("delay", Arc::new(delay) as ArrayRef), ("carrier", Arc::new(carrier) as _)]).unwrap()
}

fn enforce(delay: Column, carrier: Column) -> (Enforced, Violations) {
    let contract = contract(vec![delay, carrier]);
    let columns = ["delay", "carrier"].map(str::to_owned);
    let mut violations = Violations::default();
    let enforced = Enforcer::new(&contract, &columns).unwrap().enforce(&batch(), &mut violations).unwrap();
    (enforced, violations)
}

fn delay(repair: Repair) -> Column {
    Column { range: Some([-60.0, 600.0]), repair, ..column("delay", ColumnKind::Float) }
}

fn carrier(repair: Repair) -> Column {
    let categories = Some(vec!["UA".to_owned(), "DL".to_owned()]);
    Column { categories, closed: true, repair, ..column("carrier", ColumnKind::String) }
}

fn delays(enforced: &Enforced) -> Vec<Option<f64>> {
    match Values::of_any(enforced.batch.column(0), "delay").unwrap() {
        Values::Float(array) => array.iter().collect(),
        _ => unreachable!(),
    }
}

#[test]
fn bad_rows_are_refused_one_by_one_and_named() {
    let (enforced, violations) = enforce(delay(Repair::Reject), carrier(Repair::Reject));
    assert_eq!(enforced.kept, [0]);
    let named: Vec<(usize, &str)> = enforced.rejected.iter().map(|entry| (entry.row, entry.column.as_str())).collect();
    assert_eq!(named, [(1, "delay"), (2, "carrier"), (3, "delay")]);
    assert!(enforced.rejected[0].what.starts_with("-900 is outside -60 to 600"), "{:?}", enforced.rejected[0]);
    assert_eq!(violations.rejected_rows, 3);
    assert_eq!(violations.count("delay", ViolationKind::Range, Action::Rejected), 2);
    assert_eq!(violations.total(), 3);
}

#[test]
fn repairs_change_the_value_and_are_counted() {
    let (clipped, violations) = enforce(delay(Repair::Clip), carrier(Repair::Null));
    assert_eq!(delays(&clipped), [Some(5.0), Some(-60.0), None, Some(600.0)]);
    assert!(clipped.batch.column(1).is_null(2));
    assert_eq!(violations.count("delay", ViolationKind::Range, Action::Clipped), 2);
    assert_eq!(violations.count("carrier", ViolationKind::Category, Action::MadeNull), 1);
    assert_eq!((violations.rows, violations.rejected_rows), (4, 0));

    let default = Some(Scalar::Int(0));
    let declared = Column { default, nulls: NullPolicy::Forbid, ..delay(Repair::Default) };
    let (defaulted, violations) = enforce(declared, column("carrier", ColumnKind::String));
    assert_eq!(delays(&defaulted), [Some(5.0), Some(0.0), Some(0.0), Some(0.0)]);
    assert_eq!(violations.count("delay", ViolationKind::Null, Action::Defaulted), 1);
}

#[test]
fn quarantined_rows_are_set_aside_unless_rejected_too() {
    let nulls = NullPolicy::Forbid;
    let (enforced, violations) = enforce(delay(Repair::Quarantine), Column { nulls, ..carrier(Repair::Reject) });
    assert_eq!(enforced.kept, [0]);
    assert_eq!(enforced.quarantined.iter().map(|entry| entry.row).collect::<Vec<_>>(), [1]);
    let rejected: Vec<(usize, &str)> =
        enforced.rejected.iter().map(|entry| (entry.row, entry.column.as_str())).collect();
    assert_eq!(rejected, [(2, "carrier"), (3, "carrier"), (3, "delay")]);
    assert_eq!((violations.rejected_rows, violations.quarantined_rows), (2, 1));
}

#[test]
fn counts_merge_and_serialise() {
    let (_, first) = enforce(delay(Repair::Reject), carrier(Repair::Null));
    let mut both = first.clone();
    both.merge(&first);
    assert_eq!((both.rows, both.total()), (8, 2 * first.total()));
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<Violations>(&text).unwrap(), first);
    assert!(text.contains(r#""carrier":{"category":{"made_null":1}}"#), "{text}");
}

#[test]
fn a_default_of_another_type_is_refused() {
    let wrong = Column { default: Some(Scalar::Text("none".to_owned())), ..delay(Repair::Default) };
    let error = Enforcer::new(&contract(vec![wrong]), &["delay".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("\"delay\"") && error.contains("not of type float"), "{error}");
}

fn words() -> RecordBatch {
    let code = StringArray::from(vec![Some("AB1"), Some("ab1"), Some("ABCDEFG1"), None, Some("ÄÖ1")]);
    RecordBatch::try_from_iter([("code", Arc::new(code) as ArrayRef)]).unwrap()
}

fn enforced(contract: &Contract, batch: &RecordBatch) -> (Enforced, Violations, Vec<Offence>) {
    let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
    let (mut violations, mut offences) = (Violations::default(), Vec::new());
    let enforcer = Enforcer::new(contract, &columns).unwrap();
    let enforced = enforcer.enforce_noting(batch, &mut violations, &mut |offence| offences.push(offence)).unwrap();
    (enforced, violations, offences)
}

#[test]
fn words_match_their_pattern_and_length() {
    let code =
        Column { pattern: Some(r"\p{Lu}+\d".into()), length: Some([1, 4]), ..column("code", ColumnKind::String) };
    let (enforced, violations, offences) = enforced(&contract(vec![code]), &words());
    assert_eq!(enforced.kept, [0, 3, 4], "the whole value, in characters");
    let named: Vec<(usize, &str)> = enforced.rejected.iter().map(|entry| (entry.row, entry.what.as_str())).collect();
    assert!(named[0].1.starts_with("\"ab1\" does not match \"\\p{Lu}+\\d\""), "{named:?}");
    assert!(named[1].1.starts_with("\"ABCDEFG1\" is not of 1 to 4 characters"), "{named:?}");
    assert_eq!(violations.count("code", ViolationKind::Pattern, Action::Rejected), 1);
    assert_eq!(offences.iter().map(|offence| (offence.expectation, offence.row)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
}

#[test]
fn a_pattern_that_cannot_be_read_is_named() {
    let code = Column { pattern: Some("(".into()), ..column("code", ColumnKind::String) };
    let error = Enforcer::new(&contract(vec![code]), &["code".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("column \"code\": its pattern"), "{error}");
}

#[test]
fn a_warning_lets_the_value_pass_and_counts_it() {
    let severity = Severities::Each([(Expectation::Range, Severity::Warn)].into());
    let nulls = NullPolicy::Forbid;
    let (enforced, violations) =
        enforce(Column { severity, nulls, ..delay(Repair::Reject) }, column("carrier", ColumnKind::String));
    assert_eq!(enforced.kept, [0, 1, 3], "null is an error still");
    assert_eq!(delays(&enforced)[1], Some(-900.0));
    assert_eq!(violations.count("delay", ViolationKind::Range, Action::Warned), 2);
    assert_eq!(violations.rejected_rows, 1);
}

fn trips() -> (Vec<Column>, RecordBatch) {
    let minutes = |values: Vec<Option<i64>>| {
        let micros = values.into_iter().map(|value| value.map(|value| value * 60_000_000));
        Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef
    };
    let left = minutes(vec![Some(100), Some(100), Some(100), None]);
    let landed = minutes(vec![Some(200), Some(90), None, Some(50)]);
    let kind = Arc::new(StringArray::from(vec!["mail", "mail", "people", "people"]));
    let weight = Arc::new(Float64Array::from(vec![Some(7.5), None, None, Some(-1.0)]));
    let seats = Arc::new(Int64Array::from(vec![Some(0), Some(2), Some(180), Some(9)]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("left", left, true),
        ("landed", landed, true),
        ("kind", kind as ArrayRef, true),
        ("weight", weight as _, true),
        ("seats", seats as _, true),
    ]);
    let columns = vec![
        column("left", ColumnKind::Timestamp),
        column("landed", ColumnKind::Timestamp),
        column("kind", ColumnKind::String),
        column("weight", ColumnKind::Float),
        column("seats", ColumnKind::Int),
    ];
    (columns, batch.unwrap())
}

fn checked(text: &str, repair: Repair) -> (Enforced, Violations) {
    let (columns, batch) = trips();
    let mut contract = contract(columns);
    contract.checks = vec![CheckRule { repair, ..CheckRule::new("rule", text.parse().unwrap()) }];
    assert_eq!(contract.problems(), []);
    let (enforced, violations, _) = enforced(&contract, &batch);
    (enforced, violations)
}

#[test]
fn columns_that_do_not_go_together_refuse_the_row_and_are_all_named() {
    let (enforced, violations) = checked("left <= landed", Repair::Reject);
    assert_eq!(enforced.kept, [0, 2, 3], "a null breaks no comparison");
    let columns: Vec<&str> = enforced.rejected.iter().map(|entry| entry.column.as_str()).collect();
    assert_eq!(columns, ["left", "landed"]);
    let what = &enforced.rejected[0].what;
    assert!(
        what.contains("check \"rule\" expects left <= landed") && what.contains("landed is 1970-01-01T01:30:00Z"),
        "{what}"
    );
    assert_eq!(violations.count("left", ViolationKind::Check, Action::Rejected), 1);
}

#[test]
fn a_condition_asks_only_where_it_holds() {
    assert_eq!(checked("if kind = 'mail' then weight not null", Repair::Reject).0.kept, [0, 2, 3]);
    assert_eq!(checked("if kind in ['mail', 'x'] and seats > 0.5 then weight is null", Repair::Reject).0.kept.len(), 4);
    assert_eq!(
        checked("if seats >= 2 then weight > 0 and landed > '1970-01-01T00:55:00Z'", Repair::Quarantine).0.kept,
        [0, 1, 2]
    );
    assert_eq!(checked("weight < seats", Repair::Reject).0.kept, [1, 2, 3], "a float beside an int");
}

#[test]
fn a_check_may_mend_the_column_that_it_blames() {
    let (enforced, violations) = checked("landed >= left", Repair::Null);
    assert_eq!(enforced.kept.len(), 4);
    assert_eq!(enforced.batch.column(1).null_count(), 2);
    assert_eq!(violations.count("landed", ViolationKind::Check, Action::MadeNull), 1);
}

#[test]
fn a_check_is_enforced_where_all_its_columns_are() {
    let (columns, batch) = trips();
    let mut contract = contract(columns);
    contract.checks = vec![CheckRule::new("rule", "left <= landed".parse().unwrap())];
    let enforcer = Enforcer::new(&contract, &["left".to_owned(), "kind".to_owned()]).unwrap();
    assert_eq!(enforcer.enforce(&batch, &mut Violations::default()).unwrap().kept.len(), 4);
    assert!(enforcer.expectations().is_empty());
}

#[test]
fn a_value_must_not_be_older_than_declared_when_the_event_is() {
    let (mut columns, batch) = trips();
    // Landed is the event; left is a value of then, and so is weight, observed at left.
    columns[0].freshness = Some(Span(60 * 60_000_000));
    columns[3].freshness = Some(Span(100 * 60_000_000));
    columns[3].observed_at = Some("left".into());
    let mut contract = contract(columns);
    contract.time = Some("landed".into());
    let (enforced, violations, _) = enforced(&contract, &batch);
    assert_eq!(enforced.kept, [1, 2, 3], "100 minutes are more than 60, and not more than 100");
    assert_eq!(violations.count("left", ViolationKind::Freshness, Action::Rejected), 1);
    assert!(enforced.rejected[0].what.contains("older than 1h at the event"), "{:?}", enforced.rejected);
}

proptest::proptest! {
    /// The offenders of a whole column are those of its values one by one.
    #[test]
    fn whole_columns_and_single_rows_agree(batch in crate::testing::canonical_batches(1..200), low in -5.0..5.0f64) {
        let mut contract = crate::testing::wide_contract();
        for column in &mut contract.columns {
            match column.kind {
                ColumnKind::Int | ColumnKind::Float => column.range = Some([low, low + 3.0]),
                ColumnKind::String => (column.pattern, column.length) = (Some("[a-z]*".into()), Some([0, 1])),
                _ => column.nulls = NullPolicy::Forbid,
            }
        }
        contract.checks = vec![CheckRule::new("rule", "if int_a > 0 then float_a <= float_b".parse().unwrap())];
        let (whole, counted, _) = enforced(&contract, &batch);
        let mut kept = Vec::new();
        let mut total = 0;
        for row in 0..batch.num_rows() {
            let (one, violations, _) = enforced(&contract, &batch.slice(row, 1));
            total += violations.total();
            if one.kept == [0] {
                kept.push(row as u32);
            }
        }
        proptest::prop_assert_eq!(&whole.kept, &kept);
        proptest::prop_assert_eq!(counted.total(), total);
    }
}
