//! Casting whatever a file or a query gives to the contract's canonical Arrow types.

use crate::FeatureError;
use crate::columns::column_index;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::array::{TimestampMicrosecondArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::datatypes::{Date32Type, Date64Type, Float64Type, Int64Type, UInt64Type};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::array_value_to_string;
use chrono::NaiveDate;
use std::sync::Arc;
use vocabulary::contract::{Column, ColumnKind, Contract};
use vocabulary::suggest;
use vocabulary::time::Timestamp;

/// First and last instant that a canonical timestamp may hold: the years 0 to 9999, which RFC 3339 can write.
pub(crate) const MICROS_MIN: i64 = -62_167_219_200_000_000;
pub(crate) const MICROS_MAX: i64 = 253_402_300_799_999_999;

/// The Arrow type that a column of this kind has once it is canonical.
pub(crate) fn arrow_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Int => DataType::Int64,
        ColumnKind::Float => DataType::Float64,
        ColumnKind::String => DataType::Utf8,
        ColumnKind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// Whether RFC 3339 can write this instant.
pub(crate) fn is_writable(micros: i64) -> bool {
    (MICROS_MIN..=MICROS_MAX).contains(&micros)
}

/// The schema of the contract's columns, in its order.
pub fn canonical_schema(contract: &Contract) -> SchemaRef {
    Arc::new(Schema::new(contract.columns.iter().map(canonical_field).collect::<Vec<_>>()))
}

/// The contract's columns, in its order, each of its canonical type: Boolean, Int64, Float64, Utf8, or Timestamp in
/// microseconds and UTC. A column is found by its name or an alias; one that may be absent is null where it is. Takes dictionary, large and view strings, integers of any width, floats with integral values
/// for ints, dates and naive timestamps (as UTC), strings that read as the type, and integers for instants (see
/// `instant_of_integer`). NaN becomes null. Columns that the contract does not declare are dropped.
pub fn canonical(batch: &RecordBatch, contract: &Contract) -> Result<RecordBatch, FeatureError> {
    cast_columns(batch, contract.columns.iter())
}

/// As [`canonical`], for some of the contract's columns, in the order given: for data that lack others, such as rows
/// to be scored that have no target.
pub fn canonical_columns(
    batch: &RecordBatch,
    contract: &Contract,
    columns: &[String],
) -> Result<RecordBatch, FeatureError> {
    let declared = |name: &String| {
        contract.column(name).ok_or_else(|| {
            let hint = suggest::hint(name, contract.column_names());
            let what = format!("contract \"{}\" does not declare column \"{name}\"{hint}", contract.name);
            FeatureError::Declaration(what)
        })
    };
    cast_columns(batch, columns.iter().map(declared).collect::<Result<Vec<_>, _>>()?.into_iter())
}

fn cast_columns<'a>(
    batch: &RecordBatch,
    columns: impl Iterator<Item = &'a Column>,
) -> Result<RecordBatch, FeatureError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (place, column) in columns.enumerate() {
        arrays.push(match source_index(batch.schema_ref(), column, place) {
            Ok(index) => canonical_array(batch.column(index), column)?,
            Err(_) if column.may_be_absent() => {
                arrow::array::new_null_array(&arrow_type(column.kind), batch.num_rows())
            }
            Err(missing) => return Err(missing),
        });
        fields.push(canonical_field(column));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// Where a file has the column: under its name, or else under one of its aliases.
fn source_index(schema: &Schema, column: &Column, guess: usize) -> Result<usize, FeatureError> {
    column_index(schema, &column.name, guess).or_else(|missing| {
        let aliases = column.aliases.iter();
        aliases.filter_map(|alias| schema.fields().iter().position(|field| field.name() == alias)).next().ok_or(missing)
    })
}

fn canonical_field(column: &Column) -> Field {
    Field::new(&column.name, arrow_type(column.kind), true)
}

/// One column on its way, with what an error needs.
struct Source<'a> {
    array: &'a ArrayRef,
    column: &'a Column,
}

fn canonical_array(array: &ArrayRef, column: &Column) -> Result<ArrayRef, FeatureError> {
    let source = Source { array, column };
    if *array.data_type() == DataType::Null {
        return Ok(arrow::array::new_null_array(&arrow_type(column.kind), array.len()));
    }
    Ok(match column.kind {
        ColumnKind::Bool => Arc::new(source.bools()?),
        ColumnKind::Int => Arc::new(source.ints()?),
        ColumnKind::Float => Arc::new(source.floats()?),
        ColumnKind::String => Arc::new(source.strings()?),
        ColumnKind::Timestamp => Arc::new(source.instants()?.with_timezone("UTC")),
    })
}

