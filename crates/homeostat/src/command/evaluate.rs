//! `evaluate` and `compare`: versions over files, with the same pipeline and kernels as in serving.

use super::train::described;
use super::versions::resolve;
use crate::artifact::Artifact;
use crate::cli::{Compare, Evaluate};
use crate::output;
use crate::project::Project;
use crate::training;
use crate::windows::Windows;
use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use features::Violations;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use vocabulary::Metrics;

/// Slices listed at most; the largest are kept.
const SLICES_MAX: usize = 100;
const ROWS_A_BATCH: usize = 8192;

/// Rows of a file that keep the contract, their raw columns, the answers and the true values (NaN where unknown).
struct Scored {
    raw: RecordBatch,
    /// Place of each row in the file.
    kept: Vec<u32>,
    /// Row-major, `outputs` a row.
    answers: Vec<f64>,
    outputs: usize,
    violations: Violations,
}

impl Scored {
    fn answer(&self, row: usize) -> &[f64] {
        &self.answers[row * self.outputs..(row + 1) * self.outputs]
    }
}

fn score(project: &Project, artifact: &Artifact, file: &Path) -> Result<Scored> {
    let raw = storage::engine::read_file(file)?;
    let read = |columns: &[String]| {
        features::canonical_columns(&raw, &artifact.contract, columns)
            .with_context(|| format!("{} does not fit contract \"{}\"", file.display(), artifact.contract.name))
    };
    let batch = read(&artifact.inputs)?;
    let mut violations = Violations::default();
    let enforced = features::Enforcer::new(&artifact.contract, &artifact.inputs)?.enforce(&batch, &mut violations)?;
    let rows = Windows::open(project, &artifact.spec, &BTreeMap::new())?.attach(&enforced.batch)?;
    let bar = output::bar("scoring");
    bar.set_length(enforced.batch.num_rows() as u64);
    let mut answers = Vec::with_capacity(enforced.batch.num_rows());
    let mut at = 0;
    while at < enforced.batch.num_rows() {
        let count = ROWS_A_BATCH.min(rows.num_rows() - at);
        answers.extend(artifact.answer(&rows.slice(at, count))?);
        at += count;
        bar.set_position(at as u64);
    }
    bar.finish_and_clear();
    Ok(Scored { raw, kept: enforced.kept, answers, outputs: artifact.spec.outputs(), violations })
}

/// True values of the kept rows.
fn truth(artifact: &Artifact, scored: &Scored, file: &Path) -> Result<Vec<f64>> {
    let target = vec![artifact.spec.target.clone()];
    let column = features::canonical_columns(&scored.raw, &artifact.contract, &target)
        .with_context(|| format!("{} has no usable target", file.display()))?;
    let all = features::target_values(&artifact.spec, &column)?;
    Ok(scored.kept.iter().map(|row| all[*row as usize]).collect())
}

pub async fn evaluate(project: &Project, args: &Evaluate, json: bool) -> Result<bool> {
    let version = resolve(project, &args.version).await?;
    let artifact = Artifact::load(project, &version)?;
    let scored = score(project, &artifact, &args.data)?;
    let truth = truth(&artifact, &scored, &args.data)?;
    let known: Vec<usize> = (0..truth.len()).filter(|row| !truth[*row].is_nan()).collect();
    if known.is_empty() {
        bail!(
            "{}: no row has a value in \"{}\", so there is nothing to measure",
            args.data.display(),
            artifact.spec.target
        );
    }
    let measure = |rows: &[usize]| {
        let answers: Vec<f64> = rows.iter().flat_map(|row| scored.answer(*row).iter().copied()).collect();
        let truth: Vec<f64> = rows.iter().map(|row| truth[*row]).collect();
        learning::evaluate(artifact.spec.task, &answers, &truth, artifact.spec.objective.threshold)
    };
    let metrics = measure(&known);
    let slices = slices(args, &scored, &known, &measure)?;
    let mut shown = described(&version);
    shown["rows"] = json!(known.len());
    shown["rows_without_outcome"] = json!(truth.len() - known.len());
    shown["rows_refused"] = json!(scored.violations.rejected_rows + scored.violations.quarantined_rows);
    shown["metrics"] = json!(metrics.values);
    shown["intervals"] = json!(metrics.intervals);
    shown["slices"] = json!(slices);
    output::show(json, &shown, || {
        let names: Vec<&String> = metrics.values.keys().collect();
        let row = |name: String, metrics: &Metrics| {
            let mut cells = vec![name, metrics.rows.to_string()];
            cells.extend(names.iter().map(|name| match (metrics.get(name), metrics.intervals.get(*name)) {
                (value, Some(i)) => format!("{} [{:.4}, {:.4}]", output::figure(value), i.low, i.high),
                (value, None) => output::figure(value),
            }));
            cells
        };
        let mut rows = vec![row("all".into(), &metrics)];
        for (column, values) in &slices {
            rows.extend(values.iter().map(|slice| row(format!("{column}={}", slice.0), &slice.1)));
        }
        let mut head = vec!["slice", "rows"];
        head.extend(names.iter().map(|name| name.as_str()));
        format!("{} on {}\n\n{}", version.name(), args.data.display(), output::table(&head, &rows))
    })?;
    Ok(true)
}

