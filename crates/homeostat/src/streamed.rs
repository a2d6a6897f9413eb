//! The rows of one Parquet file as training wants them, without ever holding them all: in canonical form, the contract
//! enforced, those that were known by then. What is learned from them is not known here.

use crate::project::Project;
use crate::runs;
use crate::training::{Order, first_reason, known_before, threads, warn_of};
use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use features::{Enforced, Enforcer, FeatureError, Violations};
use learning::{Batches, LearnError, RowSource};
use rayon::prelude::*;
use std::sync::atomic::Ordering;
use storage::parts::ParquetFile;
use vocabulary::model::LearnerKind;
use vocabulary::{Contract, ModelSpec, Timestamp};

/// Rows of the file that one thread counts at a time.
const STRETCH_ROWS: u64 = 1 << 20;

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
    enforcer: Enforcer,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    marks: Vec<Mark>,
    pub violations: Violations,
}

/// What counting a stretch found; `kept` counts from the stretch on.
#[derive(Default)]
struct Stretch {
    marks: Vec<Mark>,
    kept: u64,
    /// Time and place of the first row that has a time, and of the last.
    span: Option<[(Timestamp, u64); 2]>,
    violations: Violations,
    reason: Option<String>,
}

/// The file that is to be read in pieces: asked for, or too large to be loaded, and of a kind that allows it.
pub fn file(project: &Project, spec: &ModelSpec, order: &Order) -> Result<Option<ParquetFile>> {
    let learner = order.learner.unwrap_or(spec.learner.kind);
    let path = spec.data.file.as_ref().map(|file| project.root.join(file));
    let parquet = match &path {
        Some(path) if order.log.is_none() => storage::engine::is_parquet(path)?,
        _ => false,
    };
    let Some(path) = path.filter(|_| parquet && learner == LearnerKind::Linear) else {
        if order.stream {
            bail!(
                "--stream: only the learner \"linear\" learns from rows in pieces, and only from one Parquet file; model \
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
    pub fn open(project: &'a Project, spec: &'a ModelSpec, order: &Order, file: ParquetFile) -> Result<FileRows<'a>> {
        let contract = project.contract_of(spec);
        let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
        // An empty batch has all columns: what is missing is said with what there is.
        features::canonical(&RecordBatch::new_empty(file.schema().clone()), contract).with_context(|| {
            format!("the data of model \"{}\" does not fit contract \"{}\"", spec.name, contract.name)
        })?;
        let enforcer = Enforcer::new(contract, &columns)?;
        let (from, to, marks, violations) = (order.from, order.to, Vec::new(), Violations::default());
        let mut rows = FileRows { file, columns, spec, contract, enforcer, from, to, marks, violations };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads(order.threads)).build()?;
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
            self.violations.merge(&stretch.violations);
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
        warn_of(&self.violations, self.contract, &reason);
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
            let enforced = self.clean(&raw, row, &mut found.violations)?;
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

    /// Rows of a batch that begins at place `row` of the file, as they are learned from.
    fn clean(&self, raw: &RecordBatch, row: u64, violations: &mut Violations) -> Result<Enforced, LearnError> {
        let batch = features::canonical(raw, self.contract).map_err(|error| counted(error, row))?;
        let known =
            known_before(&batch, self.spec, self.from, self.to).map_err(|error| LearnError::Source(error.into()))?;
        Ok(self.enforcer.enforce(&known, violations)?)
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
        let raw = self.file.batches(mark.row..self.file.rows(), &self.columns).map_err(source)?;
        let (mut row, mut skip) = (mark.row, (first - mark.kept) as usize);
        Ok(Box::new(raw.filter_map(move |raw| {
            let enforced = raw.map_err(source).and_then(|raw| {
                let enforced = self.clean(&raw, row, &mut Violations::default());
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
            (rest.num_rows() > 0).then_some(Ok(rest))
        })))
    }
}
