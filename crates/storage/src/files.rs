//! Tables in files: Parquet, CSV, JSON and Arrow, columns have the types that the file says or all of its rows
//! suggest. What the columns mean is not known here.

use crate::StorageError;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

const ROWS_A_BATCH: usize = 8192;
/// Of a file, what is looked at to tell what separates its columns.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// What separates columns, the usual one first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// What kind of file it is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Parquet,
    /// Named columns in the first line.
    Csv,
    Tsv,
    /// An object a line, or one array of objects.
    Json,
    /// Arrow's IPC format: a file ("feather") or a stream.
    Arrow,
}

/// The names' ends of what can be read.
const KINDS: &str =
    ".parquet, .csv, .tsv, .jsonl, .ndjson, .json, .arrow and .feather are read, the text ones also with .gz";

/// The rows of a file, in pieces.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, StorageError>>>;

/// Reads a whole file.
pub fn read_file(path: &Path) -> Result<RecordBatch, StorageError> {
    let (schema, batches) = batches(path)?;
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    concat_batches(&schema, &batches).map_err(|error| unreadable(path, "one table", &error))
}

/// A file's columns, and its rows in pieces, in their order.
pub(crate) fn batches(path: &Path) -> Result<(SchemaRef, Batches), StorageError> {
    if !path.exists() {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        return Err(StorageError::io("can't read", path)(missing));
    }
    match kind(path)? {
        Kind::Parquet => read_parquet(path),
        Kind::Csv | Kind::Tsv => read_csv(path, delimiter(path)?),
        Kind::Json => read_json(path),
        Kind::Arrow => read_arrow(path),
    }
}

/// Pieces with their errors in our words.
fn told<E>(
    batches: impl Iterator<Item = Result<RecordBatch, E>> + 'static,
    bad: impl Fn(E) -> StorageError + 'static,
) -> Batches {
    Box::new(batches.map(move |batch| batch.map_err(&bad)))
}

/// Whether a file is Parquet, by its name.
pub fn is_parquet(path: &Path) -> Result<bool, StorageError> {
    Ok(kind(path)? == Kind::Parquet)
}

/// What stands for null in a text file.
pub(crate) fn nulls() -> regex::Regex {
    regex::Regex::new("^(NA|N/A|NaN|nan|null|NULL|\\?)?$").expect("the expression is constant and valid")
}

pub(crate) fn kind(path: &Path) -> Result<Kind, StorageError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (stem, packed) = name.strip_suffix(".gz").map_or((name.as_str(), false), |stem| (stem, true));
    let found = match stem.rsplit_once('.').map_or("", |(_, end)| end) {
        "csv" => Some(Kind::Csv),
        "tsv" => Some(Kind::Tsv),
        "jsonl" | "ndjson" | "json" => Some(Kind::Json),
        "parquet" | "pq" if !packed => Some(Kind::Parquet),
        "arrow" | "feather" | "ipc" if !packed => Some(Kind::Arrow),
        _ => None,
    };
    found.ok_or_else(|| {
        let path = path.display();
        StorageError::Data(format!("{path}: what kind of file this is can't be told from its name; {KINDS}"))
    })
}

pub(crate) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// The bytes of a text file, unpacked where its name ends in `.gz`.
fn open(path: &Path) -> Result<Box<dyn BufRead>, StorageError> {
    let file = File::open(path).map_err(StorageError::io("can't read", path))?;
    Ok(match is_packed(path) {
        true => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        false => Box::new(BufReader::new(file)),
    })
}

/// What separates the columns of a CSV file: of comma, semicolon, tab and bar the one that the first line has most of
/// outside of quotes; the comma where there is none. Of a TSV file the tab.
pub(crate) fn delimiter(path: &Path) -> Result<u8, StorageError> {
    if kind(path)? == Kind::Tsv {
        return Ok(b'\t');
    }
    let mut bytes = Vec::new();
    let mut head = open(path)?.take(HEADER_BYTES_MAX as u64);
    head.read_to_end(&mut bytes).map_err(StorageError::io("can't read", path))?;
    let mut counts = [0usize; DELIMITERS.len()];
    let mut quoted = false;
    for byte in bytes {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            _ if quoted => {}
            _ => {
                if let Some(place) = DELIMITERS.iter().position(|delimiter| *delimiter == byte) {
                    counts[place] += 1;
                }
            }
        }
    }
    let most = counts.iter().copied().max().unwrap_or_default();
    Ok(counts.iter().position(|count| *count == most).map_or(b',', |place| DELIMITERS[place]))
}

