//! The rows of one Parquet file as training wants them, without ever holding them all: in canonical form, the contract
//! enforced, those that were known by then. What is learned from them is not known here.

use crate::project::Project;
use crate::runs;
use crate::screening::{Screen, Screened};
use crate::training::{Order, first_reason, known_rows, threads, warn_of};
use crate::windows::Windows;
use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use features::{Enforced, FeatureError, Observed};
use learning::{Batches, LearnError, RowSource};
use rayon::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use storage::parts::{ParquetFile, ROWS_A_BATCH};
use vocabulary::model::LearnerKind;
use vocabulary::{Contract, ModelSpec, Timestamp};

/// Rows of the file that one thread counts at a time.
const STRETCH_ROWS: u64 = 1 << 20;

/// Passes that training has open at the same time.
const PASSES: u64 = 32;

/// Memory that their readers may hold together before they take turns.
const READERS_BYTES_MAX: u64 = 256 << 20;

/// Memory of what is read ahead when they do.
const TURNS_BYTES: u64 = 96 << 20;

/// Where a batch of the file begins.
#[derive(Clone, Copy)]
struct Mark {
    /// Its first row's place in the file.
    row: u64,
    /// Rows before it that are learned from.
    kept: u64,
}

/// The file, counted once: where each batch begins, and what of it breaks the contract.
pub struct FileRows<'a> {
    file: ParquetFile,
    columns: Vec<String>,
    spec: &'a ModelSpec,
    contract: &'a Contract,
    pub screen: Screen,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    marks: Vec<Mark>,
    turns: Option<Turns>,
    pub seen: Observed,
    /// What is computed of the rows that are learned from.
    pub windows: Windows,
}

/// Of a wide file, each open reader holds tens of megabytes. Instead of staying open, a pass then reads some rows ahead,
/// when it is its turn, and closes the file: pages are read several times.
struct Turns {
    /// Rows that are read at a time.
    rows: u64,
    /// One for each reader that may be open.
    gates: Vec<Mutex<()>>,
}

impl Turns {
    fn of(file: &ParquetFile, threads: usize) -> Option<Turns> {
        if PASSES * file.reader_bytes() <= READERS_BYTES_MAX {
            return None;
        }
        let row_bytes = (file.memory_bytes() / file.rows().max(1)).max(1);
        let rows = (TURNS_BYTES / PASSES / row_bytes).next_multiple_of(ROWS_A_BATCH as u64);
        Some(Turns { rows, gates: (0..threads).map(|_| Mutex::new(())).collect() })
    }
}

/// What counting a stretch found; `kept` counts from the stretch on.
#[derive(Default)]
struct Stretch {
    marks: Vec<Mark>,
    kept: u64,
    /// Time and place of the first row that has a time, and of the last.
    span: Option<[(Timestamp, u64); 2]>,
    screened: Screened,
    reason: Option<String>,
}

/// The file that is to be read in pieces: asked for, or too large to be loaded, and of a kind that allows it.
pub fn file(project: &Project, spec: &ModelSpec, order: &Order) -> Result<Option<ParquetFile>> {
    let learner = order.learner.unwrap_or(spec.learner.kind);
    let path = spec.data.file.as_ref().map(|file| project.root.join(file));
    let parquet = match &path {
        Some(path) if order.log.is_none() && spec.data.joins.is_empty() => storage::engine::is_parquet(path)?,
        _ => false,
    };
    let Some(path) = path.filter(|_| parquet && learner == LearnerKind::Linear) else {
        if order.stream {
            bail!(
                "--stream: only the learner \"linear\" learns from rows in pieces, and only from one Parquet file without joins; model \
                 \"{}\" has the learner \"{}\" and {}",
                spec.name,
                learner.name(),
                spec.data.file.as_ref().or(spec.data.sql.as_ref()).map_or("no data", String::as_str)
            );
        }
        return Ok(None);
    };
    let file = ParquetFile::open(&path)?;
    let large = file.memory_bytes() > project.config.engine.load_bytes_max;
    Ok((order.stream || large).then_some(file))
}

