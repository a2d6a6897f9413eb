//! `quarantine`: rows that were set aside, and their way back. Corrected rows that keep the contract become corrections,
//! which take the place of the rows that they were wherever their source is read; the others wait on, with today's reason.

use crate::cli::QuarantineAction;
use crate::output;
use crate::project::Project;
use crate::quarantine::{self, ORIGINAL, Origin, Quarantine, REASON, ROW, SOURCE};
use anyhow::{Result, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use features::{Enforcer, Violations};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vocabulary::Contract;

/// Rows shown in a terminal.
const SHOWN_ROWS: usize = 20;

pub fn run(project: &Project, action: &QuarantineAction, json: bool) -> Result<bool> {
    match action {
        QuarantineAction::List { contract } => list(project, contract.as_deref(), json),
        QuarantineAction::Show { file } => show(file, json),
        QuarantineAction::Replay { file, contract } => replay(project, file, contract.as_deref(), json),
    }
}

fn list(project: &Project, contract: Option<&str>, json: bool) -> Result<bool> {
    let names = match contract {
        Some(name) => vec![project.contract(name)?.name.clone()],
        None => Quarantine::contracts(project)?,
    };
    let mut listed: Vec<Value> = Vec::new();
    for name in &names {
        let quarantine = Quarantine::of(project, name);
        for (state, paths) in [("waits", quarantine.files()?), ("corrected", quarantine.corrected_files()?)] {
            for path in paths {
                let rows = storage::engine::read_file(&path)?;
                let mut sources: Vec<String> =
                    quarantine::origins(&rows, &path)?.into_iter().map(|origin| origin.source).collect();
                sources.sort();
                sources.dedup();
                let file = project.file_name(&path);
                listed.push(json!({ "contract": name, "state": state, "file": file, "rows": rows.num_rows(),
                    "sources": sources }));
            }
        }
    }
    output::show(json, &listed, || {
        if listed.is_empty() {
            return "no row is set aside".to_owned();
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let row = |entry: &Value| {
            let sources: Vec<String> = entry["sources"].as_array().into_iter().flatten().map(text).collect();
            let cells = ["contract", "state", "rows", "file"].map(|key| text(&entry[key]));
            cells.into_iter().chain([sources.join(", ")]).collect()
        };
        let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
        output::table(&["contract", "state", "rows", "file", "from"], &rows)
    })?;
    Ok(true)
}

fn show(file: &Path, json: bool) -> Result<bool> {
    let rows = storage::engine::read_file(file)?;
    let origins = quarantine::origins(&rows, file)?;
    let all: Vec<Value> = (0..rows.num_rows()).map(|row| Value::Object(features::row_to_json(&rows, row))).collect();
    output::show(json, &all, || {
        let mut text = format!("{}: {} rows\n", file.display(), rows.num_rows());
        for (origin, row) in origins.iter().zip(&all).take(SHOWN_ROWS) {
            let reason = row[REASON].as_str().unwrap_or("corrected");
            let mut values = row.clone();
            if let Some(values) = values.as_object_mut() {
                [SOURCE, ROW, REASON, ORIGINAL].iter().for_each(|name| drop(values.remove(*name)));
            }
            text.push_str(&format!("\nrow {} of {}\n  {reason}\n  {values}\n", origin.row, origin.source));
        }
        if all.len() > SHOWN_ROWS {
            text.push_str(&format!("\nand {} more\n", all.len() - SHOWN_ROWS));
        }
        text
    })?;
    Ok(true)
}

fn replay(project: &Project, file: &Path, contract: Option<&str>, json: bool) -> Result<bool> {
    let contract = contract_of(project, file, contract)?;
    let quarantine = Quarantine::of(project, &contract.name);
    let raw = storage::engine::read_file(file)?;
    let origins = quarantine::origins(&raw, file)?;
    let in_force = project.in_force(contract);
    let known = raw.schema();
    let columns: Vec<String> = in_force
        .columns
        .iter()
        .filter(|column| std::iter::once(&column.name).chain(&column.aliases).any(|name| known.index_of(name).is_ok()))
        .map(|column| column.name.clone())
        .collect();
    if columns.is_empty() {
        bail!("{} has no column of contract \"{}\"", file.display(), contract.name);
    }
    let rows = features::canonical_columns(&raw, &in_force, &columns)?;
    let mut violations = Violations::default();
    let enforced = Enforcer::new(&in_force, &columns)?.enforce(&rows, &mut violations)?;
    let mut reasons: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for entry in enforced.rejected.iter().chain(&enforced.quarantined) {
        reasons.entry(entry.row).or_default().push(format!("{}: {}", entry.column, entry.what));
    }
    let passed: Vec<&Origin> = enforced.kept.iter().map(|row| &origins[*row as usize]).collect();
    let mut written: Option<PathBuf> = None;
    if !passed.is_empty() {
        // The corrected values as they were given: their repairs are done again wherever they are read.
        let given = take_record_batch(&rows, &UInt32Array::from(enforced.kept.clone()))?;
        written = Some(quarantine.correct(&with_origins(&given, &passed)?)?);
        // Only now that they are kept do they leave the place where they waited: cut off in between, nothing is lost.
        quarantine.release(&passed.iter().map(|origin| (*origin).clone()).collect::<HashSet<_>>())?;
    }
    if is_inside(&quarantine, file) && file.exists() && !reasons.is_empty() {
        keep_waiting(file, &rows, &origins, &reasons)?;
    }
    let left: Vec<Value> = reasons
        .iter()
        .map(|(row, reasons)| {
            json!({ "row": row, "source": origins[*row].source, "source_row": origins[*row].row,
            "reason": reasons.join("; ") })
        })
        .collect();
    let shown = json!({ "contract": contract.name, "rows": raw.num_rows(), "passed": passed.len(), "left": left,
        "corrections": written.as_ref().map(|path| project.file_name(path)) });
    output::show(json, &shown, || {
        let mut text = format!("{} of {} rows keep contract \"{}\"", passed.len(), raw.num_rows(), contract.name);
        if let Some(path) = &written {
            let place = project.file_name(path);
            text.push_str(&format!(" and take the place of the rows that they were, from now on ({place})"));
        }
        for (row, reasons) in &reasons {
            text.push_str(&format!("\n  row {row} of the file waits on: {}", reasons.join("; ")));
        }
        text
    })?;
    Ok(reasons.is_empty())
}

/// The contract that is named, or else whose quarantine the file is in.
fn contract_of<'a>(project: &'a Project, file: &Path, named: Option<&str>) -> Result<&'a Contract> {
    if let Some(name) = named {
        return project.contract(name);
    }
    let home = project.contracts.values().find(|contract| is_inside(&Quarantine::of(project, &contract.name), file));
    home.map_or_else(|| project.only_contract(), Ok)
}