impl Source<'_> {
    fn bools(&self) -> Result<BooleanArray, FeatureError> {
        match self.form() {
            Form::Bool => Ok(self.array.as_boolean().clone()),
            Form::Text => {
                let words = self.cast(&DataType::Utf8)?;
                self.each(words.as_string::<i32>(), |text| match text {
                    "true" | "True" | "TRUE" | "t" | "1" => Some(true),
                    "false" | "False" | "FALSE" | "f" | "0" => Some(false),
                    _ => None,
                })
            }
            Form::Integer | Form::Unsigned | Form::Real => {
                let numbers = self.cast(&DataType::Float64)?;
                self.each(numbers.as_primitive::<Float64Type>(), |number| match number {
                    0.0 => Some(false),
                    1.0 => Some(true),
                    _ => None,
                })
            }
            _ => Err(self.wrong_type()),
        }
    }

    fn ints(&self) -> Result<Int64Array, FeatureError> {
        match self.form() {
            Form::Bool | Form::Integer => Ok(self.cast(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            Form::Unsigned => {
                let wide = self.cast(&DataType::UInt64)?;
                let wide: &UInt64Array = wide.as_primitive::<UInt64Type>();
                self.each(wide, |number| i64::try_from(number).ok())
            }
            Form::Real => {
                let numbers = self.floats()?;
                self.each(&numbers, integral)
            }
            Form::Text => {
                let words = self.cast(&DataType::Utf8)?;
                self.each(words.as_string::<i32>(), |text| text.trim().parse().ok())
            }
            _ => Err(self.wrong_type()),
        }
    }

    fn floats(&self) -> Result<Float64Array, FeatureError> {
        let numbers = match self.form() {
            Form::Bool | Form::Integer | Form::Unsigned | Form::Real => {
                self.cast(&DataType::Float64)?.as_primitive::<Float64Type>().clone()
            }
            Form::Text => {
                let words = self.cast(&DataType::Utf8)?;
                self.each(words.as_string::<i32>(), |text| text.trim().parse().ok())?
            }
            _ => return Err(self.wrong_type()),
        };
        if numbers.values().iter().any(|number| number.is_nan()) {
            return Ok(numbers.iter().map(|number| number.filter(|number| !number.is_nan())).collect());
        }
        Ok(numbers)
    }

    fn strings(&self) -> Result<StringArray, FeatureError> {
        match self.form() {
            Form::Other => Err(self.wrong_type()),
            _ => Ok(self.cast(&DataType::Utf8)?.as_string::<i32>().clone()),
        }
    }

    fn instants(&self) -> Result<TimestampMicrosecondArray, FeatureError> {
        let found: TimestampMicrosecondArray = match self.form() {
            Form::Text => {
                let words = self.cast(&DataType::Utf8)?;
                self.each(words.as_string::<i32>(), |text| text.parse::<Timestamp>().ok().map(|t| t.0))?
            }
            Form::Integer | Form::Unsigned => {
                let numbers = self.ints()?;
                self.each(&numbers, instant_of_integer)?
            }
            Form::Instant(unit) => {
                let raw = self.array.as_primitive_opt_i64()?;
                self.each(&raw, |value| micros(value, unit))?
            }
            Form::Day => {
                let days = self.cast(&DataType::Date32)?;
                self.each(days.as_primitive::<Date32Type>(), |day| Some(i64::from(day) * 86_400_000_000))?
            }
            Form::Milliseconds => self.each(self.array.as_primitive::<Date64Type>(), |ms| ms.checked_mul(1000))?,
            _ => return Err(self.wrong_type()),
        };
        match (0..found.len()).find(|row| found.is_valid(*row) && !is_writable(found.value(*row))) {
            Some(row) => Err(self.wrong_value(row)),
            None => Ok(found),
        }
    }

    fn form(&self) -> Form {
        Form::of(self.array.data_type())
    }

    fn cast(&self, to: &DataType) -> Result<ArrayRef, FeatureError> {
        if self.array.data_type() == to {
            return Ok(Arc::clone(self.array));
        }
        let options = CastOptions { safe: false, ..Default::default() };
        cast_with_options(self.array, to, &options).map_err(|_| self.wrong_type())
    }

    /// Converts each value; the first that cannot be converted is the error.
    fn each<A, T, C>(&self, array: A, convert: impl Fn(A::Item) -> Option<T>) -> Result<C, FeatureError>
    where
        A: arrow::array::ArrayAccessor,
        C: FromIterator<Option<T>>,
    {
        (0..array.len())
            .map(|row| match array.is_null(row) {
                true => Ok(None),
                false => convert(array.value(row)).map(Some).ok_or_else(|| self.wrong_value(row)),
            })
            .collect()
    }

    fn wrong_value(&self, row: usize) -> FeatureError {
        let value = array_value_to_string(self.array, row).unwrap_or_else(|_| "a value".to_owned());
        let value = match self.form() {
            Form::Text => format!("{value:?}"),
            _ => value,
        };
        FeatureError::Value { column: self.column.name.clone(), row, value, expected: expected(self.column.kind) }
    }

    fn wrong_type(&self) -> FeatureError {
        FeatureError::Type {
            column: self.column.name.clone(),
            found: self.array.data_type().to_string(),
            expected: expected(self.column.kind),
            remedy: "cast it in the query, or correct the column's type in the contract".to_owned(),
        }
    }
}

/// What a type is called in an error.
pub(crate) fn expected(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Bool => "a bool",
        ColumnKind::Int => "an int (a whole number of 64 bits)",
        ColumnKind::Float => "a float",
        ColumnKind::String => "a string",
        ColumnKind::Timestamp => "an instant of the years 0 to 9999",
    }
}

