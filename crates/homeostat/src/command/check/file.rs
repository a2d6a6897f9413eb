//! One file against a contract, in one pass: a Parquet file in stretches, one for each core.

use super::page::{self, Section};
use super::words;
use crate::cli::Check;
use crate::input::Input;
use crate::output;
use crate::project::Project;
use crate::screening::{Screen, Screened};
use crate::streamed::counted;
use anyhow::Result;
use arrow::array::RecordBatch;
use features::FeatureError;
use rayon::prelude::*;
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use storage::parts::ROWS_A_BATCH;
use vocabulary::profile::FeatureReference;
use vocabulary::{Contract, Timestamp};

/// What is held against what.
pub struct Held<'a> {
    pub contract: &'a Contract,
    /// A version's references, for distributions.
    pub registered: &'a [FeatureReference],
    pub data: &'a Path,
    pub as_of: Option<Timestamp>,
}

pub fn run(project: &Project, args: &Check, held: &Held<'_>, json: bool) -> Result<bool> {
    let Held { contract, registered, data, as_of } = *held;
    let screen = Screen::new(project, contract, registered, &project.file_name(data), None)?;
    let input = Input::open(data)?;
    let screened = match screened(&screen, contract, &input) {
        Ok(screened) => screened,
        Err(error) => match error.downcast::<FeatureError>() {
            Ok(unfit) => return unreadable(data, contract, &unfit, json),
            Err(error) => return Err(error),
        },
    };
    let report = screen.report(&screened.seen, as_of);
    let set_aside = screened.aside.rows();
    if args.quarantine {
        screen.keep(screened.aside)?;
    }
    if let Some(html) = &args.html {
        let section = Section { title: data.display().to_string(), found: Ok((&report, &[])) };
        super::write(html, &page::page(&[section], &[]))?;
    }
    let mut shown = serde_json::to_value(&report)?;
    shown["source"] = json!(data);
    shown["environment"] = json!(project.config.project.environment);
    output::show(json, &shown, || {
        let mut text = format!("{}\n\n{}", data.display(), words::report(&report));
        if set_aside > 0 {
            text.push_str(&match args.quarantine {
                true => "set aside rows are kept; see `homeostat quarantine list`\n".to_owned(),
                false => format!("{set_aside} rows would be set aside; --quarantine keeps them\n"),
            });
        }
        text + if report.ok { "the file keeps the contract" } else { "the file breaks the contract" }
    })?;
    Ok(report.ok)
}

/// A column is missing, or has values that are not of its type.
fn unreadable(data: &Path, contract: &Contract, unfit: &FeatureError, json: bool) -> Result<bool> {
    let what = format!("{} does not fit contract \"{}\": {unfit}", data.display(), contract.name);
    output::show(json, &json!({ "ok": false, "contract": contract.name, "source": data, "error": what }), || {
        what.clone()
    })?;
    Ok(false)
}

fn screened(screen: &Screen, contract: &Contract, input: &Input) -> Result<Screened> {
    let declared: Vec<String> = contract.column_names().map(str::to_owned).collect();
    let columns: Vec<String> = contract.names_in_data(&declared).map(str::to_owned).collect();
    // An empty batch has all columns: what is missing is said with what there is.
    features::canonical(&RecordBatch::new_empty(input.schema()), contract)?;
    let bar = output::bar("checking");
    bar.set_length(input.rows());
    let cores = rayon::current_num_threads() as u64;
    let length = input.rows().div_ceil(cores).next_multiple_of(ROWS_A_BATCH as u64).max(1);
    let stretch = |start: u64| -> Result<Screened> {
        let rows: Range<u64> = start..(start + length).min(input.rows());
        let (mut screened, mut at) = (Screened::default(), start);
        for raw in input.batches(rows, &columns)? {
            let raw = raw?;
            let batch = features::canonical(&raw, contract).map_err(|error| counted(error, at))?;
            screen.count(&batch, &|row| at + row as u64, &mut screened)?;
            at += raw.num_rows() as u64;
            bar.inc(raw.num_rows() as u64);
        }
        Ok(screened)
    };
    let starts: Vec<u64> = (0..input.rows()).step_by(length as usize).collect();
    let parts: Vec<Screened> = starts.into_par_iter().map(stretch).collect::<Result<_>>()?;
    bar.finish_and_clear();
    let mut whole = Screened::default();
    for part in parts {
        whole.seen.merge(part.seen);
        whole.aside.append(part.aside);
    }
    Ok(whole)
}