impl<'a> FileRows<'a> {
    pub fn open(
        contract: &'a Contract,
        spec: &'a ModelSpec,
        order: &Order,
        file: ParquetFile,
        screen: Screen,
    ) -> Result<FileRows<'a>> {
        let declared: Vec<String> = contract.column_names().map(str::to_owned).collect();
        let columns = contract.names_in_data(&declared).map(str::to_owned).collect();
        // An empty batch has all columns: what is missing is said with what there is.
        features::canonical(&RecordBatch::new_empty(file.schema().clone()), contract).with_context(|| {
            format!("the data of model \"{}\" does not fit contract \"{}\"", spec.name, contract.name)
        })?;
        let (from, to, marks, seen) = (order.from, order.to, Vec::new(), Observed::default());
        let threads = threads(order.threads);
        let turns = Turns::of(&file, threads);
        let windows = Windows::default();
        let mut rows = FileRows { file, columns, spec, contract, screen, from, to, marks, turns, seen, windows };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| rows.count())?;
        Ok(rows)
    }

    fn count(&mut self) -> Result<()> {
        let whole = self.file.rows();
        let starts: Vec<u64> = (0..whole).step_by(STRETCH_ROWS as usize).collect();
        let stretches: Vec<Stretch> =
            starts.into_par_iter().map(|start| self.stretch(start)).collect::<Result<_, LearnError>>()?;
        let (mut kept, mut last, mut reason) = (0, None, None);
        for stretch in stretches {
            self.marks.extend(stretch.marks.iter().map(|mark| Mark { kept: kept + mark.kept, ..*mark }));
            kept += stretch.kept;
            self.screen.keep(stretch.screened.aside)?;
            self.seen.merge(stretch.screened.seen);
            reason = reason.or(stretch.reason);
            if let Some([first, end]) = stretch.span {
                if last.is_some_and(|last| first.0 < last) {
                    return Err(self.disorder(first.1).into());
                }
                last = Some(end.0);
            }
        }
        let reason = reason.unwrap_or_default();
        if kept == 0 {
            bail!("model \"{}\": no row is left to learn from{reason}", self.spec.name);
        }
        warn_of(&self.seen.violations, self.contract, &reason);
        Ok(())
    }

    fn stretch(&self, start: u64) -> Result<Stretch, LearnError> {
        let mut found = Stretch::default();
        let mut row = start;
        for raw in self.file.batches(start..start + STRETCH_ROWS, &self.columns).map_err(source)? {
            if runs::stop().load(Ordering::Relaxed) {
                return Err(LearnError::Stopped);
            }
            let raw = raw.map_err(source)?;
            found.marks.push(Mark { row, kept: found.kept });
            let enforced = self.clean(&raw, row, Some(&mut found.screened))?;
            found.kept += enforced.batch.num_rows() as u64;
            if found.reason.is_none() && !enforced.rejected.is_empty() {
                found.reason = Some(first_reason(&enforced.rejected, row));
            }
            self.note_times(&enforced.batch, row, &mut found)?;
            row += raw.num_rows() as u64;
        }
        Ok(found)
    }

    /// Rows without a time are no matter of order; training refuses them.
    fn note_times(&self, batch: &RecordBatch, row: u64, found: &mut Stretch) -> Result<(), LearnError> {
        let column = self.spec.time.as_deref().and_then(|name| batch.column_by_name(name));
        let Some(times) = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>()) else {
            return Ok(());
        };
        for time in (0..times.len()).filter(|row| times.is_valid(*row)).map(|row| Timestamp(times.value(row))) {
            let span = found.span.get_or_insert([(time, row); 2]);
            if time < span[1].0 {
                return Err(self.disorder(row));
            }
            span[1] = (time, row);
        }
        Ok(())
    }

    fn disorder(&self, row: u64) -> LearnError {
        let what = format!(
            "{} is read in pieces, in its own order, but is not sorted: among the rows from {row} on one is older, by \
             column \"{}\", than one before it; sort the file by that column",
            self.file.path().display(),
            self.spec.time.as_deref().unwrap_or_default()
        );
        LearnError::Source(what.into())
    }

    /// The file from a row on, as it is.
    fn raw(&self, first: u64) -> Result<Batches<'_>, LearnError> {
        let whole = self.file.rows();
        let Some(turns) = &self.turns else {
            let batches = self.file.batches(first..whole, &self.columns).map_err(source)?;
            return Ok(Box::new(batches.map(|batch| batch.map_err(source))));
        };
        let starts = (first..whole).step_by(turns.rows as usize);
        Ok(Box::new(starts.flat_map(move |start| {
            let gate = &turns.gates[(start / turns.rows) as usize % turns.gates.len()];
            let _turn = gate.lock().unwrap_or_else(PoisonError::into_inner);
            match self.file.batches(start..start + turns.rows, &self.columns) {
                Ok(batches) => batches.map(|batch| batch.map_err(source)).collect(),
                Err(error) => vec![Err(source(error))],
            }
        })))
    }

    /// Rows of a batch that begins at place `row` of the file, as they are learned from.
    fn clean(&self, raw: &RecordBatch, row: u64, counted: Option<&mut Screened>) -> Result<Enforced, LearnError> {
        let batch = features::canonical(raw, self.contract).map_err(|error| self::counted(error, row))?;
        let screen = || {
            let places = known_rows(&batch, self.spec, self.from, self.to)?;
            let known = match &places {
                Some(places) => &take_record_batch(&batch, places)?,
                None => &batch,
            };
            let place = |at: usize| row + places.as_ref().map_or(at as u64, |places| u64::from(places.value(at)));
            match counted {
                Some(screened) => self.screen.count(known, &place, screened),
                None => self.screen.clean(known, &place),
            }
        };
        screen().map_err(|error| LearnError::Source(error.into()))
    }
}