/// The types that Arrow may hand over, as far as they differ here.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Bool,
    Integer,
    Unsigned,
    Real,
    Text,
    Instant(TimeUnit),
    Day,
    Milliseconds,
    Other,
}

impl Form {
    pub(crate) fn of(data_type: &DataType) -> Form {
        match data_type {
            DataType::Boolean => Form::Bool,
            DataType::UInt64 => Form::Unsigned,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Form::Real,
            DataType::Decimal32(..) | DataType::Decimal64(..) => Form::Real,
            DataType::Decimal128(..) | DataType::Decimal256(..) => Form::Real,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Form::Text,
            DataType::Timestamp(unit, _) => Form::Instant(*unit),
            DataType::Date32 => Form::Day,
            DataType::Date64 => Form::Milliseconds,
            DataType::Dictionary(_, values) if Form::of(values) == Form::Text => Form::Text,
            other if other.is_integer() => Form::Integer,
            _ => Form::Other,
        }
    }
}

/// A float with an integral value that 64 bits hold.
pub(crate) fn integral(number: f64) -> Option<i64> {
    // 2^63 is a float; the largest i64 is not.
    let fits = number.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    fits.then_some(number as i64)
}

fn micros(value: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1000)),
    }
}

/// An integer as an instant, by its size: eight digits are a calendar date such as 20130401; from 100 million on it
/// counts seconds since 1970, from 100 billion milliseconds, from 100 trillion microseconds, from 10^17 nanoseconds.
pub(crate) fn instant_of_integer(value: i64) -> Option<i64> {
    match value {
        10_000_000..100_000_000 => {
            let (year, rest) = (value / 10_000, value % 10_000);
            let day = NaiveDate::from_ymd_opt(year as i32, (rest / 100) as u32, (rest % 100) as u32)?;
            Some(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
        }
        100_000_000..100_000_000_000 => micros(value, TimeUnit::Second),
        100_000_000_000..100_000_000_000_000 => micros(value, TimeUnit::Millisecond),
        100_000_000_000_000..100_000_000_000_000_000 => Some(value),
        100_000_000_000_000_000.. => micros(value, TimeUnit::Nanosecond),
        _ => None,
    }
}

/// The 64-bit integers under an instant of any unit.
trait Ticks {
    fn as_primitive_opt_i64(&self) -> Result<Int64Array, FeatureError>;
}

impl Ticks for ArrayRef {
    fn as_primitive_opt_i64(&self) -> Result<Int64Array, FeatureError> {
        let data = self.to_data().into_builder().data_type(DataType::Int64).build()?;
        Ok(Int64Array::from(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{column, contract};
    use arrow::array::*;
    use arrow::datatypes::Int32Type;

    fn one(array: ArrayRef, kind: ColumnKind) -> Result<ArrayRef, FeatureError> {
        let batch = RecordBatch::try_from_iter([("x", array)]).unwrap();
        canonical(&batch, &contract(vec![column("x", kind)])).map(|batch| Arc::clone(batch.column(0)))
    }

    #[track_caller]
    fn becomes(array: impl Array + 'static, kind: ColumnKind, expected: impl Array) {
        let found = one(Arc::new(array), kind).unwrap();
        assert_eq!(found.data_type(), &arrow_type(kind));
        assert_eq!(found.to_data(), expected.to_data());
    }

    fn instants(values: Vec<Option<i64>>) -> TimestampMicrosecondArray {
        TimestampMicrosecondArray::from(values).with_timezone("UTC")
    }

    #[test]
    fn integers_and_floats_of_any_width() {
        let ints = || Int64Array::from(vec![Some(1), None, Some(3)]);
        becomes(Int8Array::from(vec![Some(1), None, Some(3)]), ColumnKind::Int, ints());
        becomes(UInt64Array::from(vec![Some(1), None, Some(3)]), ColumnKind::Int, ints());
        becomes(Float32Array::from(vec![Some(1.0), None, Some(3.0)]), ColumnKind::Int, ints());
        becomes(Float64Array::from(vec![1.0, f64::NAN, 3.0]), ColumnKind::Int, ints());
        becomes(Float64Array::from(vec![1.0, f64::NAN]), ColumnKind::Float, Float64Array::from(vec![Some(1.0), None]));
        becomes(StringArray::from(vec!["1", "2.5"]), ColumnKind::Float, Float64Array::from(vec![1.0, 2.5]));
    }

    #[test]
    fn strings_of_any_layout() {
        let expected = || StringArray::from(vec![Some("a"), None, Some("")]);
        becomes(LargeStringArray::from(vec![Some("a"), None, Some("")]), ColumnKind::String, expected());
        becomes(StringViewArray::from(vec![Some("a"), None, Some("")]), ColumnKind::String, expected());
        let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("")].into_iter().collect();
        becomes(dictionary, ColumnKind::String, expected());
        becomes(Int32Array::from(vec![7]), ColumnKind::String, StringArray::from(vec!["7"]));
    }

    #[test]
    fn instants_of_any_unit() {
        let expected = || instants(vec![Some(1_364_774_400_000_000), None]);
        becomes(TimestampSecondArray::from(vec![Some(1_364_774_400), None]), ColumnKind::Timestamp, expected());
        let there = TimestampNanosecondArray::from(vec![Some(1_364_774_400_000_000_999), None]).with_timezone("+02:00");
        becomes(there, ColumnKind::Timestamp, expected());
        becomes(Date32Array::from(vec![Some(15_796), None]), ColumnKind::Timestamp, expected());
        becomes(StringArray::from(vec![Some("2013-04-01"), None]), ColumnKind::Timestamp, expected());
        becomes(Int64Array::from(vec![Some(20_130_401), None]), ColumnKind::Timestamp, expected());
        becomes(Int64Array::from(vec![Some(1_364_774_400_000), None]), ColumnKind::Timestamp, expected());
    }

    #[test]
    fn what_cannot_be_cast_is_named() {
        let message = |array: ArrayRef, kind| one(array, kind).unwrap_err().to_string();
        let half = message(Arc::new(Float64Array::from(vec![1.0, 2.5])), ColumnKind::Int);
        assert!(half.contains("column \"x\": 2.5") && half.contains("row 1"), "{half}");
        let word = message(Arc::new(StringArray::from(vec!["soon"])), ColumnKind::Timestamp);
        assert!(word.contains("\"soon\" is not an instant"), "{word}");
        let huge = message(Arc::new(UInt64Array::from(vec![u64::MAX])), ColumnKind::Int);
        assert!(huge.contains("18446744073709551615"), "{huge}");
        let far = message(Arc::new(instants(vec![Some(i64::MAX)])), ColumnKind::Timestamp);
        assert!(far.contains("row 0"), "{far}");
    }

    #[test]
    fn a_column_is_found_under_its_alias_and_may_be_absent_where_declared() {
        let distance = Column { aliases: vec!["miles".into(), "dist".into()], ..column("distance", ColumnKind::Int) };
        let note = Column { optional: true, ..column("note", ColumnKind::String) };
        let declared = contract(vec![distance, note]);
        let of = |name: &str| RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(vec![7])) as ArrayRef)]);
        for name in ["distance", "miles", "dist"] {
            let batch = canonical(&of(name).unwrap(), &declared).unwrap();
            assert_eq!(batch.schema().field(0).name(), "distance");
            assert_eq!((batch.column(0).null_count(), batch.column(1).null_count()), (0, 1));
        }
        assert!(canonical(&of("mile").unwrap(), &declared).is_err());
    }

    #[test]
    fn a_missing_column_is_named_with_the_nearest() {
        let batch =
            RecordBatch::try_from_iter([("distence", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let error = canonical(&batch, &contract(vec![column("distance", ColumnKind::Int)])).unwrap_err();
        assert_eq!(error.to_string(), "column \"distance\" is missing; did you mean \"distence\"?");
    }
}
