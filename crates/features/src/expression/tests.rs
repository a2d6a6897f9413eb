//! Stories of expressions: what they give, what is refused and how, and that a row alone gives the bits of a row in a
//! batch.

use super::*;
use crate::testing::{canonical_batches, wide_batch, wide_contract};
use arrow::array::Array;
use proptest::prelude::*;

fn scope() -> Vec<(String, ColumnKind)> {
    wide_contract().columns.iter().map(|column| (column.name.clone(), column.kind)).collect()
}

fn parsed(sql: &str) -> Result<(Expression, ColumnKind), ExpressionError> {
    let scope = scope();
    let scope: Vec<(&str, ColumnKind)> = scope.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    parse(sql, &scope)
}

fn over(sql: &str, batch: &RecordBatch) -> ArrayRef {
    let (expression, kind) = parsed(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let view = |name: &String| {
        let column = batch.schema_ref().index_of(name).unwrap();
        Values::of_any(batch.column(column), name).unwrap()
    };
    let views: Vec<Values<'_>> = expression.columns.iter().map(view).collect();
    expression.column(&views, batch.num_rows(), kind)
}

/// The value of a constant expression, as text; "null" for null.
fn value(sql: &str) -> String {
    let array = over(sql, &wide_batch().slice(0, 1));
    let shown = arrow::util::display::array_value_to_string(&array, 0).unwrap();
    if array.is_null(0) { "null".to_owned() } else { shown }
}

#[track_caller]
fn gives(pairs: &[(&str, &str)]) {
    for (sql, expected) in pairs {
        assert_eq!(value(sql), *expected, "{sql}");
    }
}

#[test]
fn numbers() {
    gives(&[
        ("1 + 2 * 3 - -4", "11"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("7 / 2.0", "3.5"),
        ("1 / 0", "null"),
        ("1.0 / 0", "inf"),
        ("0.0 / 0", "null"),
        ("9223372036854775807 + 1", "-9223372036854775808"),
        ("CAST(-9223372036854775808 AS BIGINT) / -1", "null"),
        ("ABS(-3)", "3"),
        ("ABS(-9223372036854775808)", "null"),
        ("FLOOR(-1.5)", "-2.0"),
        ("CEIL(1.2)", "2.0"),
        ("ROUND(2.5)", "3.0"),
        ("ROUND(-2.5)", "-3.0"),
        ("ROUND(1234.567, -2)", "1200.0"),
        ("ROUND(1.005, 2)", "1.0"),
        ("SQRT(16)", "4.0"),
        ("SQRT(-1)", "null"),
        ("LN(1)", "0.0"),
        ("EXP(0)", "1.0"),
        ("-0.0 = 0", "true"),
    ]);
}

#[test]
fn truth_has_three_values() {
    gives(&[
        ("NULL AND FALSE", "false"),
        ("NULL AND TRUE", "null"),
        ("NULL OR TRUE", "true"),
        ("NOT (1 = NULL)", "null"),
        ("1 IN (1, NULL)", "true"),
        ("2 IN (1, NULL)", "null"),
        ("2 NOT IN (1, 3)", "true"),
        ("2 IN (1.5, 2)", "true"),
        ("2 BETWEEN 1 AND 3", "true"),
        ("2 NOT BETWEEN NULL AND 1", "true"),
        ("(1 = NULL) IS TRUE", "false"),
        ("(1 = NULL) IS NOT TRUE", "true"),
        ("(1 = NULL) IS UNKNOWN", "true"),
        ("1 IS DISTINCT FROM NULL", "true"),
        ("CAST(NULL AS BIGINT) IS NOT DISTINCT FROM NULL", "true"),
        ("CASE WHEN 1 = NULL THEN 'a' ELSE 'b' END", "b"),
        ("CASE 3 WHEN 1 THEN 'x' WHEN 3 THEN 'y' END", "y"),
        ("CASE WHEN FALSE THEN 1 END", "null"),
        ("CASE WHEN TRUE THEN 1 ELSE 2.5 END", "1.0"),
        ("COALESCE(NULL, 2, 3.5)", "2.0"),
        ("NULLIF(3, 3)", "null"),
        ("NULLIF(3, 4)", "3"),
    ]);
}

#[test]
fn texts() {
    gives(&[
        ("LOWER('ÄB') || UPPER('c')", "äbC"),
        ("'a' || NULL", "null"),
        ("CONCAT('a', NULL, 'b')", "ab"),
        ("LENGTH('häß')", "3"),
        ("SUBSTR('homeostat', 5)", "ostat"),
        ("SUBSTR('homeostat', -1, 4)", "ho"),
        ("SUBSTRING('häßlich' FROM 2 FOR 2)", "äß"),
        ("SUBSTR('abc', 9)", ""),
        ("SUBSTR('abc', 1, -1)", "null"),
        ("TRIM('  a b ') || '|'", "a b|"),
        ("LTRIM('  a ') || '|'", "a |"),
        ("TRIM(TRAILING ' ' FROM ' a ') || '|'", " a|"),
        ("'flight' LIKE 'fl%t'", "true"),
        ("'flight' LIKE 'f_ght'", "false"),
        ("'100%' LIKE '100\\%'", "true"),
        ("'Flight' ILIKE 'FL%'", "true"),
        ("NULL LIKE 'a'", "null"),
        ("'it''s' = 'it''s'", "true"),
        ("CAST('12' AS BIGINT) + 1", "13"),
        ("CAST('twelve' AS BIGINT)", "null"),
        ("CAST('1.5e1' AS DOUBLE)", "15.0"),
        ("CAST(2.9 AS BIGINT)", "2"),
        ("CAST(1e300 AS BIGINT)", "null"),
        ("CAST(TRUE AS BIGINT)", "1"),
        ("CAST(7 AS VARCHAR) || '!'", "7!"),
        ("'yes'::BOOLEAN", "true"),
    ]);
}

#[test]
fn instants() {
    let at = "TIMESTAMP '2013-03-10T06:30:05Z'";
    let there = format!("({at} AT TIME ZONE 'America/New_York')");
    gives(&[
        (&format!("EXTRACT(HOUR FROM {at})"), "6"),
        (&format!("EXTRACT(HOUR FROM {there})"), "1"),
        (&format!("DATE_PART('dow', {there})"), "0"),
        (&format!("EXTRACT(ISODOW FROM {at})"), "7"),
        (&format!("EXTRACT(DOY FROM {at})"), "69"),
        (&format!("EXTRACT(QUARTER FROM {at})"), "1"),
        (&format!("EXTRACT(WEEK FROM {at})"), "10"),
        (&format!("EXTRACT(EPOCH FROM {at})"), "1362897005.0"),
        (&format!("{at} < TIMESTAMP '2014-01-01'"), "true"),
    ]);
}

#[test]
fn errors_say_where_and_what_to_do() {
    let refused = |sql: &str, expected: &str| {
        let found = parsed(sql).map(|_| ()).unwrap_err().to_string();
        assert!(found.contains(expected), "{sql}: {found}");
    };
    refused("float_a + flaot_b", "at character 11: column \"flaot_b\" is not there");
    refused("float_a + flaot_b", "did you mean \"float_b\"?");
    refused("1 +", "an expression, found: EOF");
    refused("1 + 2 3", "at character 7: \"3\" is not expected here");
    refused("string_a + 1", "at character 1: this is of type string; CAST it");
    refused("float_a AND bool_a", "this is of type float; bool is expected");
    refused("CASE WHEN bool_a THEN 1 ELSE 'x' END", "int and string do not go together");
    refused("CAST(int_a AS INT)", "write BIGINT");
    refused("CAST(float_a AS VARCHAR)", "ROUND it");
    refused("lowr(string_a)", "function lowr is outside the subset; did you mean \"lower\"?");
    refused("ABS(1, 2)", "does not take 2 operands");
    refused("SUM(int_a)", "outside the subset");
    refused("SUM(int_a) OVER ()", "one row");
    refused("timestamp_a - timestamp_b", "features.difference");
    refused("EXTRACT(HOUR FROM (timestamp_a AT TIME ZONE 'America/NewYork'))", "did you mean \"America/New_York\"?");
    refused("int_a IN (1, int_b)", "IN takes literals");
    refused("NULL", "null whatever the row");
    refused("(SELECT 1)", "outside the subset");
    refused("string_a\n  = int_a", "do not go together");
    refused(&vec!["int_a"; 80].join(" + "), "too deep");
    refused(&vec!["int_a"; 450].join(" + "), "too deep");
    refused(&vec!["int_a"; 60_000].join(" + "), "more than 4000 bytes");
    let nested = (0..30).fold("1".to_owned(), |inner, _| format!("CASE WHEN bool_a THEN {inner} END"));
    refused(&nested, "too deep");
    assert!(parsed(&vec!["int_a"; 40].join(" + ")).is_ok());
    refused(&format!("{}1{}", "(".repeat(100), ")".repeat(100)), "recursion");
}

/// An expression of each kind of operation, over every column.
pub(crate) const ALL: [&str; 12] = [
    "int_a + int_b * 2 - int_a / NULLIF(int_b, 0) % 7",
    "float_a * float_b / (float_a - float_b) + LN(ABS(float_a)) - EXP(float_b / 100)",
    "ROUND(SQRT(ABS(float_a)), 3) + FLOOR(float_b) - CEIL(float_a) + int_a",
    "CASE WHEN bool_a THEN float_a WHEN int_a > int_b OR bool_b IS NULL THEN int_b ELSE -float_b END",
    "string_a IN ('a', 'b', '') OR string_b LIKE '%a_' AND NOT bool_a",
    "COALESCE(string_a, string_b, 'none') || UPPER(SUBSTR(string_b, 2, int_a))",
    "LENGTH(TRIM(LOWER(CONCAT(string_a, string_b)))) + CAST(bool_a AS BIGINT)",
    "CAST(string_a AS DOUBLE) + CAST(string_b AS BIGINT) + CAST(float_a AS BIGINT)",
    "EXTRACT(HOUR FROM (timestamp_a AT TIME ZONE 'Europe/Berlin')) + DATE_PART('doy', timestamp_b)",
    "COALESCE(timestamp_a, timestamp_b)",
    "float_a BETWEEN float_b AND int_a",
    "int_a IS NOT DISTINCT FROM int_b",
];

fn bits(array: &ArrayRef) -> Vec<Option<String>> {
    crate::testing::bits(array)
}

proptest! {
    /// A row alone gives the bits of a row in a batch, and a tree that was read from a file those of one just made.
    #[test]
    fn a_row_gives_the_same_bits_alone(batch in canonical_batches(1..12)) {
        for sql in ALL {
            let whole = bits(&over(sql, &batch));
            for (row, known) in whole.iter().enumerate() {
                prop_assert_eq!(&bits(&over(sql, &batch.slice(row, 1)))[0], known, "{}", sql);
            }
            let (expression, kind) = parsed(sql).unwrap();
            let back: Expression = serde_json::from_str(&serde_json::to_string(&expression).unwrap()).unwrap();
            prop_assert_eq!(&back, &expression);
            let kinds: Vec<ColumnKind> =
                expression.columns.iter().map(|name| wide_contract().column(name).unwrap().kind).collect();
            prop_assert_eq!(back.check(&kinds, kind), Ok(()));
        }
    }

    #[test]
    fn no_text_brings_the_reader_down(sql in ".{0,40}") {
        let _ = parsed(&sql);
    }
}

#[test]
fn long_batches_are_computed_in_pieces() {
    let numbers = Int64Array::from_iter_values(0..3000);
    let flags = BooleanArray::from(vec![true; 3000]);
    let batch =
        RecordBatch::try_from_iter([("int_a", Arc::new(numbers) as ArrayRef), ("bool_a", Arc::new(flags) as ArrayRef)]);
    let found = over("CASE WHEN bool_a THEN int_a * 2 END", &batch.unwrap());
    let found = found.as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!((found.len(), found.value(2999)), (3000, 5998));
    let none = RecordBatch::new_empty(crate::canonical_schema(&wide_contract()));
    assert_eq!(over("int_a + 1", &none).len(), 0);
}
