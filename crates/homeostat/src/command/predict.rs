//! Batch `predict`: a file scored part by part, with the same pipeline and kernels as in serving. What is done stays where
//! a run is cut off, and is not done again; memory holds one part of answers, and of the rows a batch for each core.

use super::versions::resolve;
use crate::artifact::Artifact;
use crate::cli::Predict;
use crate::input::Input;
use crate::output;
use crate::parts::Parts;
use crate::project::Project;
use crate::quarantine::{Aside, Corrections, Quarantine};
use crate::runs;
use crate::streamed::counted;
use crate::windows::Windows;
use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use features::{Enforcer, Violations};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage::catalog::Version;
use storage::parts::{Format, ROWS_A_BATCH};
use vocabulary::answer::most_probable;

pub async fn run(project: &Project, args: &Predict, json: bool) -> Result<bool> {
    let version = named_or_newest(project, &args.model).await?;
    let format = Format::of(&args.out)
        .with_context(|| format!("--out {}: name a .parquet or a .csv file", args.out.display()))?;
    let artifact = Artifact::load(project, &version)?;
    runs::stop_when_asked()?;
    let job = Job::new(project, &artifact, &args.data)?;
    let part_rows = u64::from(project.config.engine.scoring_rows);
    let done = job.run(part_rows, &args.out, format)?;
    let Total { rows, rows_before, violations } = &done;
    let refused = violations.rejected_rows + violations.quarantined_rows;
    let shown = json!({ "version": version.name(), "rows": rows, "rows_refused": refused, "rows_before": rows_before,
        "violations": violations, "out": args.out });
    output::show(json, &shown, || {
        let out = args.out.display();
        let kept = if *rows_before > 0 { format!(" ({rows_before} of them earlier)") } else { String::new() };
        format!("{}: {rows} rows scored{kept}, {refused} refused, written to {out}", version.name())
    })?;
    Ok(refused == 0)
}

/// The version that is named; of a model the live one, or the newest where none is live.
async fn named_or_newest(project: &Project, model: &str) -> Result<Version> {
    let text = if model.contains('@') { model.to_owned() } else { format!("{model}@live") };
    match resolve(project, &text).await {
        Err(_) if !model.contains('@') => {
            project.model(model)?;
            let newest = project.catalog().await?.versions(Some(model)).await?.pop();
            newest
                .with_context(|| format!("model \"{model}\" has no version; train one with `homeostat train {model}`"))
        }
        resolved => resolved,
    }
}

struct Job<'a> {
    artifact: &'a Artifact,
    path: PathBuf,
    input: Input,
    enforcer: Enforcer,
    quarantine: Quarantine,
    corrections: Corrections,
    windows: Windows,
    /// The file as records call it.
    source: String,
    /// The columns that are read.
    columns: Vec<String>,
    /// The column that identifies a row, where declared and there.
    key: Option<&'a str>,
    schema: SchemaRef,
}

/// Answers, what broke the contract, and what is set aside of it.
type Scored = (Vec<RecordBatch>, Violations, Aside);

struct Total {
    /// Rows with an answer.
    rows: u64,
    /// Those of them that an earlier run had scored.
    rows_before: u64,
    violations: Violations,
}

