//! Expressions of models mean what they mean to the batch engine: random ones over odd values, computed by both.

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::SessionContext;
use std::sync::Arc;
use vocabulary::contract::Contract;

const ROWS: usize = 64;
const EXPRESSIONS: usize = 700;

/// Numbers from a seed (Vigna, "splitmix64").
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len())]
    }

    fn cell<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        (self.roll(6) > 0).then(|| self.of(choices))
    }
}

fn contract() -> Contract {
    let kinds = [("id", "int"), ("b", "bool"), ("i", "int"), ("j", "int"), ("x", "float"), ("y", "float")];
    let more = [("s", "string"), ("t", "string"), ("at", "timestamp")];
    let columns: Vec<serde_json::Value> =
        kinds.iter().chain(&more).map(|(name, kind)| serde_json::json!({ "name": name, "type": kind })).collect();
    serde_json::from_value(serde_json::json!({ "name": "t", "column": columns })).unwrap()
}

fn batch(dice: &mut Dice) -> RecordBatch {
    let ints = [0, 1, -1, 2, 3, -7, 10, 100, i64::MAX, i64::MIN, 1 << 40];
    let floats = [0.0, 1.0, -1.0, 0.5, -2.5, 1e9, -1e-9, 1e300, f64::INFINITY, f64::NEG_INFINITY, 123.456, 0.1];
    let texts = ["", "a", "ab", " a ", "Abc", "äß€", "12", "-3", "1.5", "true", "100%", "a_b", "\\x", "x\ny"];
    let instants = [0, 1_364_774_400_123_456, 1_362_897_005_000_000, -5_000_000_000_000_000, 1_700_000_000_000_000];
    fn column<A: FromIterator<Option<T>>, T: Copy>(dice: &mut Dice, choices: &[T]) -> A {
        (0..ROWS).map(|_| dice.cell(choices)).collect()
    }
    let at: TimestampMicrosecondArray = column(dice, &instants);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..ROWS as i64)),
        Arc::new(column::<BooleanArray, _>(dice, &[true, false])),
        Arc::new(column::<Int64Array, _>(dice, &ints)),
        Arc::new(column::<Int64Array, _>(dice, &ints)),
        Arc::new(column::<Float64Array, _>(dice, &floats)),
        Arc::new(column::<Float64Array, _>(dice, &floats)),
        Arc::new(column::<StringArray, _>(dice, &texts)),
        Arc::new(column::<StringArray, _>(dice, &texts)),
        Arc::new(at.with_timezone("UTC")),
    ];
    let fields: Vec<Field> = contract()
        .columns
        .iter()
        .zip(&arrays)
        .map(|(column, array)| Field::new(&column.name, array.data_type().clone(), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// An expression as a model writes it, and as the engine is asked. They differ where floats may become NaN or -0, which
/// are null and 0 in a model.
type Both = (String, String);

fn alike(text: impl Into<String>) -> Both {
    let text = text.into();
    (text.clone(), text)
}

/// Fills `{}` and `{}` of a form with both sides of the parts.
fn filled(form: &str, parts: &[Both]) -> Both {
    let fill = |side: fn(&Both) -> &String| {
        parts.iter().fold(form.to_owned(), |text, part| text.replacen("{}", &format!("({})", side(part)), 1))
    };
    (fill(|both| &both.0), fill(|both| &both.1))
}

fn sound((mine, theirs): Both) -> Both {
    (mine, format!("nanvl({theirs} + 0.0, CAST(NULL AS DOUBLE))"))
}

fn int(dice: &mut Dice, depth: usize) -> Both {
    if depth == 0 {
        return alike(dice.of(&["i", "j", "1", "-3", "7", "0"]));
    }
    let d = depth - 1;
    match dice.roll(12) {
        0..=4 => {
            let form = dice.of(&["{} + {}", "{} - {}", "{} * {}", "{} / {}", "{} % {}"]);
            filled(form, &[int(dice, d), int(dice, d)])
        }
        5 => filled("CASE WHEN {} THEN {} ELSE {} END", &[truth(dice, d), int(dice, d), int(dice, d)]),
        6 => filled("COALESCE({}, {})", &[int(dice, d), int(dice, d)]),
        7 => filled("NULLIF({}, {})", &[int(dice, d), int(dice, d)]),
        8 => {
            let (mine, theirs) = filled("LENGTH({})", &[text(dice, d)]);
            (mine, format!("CAST({theirs} AS BIGINT)"))
        }
        9 => {
            let part = dice
                .of(&["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "DOW", "DOY", "ISODOW"]);
            let zone = dice.of(&["at", "(at AT TIME ZONE 'America/New_York')", "(at AT TIME ZONE 'Asia/Kolkata')"]);
            let mine = format!("EXTRACT({part} FROM {zone})");
            (mine.clone(), format!("CAST({mine} AS BIGINT)"))
        }
        10 => filled("CAST({} AS BIGINT)", &[text(dice, d)]),
        _ => {
            let form = dice.of(&["ABS({})", "-{}", "CAST({} AS BIGINT)"]);
            let part = if form.starts_with("CAST") { truth(dice, d) } else { int(dice, d) };
            filled(form, &[part])
        }
    }
}

fn float(dice: &mut Dice, depth: usize) -> Both {
    if depth == 0 {
        return alike(dice.of(&["x", "y", "1.5", "-0.25", "1e3"]));
    }
    let d = depth - 1;
    let number = |dice: &mut Dice| if dice.roll(4) == 0 { int(dice, d) } else { float(dice, d) };
    sound(match dice.roll(10) {
        0..=4 => {
            let form = dice.of(&["{} + {}", "{} - {}", "{} * {}", "{} / {}", "{} % {}"]);
            filled(form, &[float(dice, d), number(dice)])
        }
        5 => filled("CASE WHEN {} THEN {} ELSE {} END", &[truth(dice, d), float(dice, d), number(dice)]),
        6 => filled("COALESCE({}, {})", &[float(dice, d), number(dice)]),
        7 => filled("NULLIF({}, {})", &[float(dice, d), float(dice, d)]),
        8 => filled("CAST({} AS DOUBLE)", &[if dice.roll(2) == 0 { text(dice, d) } else { int(dice, d) }]),
        _ => {
            let form = dice.of(&[
                "ABS({})",
                "-{}",
                "FLOOR({})",
                "CEIL({})",
                "ROUND({})",
                "ROUND({}, 2)",
                "ROUND({}, -1)",
                "SQRT({})",
            ]);
            filled(form, &[float(dice, d)])
        }
    })
}

fn text(dice: &mut Dice, depth: usize) -> Both {
    if depth == 0 {
        return alike(dice.of(&["s", "t", "'a'", "'it''s'", "''"]));
    }
    let d = depth - 1;
    match dice.roll(6) {
        0 => filled("{} || {}", &[text(dice, d), text(dice, d)]),
        1 => filled("CONCAT({}, {})", &[text(dice, d), text(dice, d)]),
        2 => filled("SUBSTR({}, {})", &[text(dice, d), alike(dice.of(&["1", "2", "-1", "0", "9"]))]),
        3 => filled(
            "SUBSTR({}, {}, {})",
            &[text(dice, d), alike(dice.of(&["1", "2", "-1"])), alike(dice.of(&["0", "1", "3"]))],
        ),
        4 => filled("CASE WHEN {} THEN {} END", &[truth(dice, d), text(dice, d)]),
        _ => {
            let form =
                dice.of(&["LOWER({})", "UPPER({})", "TRIM({})", "LTRIM({})", "RTRIM({})", "COALESCE({}, 'none')"]);
            filled(form, &[text(dice, d)])
        }
    }
}

fn truth(dice: &mut Dice, depth: usize) -> Both {
    if depth == 0 {
        return alike(dice.of(&["b", "TRUE", "FALSE", "x IS NULL", "s = 'a'"]));
    }
    let d = depth - 1;
    match dice.roll(10) {
        0 => filled(
            dice.of(&["{} AND {}", "{} OR {}", "{} = {}", "{} IS DISTINCT FROM {}"]),
            &[truth(dice, d), truth(dice, d)],
        ),
        1 => filled(
            dice.of(&["NOT {}", "{} IS NULL", "{} IS TRUE", "{} IS NOT FALSE", "{} IS UNKNOWN"]),
            &[truth(dice, d)],
        ),
        2 | 3 => {
            let form = dice.of(&[
                "{} = {}",
                "{} <> {}",
                "{} < {}",
                "{} <= {}",
                "{} > {}",
                "{} >= {}",
                "{} IS NOT DISTINCT FROM {}",
            ]);
            if dice.roll(2) == 0 {
                filled(form, &[int(dice, d), float(dice, d)])
            } else {
                filled(form, &[int(dice, d), int(dice, d)])
            }
        }
        4 => filled(dice.of(&["{} < {}", "{} = {}", "{} >= {}"]), &[text(dice, d), text(dice, d)]),
        5 => filled("{} BETWEEN {} AND {}", &[int(dice, d), int(dice, d), int(dice, d)]),
        6 => filled(dice.of(&["{} IN (1, -7, NULL)", "{} NOT IN (0, 3)", "{} IN (2)"]), &[int(dice, d)]),
        7 => filled(dice.of(&["{} IN ('a', 'Abc')", "{} NOT IN ('ab', NULL)"]), &[text(dice, d)]),
        8 => {
            let form =
                dice.of(&["{} LIKE 'a%'", "{} NOT LIKE '%b%'", "{} LIKE '_'", "{} LIKE '%\\%'", "{} ILIKE 'A%'"]);
            filled(form, &[text(dice, d)])
        }
        _ => filled("{} > {}", &[float(dice, d), float(dice, d)]),
    }
}

/// What the engine gives for each row; none where it fails.
async fn theirs(context: &SessionContext, sql: &str, rows: &str) -> Option<ArrayRef> {
    let frame = context.sql(&format!("SELECT {sql} AS answer FROM t {rows}")).await.ok()?;
    let batches = frame.collect().await.ok()?;
    let schema = batches.first()?.schema();
    let whole = arrow::compute::concat_batches(&schema, &batches).ok()?;
    let kind = match whole.column(0).data_type() {
        DataType::Int32 => DataType::Int64,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => other.clone(),
    };
    cast(whole.column(0), &kind).ok()
}

fn shown(array: &ArrayRef, row: usize) -> String {
    match array.as_any().downcast_ref::<Float64Array>() {
        Some(floats) if floats.is_valid(row) => format!("{:x}", floats.value(row).to_bits()),
        _ if array.is_null(row) => "null".to_owned(),
        _ => arrow::util::display::array_value_to_string(array, row).unwrap(),
    }
}

#[tokio::test]
async fn random_expressions_give_what_the_engine_gives() {
    let mut dice = Dice(5);
    let (contract, batch) = (contract(), batch(&mut dice));
    let context = SessionContext::new();
    context.register_batch("t", batch.clone()).unwrap();
    let (mut compared, mut failed, mut wrong) = (0, 0, Vec::new());
    for round in 0..EXPRESSIONS {
        let depth = 1 + dice.roll(3);
        let (mine, asked) = match round % 4 {
            0 => int(&mut dice, depth),
            1 => float(&mut dice, depth),
            2 => text(&mut dice, depth),
            _ => truth(&mut dice, depth),
        };
        let ours = features::column_of(&mine, &contract, &batch).unwrap_or_else(|error| panic!("{error}"));
        let mut differ = |row: usize, found: &ArrayRef, at: usize| {
            compared += 1;
            if shown(&ours, row) != shown(found, at) {
                wrong.push(format!("row {row} of {mine}: {} here, {} there", shown(&ours, row), shown(found, at)));
            }
        };
        match theirs(&context, &asked, "").await {
            Some(found) => (0..ROWS).for_each(|row| differ(row, &found, row)),
            // A row that cannot be computed fails the whole query: the others are asked one by one.
            None => {
                for row in (0..ROWS).step_by(5) {
                    match theirs(&context, &asked, &format!("WHERE id = {row}")).await {
                        Some(found) => differ(row, &found, 0),
                        None => failed += 1,
                    }
                }
            }
        }
    }
    println!("{compared} values compared, {failed} that the engine refuses");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(compared > 25_000, "{compared}");
}

/// Logarithms and exponentials come from additions and multiplications here: the same to some last bits.
#[tokio::test]
async fn elementary_functions_agree_to_the_last_bits() {
    let mut dice = Dice(9);
    let (contract, batch) = (contract(), batch(&mut dice));
    let context = SessionContext::new();
    context.register_batch("t", batch.clone()).unwrap();
    for sql in ["LN(ABS(x) + 0.5)", "EXP(-ABS(y) / 1000)", "SQRT(ABS(x))", "EXP(LN(ABS(j % 1000) + 2.0) / 3)"] {
        let ours = features::column_of(sql, &contract, &batch).unwrap();
        let found = theirs(&context, sql, "").await.unwrap();
        let [ours, found] = [&ours, &found].map(|array| array.as_any().downcast_ref::<Float64Array>().unwrap().clone());
        for row in 0..ROWS {
            assert_eq!(ours.is_null(row), found.is_null(row), "{sql}");
            let (a, b) = (ours.value(row), found.value(row));
            assert!(ours.is_null(row) || a == b || (a - b).abs() <= 1e-14 * b.abs(), "{sql} row {row}: {a} {b}");
        }
    }
}