fn source(error: storage::StorageError) -> LearnError {
    LearnError::Source(error.into())
}

/// Errors count rows in the batch; people count them in the file.
pub fn counted(mut error: FeatureError, before: u64) -> FeatureError {
    if let FeatureError::Value { row, .. } = &mut error {
        *row += before as usize;
    }
    error
}

impl RowSource for FileRows<'_> {
    fn pass(&self, first: u64) -> Result<Batches<'_>, LearnError> {
        let place = self.marks.partition_point(|mark| mark.kept <= first);
        let Some(mark) = self.marks[..place].last() else { return Ok(Box::new(std::iter::empty())) };
        let raw = self.raw(mark.row)?;
        let (mut row, mut skip) = (mark.row, (first - mark.kept) as usize);
        Ok(Box::new(raw.filter_map(move |raw| {
            let enforced = raw.and_then(|raw| {
                let enforced = self.clean(&raw, row, None);
                row += raw.num_rows() as u64;
                enforced
            });
            let batch = match enforced {
                Ok(enforced) => enforced.batch,
                Err(error) => return Some(Err(error)),
            };
            let passed = skip.min(batch.num_rows());
            skip -= passed;
            let rest = batch.slice(passed, batch.num_rows() - passed);
            let widened = || self.windows.attach(&rest).map_err(|error| LearnError::Source(error.into()));
            (rest.num_rows() > 0).then(widened)
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::compute::concat_batches;
    use std::sync::Arc;
    use storage::parts::{Format, TableWriter};
    use vocabulary::Repair;

    fn table(rows: i64) -> RecordBatch {
        let times = TimestampMicrosecondArray::from_iter_values((0..rows).map(|row| row / 3 * 1_000_000));
        let price = Float64Array::from_iter_values((0..rows).map(|row| if row % 7 == 0 { -1.0 } else { row as f64 }));
        let shop = StringArray::from_iter_values((0..rows).map(|row| format!("s{}", row % 50)));
        let sold = Int64Array::from_iter_values((0..rows).map(|row| row % 2));
        let columns: [(&str, ArrayRef); 4] = [
            ("at", Arc::new(times.with_timezone("UTC"))),
            ("price", Arc::new(price)),
            ("shop", Arc::new(shop)),
            ("sold", Arc::new(sold)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn declared(table: &RecordBatch) -> (Contract, ModelSpec) {
        let hints =
            features::InferHints { name: "sale".into(), target: "sold".into(), time: Some("at".into()), key: None };
        let mut contract = features::infer_contract(table, &hints).unwrap();
        let price = contract.columns.iter_mut().find(|column| column.name == "price").unwrap();
        (price.range, price.repair) = (Some([0.0, 1e9]), Repair::Reject);
        let spec =
            "name = \"sale\"\ncontract = \"sale\"\ntask = \"binary\"\ntarget = \"sold\"\ntime = \"at\"\n[data]\n";
        (contract, toml::from_str(spec).unwrap())
    }

    fn rows(batches: Batches<'_>) -> Vec<RecordBatch> {
        batches.map(Result::unwrap).collect()
    }

    #[test]
    fn a_pass_from_any_row_on_has_the_rest_of_the_rows_in_turns_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, table) = (folder.path().join("t.parquet"), table(60_000));
        let mut writer = TableWriter::create(&folder.path().join("beside"), Format::Parquet, &table.schema()).unwrap();
        writer.write(&table).unwrap();
        writer.finish(&path, &[]).unwrap();
        let (contract, spec) = declared(&table);
        let order = Order { from: Some(Timestamp(1_000_000_000)), ..Order::default() };
        let file = FileRows::open(
            &contract,
            &spec,
            &order,
            ParquetFile::open(&path).unwrap(),
            Screen::bare(&contract).unwrap(),
        );
        let mut file = file.unwrap();
        assert!(file.turns.is_none());
        assert_eq!(file.seen.violations.rows, 57_000, "from the thousandth second on");
        let all = rows(file.pass(0).unwrap());
        let schema = all[0].schema();
        let all = concat_batches(&schema, &all).unwrap();
        assert_eq!(all.num_rows() as u64, 57_000 - file.seen.violations.rejected_rows);
        assert!(file.seen.violations.rejected_rows > 8000);
        for turns in [None, Some(Turns { rows: 8192, gates: vec![Mutex::new(())] })] {
            file.turns = turns;
            for first in [0, 1, 7000, 8191, 30_001, all.num_rows() - 1, all.num_rows()] {
                let rest = concat_batches(&schema, &rows(file.pass(first as u64).unwrap())).unwrap();
                assert_eq!(rest, all.slice(first, all.num_rows() - first), "from {first}");
            }
        }
    }
}