impl<'a> Job<'a> {
    fn new(project: &Project, artifact: &'a Artifact, path: &Path) -> Result<Job<'a>> {
        let input = Input::open(path)?;
        if input.rows() > u64::from(u32::MAX) {
            bail!("{} has {} rows, of {} at most; score it in several files", path.display(), input.rows(), u32::MAX);
        }
        let found = input.schema();
        // An empty batch has all columns: what is missing is said with what there is.
        features::canonical_columns(&RecordBatch::new_empty(found.clone()), &artifact.contract, &artifact.inputs)
            .with_context(|| unfit(path, artifact))?;
        let enforcer = Enforcer::new(&artifact.contract, &artifact.inputs)?;
        let key = artifact.spec.key.as_deref().filter(|key| found.column_with_name(key).is_some());
        let quarantine = Quarantine::of(project, &artifact.contract.name);
        let source = project.file_name(path);
        let corrections = quarantine.corrections(&artifact.contract, &enforcer, &source, &artifact.inputs, None)?;
        let mut columns: Vec<String> = artifact.contract.names_in_data(&artifact.inputs).map(str::to_owned).collect();
        columns.extend(key.map(str::to_owned));
        let schema = schema(artifact, key);
        let path = path.to_owned();
        let windows = Windows::open(project, &artifact.spec, &BTreeMap::new())?;
        Ok(Job { artifact, path, input, enforcer, quarantine, corrections, windows, source, columns, key, schema })
    }

    /// Parts of `part_rows` rows one after the other, those that an earlier run has done left out, then the whole.
    fn run(&self, part_rows: u64, out: &Path, format: Format) -> Result<Total> {
        let parts = Parts::open(out, &self.marker(part_rows)?)?;
        let bar = output::bar("scoring");
        bar.set_length(self.input.rows());
        let count = self.input.rows().div_ceil(part_rows);
        let mut total = Total { rows: 0, rows_before: 0, violations: Violations::default() };
        for number in 0..count {
            let rows = number * part_rows..((number + 1) * part_rows).min(self.input.rows());
            if runs::stop().load(Ordering::Relaxed) {
                bar.finish_and_clear();
                bail!(
                    "asked to stop after {} of {} rows; begun again, it goes on there",
                    rows.start,
                    self.input.rows()
                );
            }
            if let Some(done) = parts.done(number) {
                total.rows += done.rows;
                total.rows_before += done.rows;
                total.violations.merge(&done.violations);
            } else {
                let (batches, violations, aside) = self.score(&rows, &bar)?;
                self.quarantine.keep(&self.source, aside)?;
                parts.keep(number, &self.schema, &batches, &violations)?;
                total.rows += batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
                total.violations.merge(&violations);
            }
            bar.set_position(rows.end);
        }
        bar.set_message("writing");
        parts.join(count, &self.schema, out, format)?;
        bar.finish_and_clear();
        Ok(total)
    }

    /// What the parts are of: the version's bytes, this program's, and the input file, by what changes when it does.
    fn marker(&self, part_rows: u64) -> Result<Value> {
        let file = std::fs::metadata(&self.path).with_context(|| format!("can't read {}", self.path.display()))?;
        Ok(json!({
            "version": self.artifact.digest,
            "number": self.artifact.number,
            "program": env!("CARGO_PKG_VERSION"),
            "part_rows": part_rows,
            "corrections": self.corrections.files,
            "events": self.windows.until(),
            "input": {
                "device": file.dev(),
                "inode": file.ino(),
                "bytes": file.len(),
                "modified": [file.mtime(), file.mtime_nsec()],
                "changed": [file.ctime(), file.ctime_nsec()],
            },
        }))
    }

    /// The answers of one part, in order. Each core takes one stretch of it; how it is cut changes no answer.
    fn score(&self, rows: &Range<u64>, bar: &ProgressBar) -> Result<Scored> {
        let cores = rayon::current_num_threads() as u64;
        let length = (rows.end - rows.start).div_ceil(cores).next_multiple_of(ROWS_A_BATCH as u64);
        let starts: Vec<u64> = rows.clone().step_by(length as usize).collect();
        let stretches: Vec<Scored> = starts
            .into_par_iter()
            .map(|start| self.stretch(start..(start + length).min(rows.end), bar))
            .collect::<Result<_>>()?;
        let (mut batches, mut violations, mut aside) = Scored::default();
        for (more, found, set_aside) in stretches {
            batches.extend(more);
            violations.merge(&found);
            aside.append(set_aside);
        }
        Ok((batches, violations, aside))
    }

    fn stretch(&self, rows: Range<u64>, bar: &ProgressBar) -> Result<Scored> {
        let (mut answered, mut violations, mut aside) = Scored::default();
        let mut at = rows.start;
        for raw in self.input.batches(rows, &self.columns)? {
            let raw = raw?;
            let batch = features::canonical_columns(&raw, &self.artifact.contract, &self.artifact.inputs)
                .map_err(|error| counted(error, at))
                .with_context(|| unfit(&self.path, self.artifact))?;
            let enforced = self.enforcer.enforce(&batch, &mut violations)?;
            let place = |row: usize| at + row as u64;
            let (enforced, mended) = self.corrections.mend(&batch, &place, enforced)?;
            violations.quarantined_rows -= mended;
            aside.add(&batch, &place, &enforced.quarantined)?;
            if enforced.batch.num_rows() > 0 {
                let answers = self.artifact.answer(&self.windows.attach(&enforced.batch)?)?;
                answered.push(self.table(&raw, at as u32, enforced.kept, &answers)?);
            }
            at += raw.num_rows() as u64;
            bar.inc(raw.num_rows() as u64);
        }
        Ok((answered, violations, aside))
    }

    /// Place in the file, key where there is one, and the answer: a value, or the label and the probability of each class.
    fn table(&self, raw: &RecordBatch, before: u32, kept: Vec<u32>, answers: &[f64]) -> Result<RecordBatch> {
        let (rows, outputs) = (kept.len(), self.artifact.spec.outputs());
        let places = UInt32Array::from_iter_values(kept.iter().map(|row| before + row));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(places)];
        if let Some(key) = self.key.and_then(|key| raw.column_by_name(key)) {
            columns.push(cast(&take(key, &UInt32Array::from(kept), None)?, &DataType::Utf8)?);
        }
        if outputs == 1 {
            columns.push(Arc::new(Float64Array::from(answers.to_vec())));
        } else {
            let names = self.artifact.spec.class_names();
            let answer = |row: usize| &answers[row * outputs..(row + 1) * outputs];
            let labels = (0..rows).map(|row| names[most_probable(answer(row))].as_str());
            columns.push(Arc::new(StringArray::from_iter_values(labels)));
            for place in 0..outputs {
                columns.push(Arc::new(Float64Array::from_iter_values((0..rows).map(|row| answer(row)[place]))));
            }
        }
        let version = format!("{}@{}", self.artifact.spec.name, self.artifact.number);
        columns.push(Arc::new(StringArray::from(vec![version; rows])));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn schema(artifact: &Artifact, key: Option<&str>) -> SchemaRef {
    let mut fields = vec![Field::new("row", DataType::UInt32, false)];
    fields.extend(key.map(|_| Field::new("key", DataType::Utf8, true)));
    if artifact.spec.outputs() == 1 {
        fields.push(Field::new("value", DataType::Float64, false));
    } else {
        fields.push(Field::new("label", DataType::Utf8, false));
        let names = artifact.spec.class_names();
        fields.extend(names.iter().map(|name| Field::new(format!("probability:{name}"), DataType::Float64, false)));
    }
    fields.push(Field::new("version", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

fn unfit(path: &Path, artifact: &Artifact) -> String {
    format!("{} does not fit contract \"{}\"", path.display(), artifact.contract.name)
}