fn read_parquet(path: &Path) -> Result<(SchemaRef, Batches), StorageError> {
    let file = File::open(path).map_err(StorageError::io("can't read", path))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(path, "Parquet", &error))?;
    let schema = Arc::clone(builder.schema());
    let reader = builder.with_batch_size(64 * 1024).build().map_err(|error| unreadable(path, "Parquet", &error))?;
    let place = path.to_owned();
    Ok((schema, told(reader, move |error| unreadable(&place, "Parquet", &error))))
}

/// Why a CSV file can't be read, and what to do about it.
pub(crate) fn csv_trouble(path: &Path, error: &ArrowError) -> StorageError {
    let text = error.to_string();
    let text = text.strip_prefix("Csv error: ").unwrap_or(&text);
    let advice = "mend that line, or quote the field that holds the delimiter";
    StorageError::Data(format!("{} can't be read as CSV: {text}; {advice}", path.display()))
}

fn read_csv(path: &Path, delimiter: u8) -> Result<(SchemaRef, Batches), StorageError> {
    let bad = |error: ArrowError| csv_trouble(path, &error);
    let format = || Format::default().with_header(true).with_delimiter(delimiter).with_null_regex(nulls());
    // The types are inferred from all rows, so that a late surprise is no error.
    let (schema, _) = format().infer_schema(open(path)?, None).map_err(bad)?;
    let schema = settle(&schema);
    let reader = arrow::csv::ReaderBuilder::new(Arc::clone(&schema))
        .with_format(format())
        .with_batch_size(ROWS_A_BATCH)
        .build_buffered(open(path)?)
        .map_err(bad)?;
    let place = path.to_owned();
    Ok((schema, told(reader, move |error| csv_trouble(&place, &error))))
}

/// A column without any value is taken as text; every column may hold nulls.
fn settle(schema: &Schema) -> SchemaRef {
    let settled = |field: &Arc<Field>| {
        let kind = if field.data_type() == &DataType::Null { DataType::Utf8 } else { field.data_type().clone() };
        Field::new(field.name(), kind, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(settled).collect::<Vec<_>>()))
}

fn read_json(path: &Path) -> Result<(SchemaRef, Batches), StorageError> {
    let mut text = open(path)?;
    let start = text.fill_buf().map_err(StorageError::io("can't read", path))?;
    let objects = match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => Some(array_as_lines(path, text)?),
        _ => None,
    };
    let lines = || -> Result<Box<dyn BufRead>, StorageError> {
        Ok(match &objects {
            Some(lines) => Box::new(Cursor::new(Arc::clone(lines))),
            None => open(path)?,
        })
    };
    let bad = |error: ArrowError| json_trouble(path, &error);
    let (schema, _) = arrow::json::reader::infer_json_schema(lines()?, None).map_err(bad)?;
    let schema = settle(&schema);
    let reader = arrow::json::ReaderBuilder::new(Arc::clone(&schema))
        .with_coerce_primitive(true)
        .with_batch_size(ROWS_A_BATCH)
        .build(lines()?)
        .map_err(bad)?;
    let place = path.to_owned();
    Ok((schema, told(reader, move |error| json_trouble(&place, &error))))
}

fn json_trouble(path: &Path, error: &ArrowError) -> StorageError {
    let text = error.to_string();
    unreadable(path, "JSON", &text.strip_prefix("Json error: ").unwrap_or(&text))
}

fn array_as_lines(path: &Path, text: impl Read) -> Result<Arc<[u8]>, StorageError> {
    let rows: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_reader(text).map_err(|error| unreadable(path, "a JSON array of objects", &error))?;
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, &row).map_err(|error| unreadable(path, "JSON", &error))?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

fn read_arrow(path: &Path) -> Result<(SchemaRef, Batches), StorageError> {
    let io = |error| StorageError::io("can't read", path)(error);
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut magic = [0; 6];
    let length = file.read(&mut magic).map_err(io)?;
    file.rewind().map_err(io)?;
    let bad = |error: ArrowError| unreadable(path, "Arrow", &error);
    let place = path.to_owned();
    let later = move |error: ArrowError| unreadable(&place, "Arrow", &error);
    match &magic {
        b"ARROW1" => {
            let reader = arrow_ipc::reader::FileReader::try_new(file, None).map_err(bad)?;
            Ok((reader.schema(), told(reader, later)))
        }
        // A message begins with a mark of four such bytes.
        [0xff, 0xff, 0xff, 0xff, ..] if length == magic.len() => {
            let reader = arrow_ipc::reader::StreamReader::try_new(file, None).map_err(bad)?;
            Ok((reader.schema(), told(reader, later)))
        }
        _ => Err(unreadable(path, "Arrow", &"it begins neither as a file nor as a stream does")),
    }
}