type Slices = BTreeMap<String, Vec<(String, Metrics)>>;

fn slices(args: &Evaluate, scored: &Scored, known: &[usize], measure: &dyn Fn(&[usize]) -> Metrics) -> Result<Slices> {
    let mut found = Slices::new();
    for column in &args.slices {
        let schema = scored.raw.schema();
        let Some(values) = scored.raw.column_by_name(column) else {
            let hint = vocabulary::suggest::hint(column, schema.fields().iter().map(|field| field.name().as_str()));
            bail!("--slices {column}: {} has no such column{hint}", args.data.display());
        };
        let texts =
            cast(values, &DataType::Utf8).with_context(|| format!("--slices {column}: its values are no text"))?;
        let texts = texts.as_string::<i32>();
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for row in known {
            let place = scored.kept[*row] as usize;
            let value = if texts.is_null(place) { "(null)" } else { texts.value(place) };
            groups.entry(value.to_owned()).or_default().push(*row);
        }
        let mut measured: Vec<(String, Metrics)> =
            groups.into_iter().map(|(value, rows)| (value, measure(&rows))).collect();
        measured.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then_with(|| a.0.cmp(&b.0)));
        if measured.len() > SLICES_MAX {
            eprintln!("--slices {column}: {} values; the {SLICES_MAX} largest are shown", measured.len());
            measured.truncate(SLICES_MAX);
        }
        found.insert(column.clone(), measured);
    }
    Ok(found)
}

pub async fn compare(project: &Project, args: &Compare, json: bool) -> Result<bool> {
    let (a, b) = (resolve(project, &args.a).await?, resolve(project, &args.b).await?);
    if a.model != b.model {
        bail!("{} and {} are versions of different models", a.name(), b.name());
    }
    let (first, second) = (Artifact::load(project, &a)?, Artifact::load(project, &b)?);
    let (rows, target) = match &args.data {
        Some(file) => {
            let raw = storage::engine::read_file(file)?;
            let rows = features::canonical(&raw, &first.contract)
                .with_context(|| format!("{} does not fit contract \"{}\"", file.display(), first.contract.name))?;
            let target = features::target_values(&first.spec, &rows)?;
            (rows, target)
        }
        None => newest(project, &first)?,
    };
    let known: UInt32Array = (0..target.len() as u32).filter(|row| !target[*row as usize].is_nan()).collect();
    let rows = arrow::compute::take_record_batch(&rows, &known)?;
    let outcome: Vec<f64> = known.values().iter().map(|row| target[*row as usize]).collect();
    let answer = |artifact: &Artifact| {
        artifact.answer(&Windows::open(project, &artifact.spec, &BTreeMap::new())?.attach(&rows)?)
    };
    let difference = learning::paired(first.spec.task, &answer(&first)?, &answer(&second)?, &outcome);
    let shown = json!({ "a": a.name(), "b": b.name(), "rows": outcome.len(), "differences": difference });
    output::show(json, &shown, || {
        let rows: Vec<Vec<String>> = difference
            .iter()
            .map(|(name, d)| {
                let interval = format!("[{:.5}, {:.5}]", d.interval.low, d.interval.high);
                vec![
                    name.clone(),
                    output::figure(Some(d.first)),
                    output::figure(Some(d.second)),
                    format!("{:+.5}", d.value),
                    interval,
                ]
            })
            .collect();
        let head = ["metric", &a.name(), &b.name(), "difference", "95 % interval"];
        format!("{} rows\n\n{}", outcome.len(), output::table(&head, &rows))
    })?;
    Ok(true)
}

/// The newest part of the model's own data: what neither version should have learned from is for the reader to judge.
fn newest(project: &Project, artifact: &Artifact) -> Result<(RecordBatch, Vec<f64>)> {
    let spec = project.model(&artifact.spec.name)?;
    let rows =
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(training::file_rows(project, spec)))?;
    let rows = training::sorted(&rows, spec)?;
    let test = ((rows.num_rows() as f64 * spec.split.test) as usize).max(1);
    let rows = rows.slice(rows.num_rows() - test.min(rows.num_rows()), test.min(rows.num_rows()));
    let target = features::target_values(spec, &rows)?;
    Ok((rows, target))
}