fn is_inside(quarantine: &Quarantine, file: &Path) -> bool {
    match (quarantine.folder().canonicalize(), file.canonicalize()) {
        (Ok(folder), Ok(file)) => file.parent() == Some(&folder),
        _ => false,
    }
}

fn with_origins(rows: &RecordBatch, origins: &[&Origin]) -> Result<RecordBatch> {
    let texts = |of: fn(&Origin) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(origins.iter().map(|origin| of(origin))))
    };
    let places = arrow::array::Int64Array::from_iter_values(origins.iter().map(|origin| origin.row));
    let columns: [(&str, ArrayRef); 3] = [
        (SOURCE, texts(|origin| &origin.source)),
        (ROW, Arc::new(places)),
        (ORIGINAL, texts(|origin| &origin.original)),
    ];
    quarantine::with_columns(rows, columns)
}

/// Leaves the rows that still break the contract in their file, as a person changed them, with today's reasons.
fn keep_waiting(
    file: &Path,
    rows: &RecordBatch,
    origins: &[Origin],
    reasons: &BTreeMap<usize, Vec<String>>,
) -> Result<()> {
    let places: UInt32Array = reasons.keys().map(|row| Some(*row as u32)).collect();
    let left: Vec<&Origin> = reasons.keys().map(|row| &origins[*row]).collect();
    let words: ArrayRef = Arc::new(StringArray::from_iter_values(reasons.values().map(|reasons| reasons.join("; "))));
    let rows = with_origins(&take_record_batch(rows, &places)?, &left)?;
    quarantine::write(file, &quarantine::with_columns(&rows, [(REASON, words)])?)
}