fn unreadable(path: &Path, kind: &str, error: &dyn std::fmt::Display) -> StorageError {
    StorageError::Data(format!("{} can't be read as {kind}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int64Type};
    use std::io::Write;

    /// Two rows: `n` 1 and 2, `x` 0.5 and null, `word` "a;b" and "c".
    fn assert_two_rows(path: &Path) {
        let rows = read_file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let column = |name: &str| rows.column_by_name(name).unwrap_or_else(|| panic!("{}: no {name}", path.display()));
        assert_eq!(column("n").as_primitive::<Int64Type>().values(), &[1, 2], "{}", path.display());
        let x = column("x").as_primitive::<Float64Type>();
        assert!(x.value(0) == 0.5 && x.null_count() == 1, "{}", path.display());
        let word = column("word").as_string::<i32>();
        assert_eq!([word.value(0), word.value(1)], ["a;b", "c"], "{}", path.display());
    }

    #[test]
    fn the_same_rows_are_read_from_every_kind_of_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("comma.csv", "n,x,word\n1,0.5,a;b\n2,,c\n"),
            ("semicolon.csv", "n;x;word\n1;0.5;\"a;b\"\n2;;c\n"),
            ("bar.CSV", "n|x|word\n1|0.5|a;b\n2|NA|c\n"),
            ("tab.csv", "\"n\"\tx\tword\n1\t0.5\ta;b\n2\t\tc\n"),
            ("tab.tsv", "n\tx\tword\n1\t0.5\ta;b\n2\t?\tc\n"),
            ("lines.jsonl", "{\"n\":1,\"x\":0.5,\"word\":\"a;b\"}\n{\"word\":\"c\",\"n\":2}\n"),
            ("lines.json", "{\"n\":1,\"x\":0.5,\"word\":\"a;b\"}\n{\"n\":2,\"x\":null,\"word\":\"c\"}"),
            ("array.json", " [{\"n\":1,\"x\":0.5,\"word\":\"a;b\"},\n {\"n\":2,\"x\":null,\"word\":\"c\"}]"),
        ] {
            std::fs::write(at(name), text).unwrap();
            assert_two_rows(&at(name));
            let packed = at(&format!("{name}.gz"));
            let mut writer = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), Default::default());
            writer.write_all(text.as_bytes()).unwrap();
            writer.finish().unwrap();
            assert_two_rows(&packed);
        }
        let rows = read_file(&at("comma.csv")).unwrap();
        let file = File::create(at("rows.feather")).unwrap();
        let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        assert_two_rows(&at("rows.feather"));
        let file = File::create(at("rows.arrow")).unwrap();
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(file, &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        assert_two_rows(&at("rows.arrow"));
    }

    #[test]
    fn what_is_broken_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let said = |name: &str, bytes: &str| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            let error = read_file(&folder.path().join(name)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            error
        };
        assert!(said("ragged.csv", "a,b\n1,x\n2\n3,y\n").contains("line 3"));
        assert!(said("broken.parquet", "no parquet").contains("as Parquet"));
        assert!(said("broken.arrow", "no arrow").contains("as Arrow"));
        assert!(said("broken.feather", "ARROW1 and then nothing").contains("as Arrow"));
        assert!(said("broken.jsonl", "{\"a\":1}\n{\"a\":").contains("as JSON"));
        assert!(said("broken.json", "[{\"a\":1}, 2]").contains("array of objects"));
        said("no.csv.gz", "a,b\n1,2\n");
        assert!(said("table.xlsx", "").contains(".jsonl"));
        let missing = read_file(&folder.path().join("nowhere.csv")).unwrap_err().to_string();
        assert!(missing.contains("nowhere.csv") && missing.contains("no such file"), "{missing}");
    }

    #[test]
    fn an_empty_file_has_no_columns_and_a_header_no_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.csv");
        std::fs::write(&path, "").unwrap();
        assert_eq!(read_file(&path).map_or(0, |rows| rows.num_rows()), 0);
        std::fs::write(&path, "a,b\n").unwrap();
        let rows = read_file(&path).unwrap();
        assert_eq!((rows.num_rows(), rows.num_columns()), (0, 2));
    }
}
