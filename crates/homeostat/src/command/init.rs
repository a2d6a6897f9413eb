//! `init`: a project from a data file, ready to train.

use crate::cli::{Init, Task as TaskArg};
use crate::output;
use crate::project::{Config, FILE};
use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use features::{InferHints, infer_contract};
use std::collections::BTreeMap;
use std::path::Path;
use vocabulary::contract::{Repair, Scalar};
use vocabulary::model::{CLASSES_MAX, DataSpec};
use vocabulary::{ColumnKind, Contract, ModelSpec, Task, suggest};

pub fn run(args: &Init, json: bool) -> Result<bool> {
    if args.dir.join(FILE).exists() {
        bail!("{} holds a project already; choose another folder", args.dir.display());
    }
    let raw = storage::engine::read_file(&args.data)?;
    let schema = raw.schema();
    for (flag, name) in [("--target", Some(&args.target)), ("--time", args.time.as_ref()), ("--key", args.key.as_ref())]
    {
        if let Some(name) = name
            && schema.column_with_name(name).is_none()
        {
            let hint = suggest::hint(name, schema.fields().iter().map(|field| field.name().as_str()));
            bail!("{flag} {name}: {} has no such column{hint}", args.data.display());
        }
    }
    if raw.num_rows() == 0 {
        bail!("{} has no rows", args.data.display());
    }
    let name = model_name(args.name.as_deref().unwrap_or(&args.target));
    let hints =
        InferHints { name: name.clone(), target: args.target.clone(), time: args.time.clone(), key: args.key.clone() };
    let mut contract = infer_contract(&raw, &hints)?;
    // What lies outside the inferred ranges is new, not wrong: it is brought to the range's end and counted. A person who
    // knows better writes "reject".
    for column in contract.columns.iter_mut().filter(|column| column.range.is_some()) {
        column.repair = Repair::Clip;
    }
    let batch = features::canonical(&raw, &contract)?;
    let (task, positive, classes) = task_of(&contract, &batch, args)?;
    let file_name = args.data.file_name().context("--data names no file")?.to_string_lossy().into_owned();
    let spec = ModelSpec {
        name: name.clone(),
        contract: contract.name.clone(),
        task,
        target: args.target.clone(),
        positive,
        classes,
        weight: None,
        time: contract.time.clone(),
        key: contract.key.clone(),
        outcome_at: None,
        data: DataSpec {
            file: Some(format!("data/{file_name}")),
            sql: None,
            tables: BTreeMap::new(),
            joins: Vec::new(),
        },
        features: Default::default(),
        learner: Default::default(),
        tuning: Default::default(),
        split: Default::default(),
        objective: Default::default(),
        monitors: Default::default(),
        retraining: Default::default(),
        release: Default::default(),
    };
    if let Some(problem) = spec.problems(&contract).first() {
        bail!("{problem}");
    }
    write(args, &contract, &spec, &file_name)?;
    let shown = serde_json::json!({ "dir": args.dir, "model": name, "task": task.name(), "rows": batch.num_rows(),
        "columns": contract.columns.len(), "time": contract.time, "key": contract.key, "contract": contract });
    output::show(json, &shown, || {
        let rows: Vec<Vec<String>> = contract
            .columns
            .iter()
            .map(|column| {
                let what = match (&column.range, &column.categories) {
                    (Some([low, high]), _) => format!("{low} to {high}"),
                    (_, Some(values)) => format!("{} categories", values.len()),
                    _ => String::new(),
                };
                vec![column.name.clone(), column.kind.name().into(), column.unit.clone().unwrap_or_default(), what]
            })
            .collect();
        format!(
            "{}: model \"{name}\" ({}), {} rows, {} columns\n\n{}\n\nNext: cd {} && homeostat train",
            args.dir.display(),
            task.name(),
            batch.num_rows(),
            contract.columns.len(),
            output::table(&["column", "type", "unit", "allowed"], &rows),
            args.dir.display()
        )
    })?;
    Ok(true)
}

fn model_name(text: &str) -> String {
    let mut name: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
        .take(64)
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "model_");
        name.truncate(64);
    }
    name
}

/// What the target's values suggest, unless a task is asked for: two values are binary, numbers are a regression.
fn task_of(contract: &Contract, batch: &RecordBatch, args: &Init) -> Result<(Task, Option<Scalar>, Vec<Scalar>)> {
    let column = contract.column(&args.target).context("the contract lost the target")?;
    let values = batch.column_by_name(&args.target).context("the data lost the target")?;
    let distinct = distinct(values.as_ref());
    let binary = column.kind == ColumnKind::Bool || distinct.len() == 2;
    let task = match args.task {
        Some(TaskArg::Binary) => Task::Binary,
        Some(TaskArg::Regression) => Task::Regression,
        Some(TaskArg::Multiclass) => Task::Multiclass,
        None if binary => Task::Binary,
        None if matches!(column.kind, ColumnKind::Int | ColumnKind::Float) => Task::Regression,
        None if (3..=CLASSES_MAX).contains(&distinct.len()) => Task::Multiclass,
        None => bail!(
            "target \"{}\" has {} distinct values: neither 2 to {CLASSES_MAX} classes nor numbers; predict another column",
            args.target,
            distinct.len()
        ),
    };
    match task {
        Task::Regression if matches!(column.kind, ColumnKind::Int | ColumnKind::Float) => Ok((task, None, Vec::new())),
        Task::Multiclass if !(2..=CLASSES_MAX).contains(&distinct.len()) => bail!(
            "target \"{}\" has {} distinct values; a multiclass model needs 2 to {CLASSES_MAX}",
            args.target,
            distinct.len()
        ),
        Task::Multiclass if column.kind == ColumnKind::Timestamp => {
            bail!("target \"{}\" is an instant; instants are no classes", args.target)
        }
        Task::Multiclass => Ok((task, None, classes(column.kind, &distinct))),
        Task::Regression => {
            bail!("target \"{}\" is of type {}; a regression needs numbers", args.target, column.kind.name())
        }
        Task::Binary if column.kind == ColumnKind::Bool => Ok((task, None, Vec::new())),
        Task::Binary if distinct.len() != 2 => {
            bail!("target \"{}\" has {} distinct values; a binary model needs two", args.target, distinct.len())
        }
        Task::Binary => Ok((task, positive(column.kind, &distinct), Vec::new())),
    }
}

/// The values in their order: numbers by size, words by the alphabet.
fn classes(kind: ColumnKind, distinct: &BTreeMap<String, u64>) -> Vec<Scalar> {
    let mut names: Vec<&String> = distinct.keys().collect();
    if matches!(kind, ColumnKind::Int | ColumnKind::Float) {
        let number = |text: &String| text.parse::<f64>().unwrap_or(f64::NAN);
        names.sort_by(|a, b| number(a).total_cmp(&number(b)));
    }
    let scalar = |text: &String| match kind {
        ColumnKind::Int => text.parse().map(Scalar::Int).ok(),
        ColumnKind::Float => text.parse().map(Scalar::Float).ok(),
        ColumnKind::Bool => text.parse().map(Scalar::Bool).ok(),
        ColumnKind::String | ColumnKind::Timestamp => None,
    };
    names.into_iter().map(|text| scalar(text).unwrap_or_else(|| Scalar::Text(text.clone()))).collect()
}

/// Text of each value and how often it occurs, at most some thousand different ones.
fn distinct(values: &dyn Array) -> BTreeMap<String, u64> {
    let texts = arrow::compute::cast(values, &DataType::Utf8).ok();
    let mut seen = BTreeMap::new();
    let Some(texts) = texts.as_ref().and_then(|texts| texts.as_string_opt::<i32>()) else { return seen };
    for text in texts.iter().flatten() {
        if seen.len() < 5000 || seen.contains_key(text) {
            *seen.entry(text.to_owned()).or_default() += 1;
        }
    }
    seen
}

/// The value that counts as 1: none where the values are 0 and 1, "yes"-like words first, otherwise the rarer one.
fn positive(kind: ColumnKind, distinct: &BTreeMap<String, u64>) -> Option<Scalar> {
    let number = |text: &str| text.parse::<f64>().ok();
    let mut values: Vec<(&String, u64)> = distinct.iter().map(|(text, count)| (text, *count)).collect();
    if kind != ColumnKind::String {
        values.sort_by(|a, b| number(a.0).partial_cmp(&number(b.0)).unwrap_or(std::cmp::Ordering::Equal));
        let zero_one = values.iter().map(|(text, _)| number(text)).eq([Some(0.0), Some(1.0)]);
        let larger = values.last().map(|(text, _)| (*text).clone())?;
        return match kind {
            _ if zero_one => None,
            ColumnKind::Int => larger.parse().ok().map(Scalar::Int),
            _ => number(&larger).map(Scalar::Float),
        };
    }
    const YES: [&str; 10] = ["1", "yes", "true", "y", "t", "positive", "pos", "up", "fraud", "churn"];
    let yes = values.iter().find(|(text, _)| YES.contains(&text.to_lowercase().as_str()));
    let chosen = yes.or_else(|| values.iter().min_by_key(|(_, count)| *count))?;
    Some(Scalar::Text(chosen.0.clone()))
}

fn write(args: &Init, contract: &Contract, spec: &ModelSpec, file_name: &str) -> Result<()> {
    let place = |path: &str| args.dir.join(path);
    for folder in ["contracts", "models", "data"] {
        let folder = place(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
    }
    let put = |path: std::path::PathBuf, text: String| {
        std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
    };
    let data = place("data").join(file_name);
    if !same_file(&args.data, &data) {
        std::fs::copy(&args.data, &data)
            .with_context(|| format!("can't copy {} to {}", args.data.display(), data.display()))?;
    }
    put(place(&format!("contracts/{}.toml", contract.name)), toml::to_string(contract)?)?;
    put(place(&format!("models/{}.toml", spec.name)), toml::to_string(spec)?)?;
    crate::playbooks::write_built_in(&args.dir)?;
    put(place(".gitignore"), "/.homeostat/\n".into())?;
    let config = Config::default();
    let name =
        args.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| spec.name.clone());
    let text = format!(
        "[project]\nname = {}\n\n[server]\nport = {}\n\n# What a core costs for an hour; state your own.\n[prices]\ncurrency = \"{}\"\ncpu_hour = {}\n",
        toml::Value::String(name),
        config.server.port,
        config.prices.currency,
        config.prices.cpu_hour
    );
    // Last: a folder without it is no project, so a failure above leaves nothing that looks like one.
    put(place(FILE), text)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[(&str, u64)]) -> BTreeMap<String, u64> {
        values.iter().map(|(text, count)| ((*text).to_owned(), *count)).collect()
    }

    #[test]
    fn the_positive_value_is_what_a_person_would_choose() {
        assert_eq!(positive(ColumnKind::Int, &counts(&[("0", 5), ("1", 9)])), None);
        assert_eq!(positive(ColumnKind::Int, &counts(&[("1", 5), ("2", 9)])), Some(Scalar::Int(2)));
        let income = counts(&[("<=50K", 24720), (">50K", 7841)]);
        assert_eq!(positive(ColumnKind::String, &income), Some(Scalar::Text(">50K".into())));
        let answers = counts(&[("No", 1), ("Yes", 100)]);
        assert_eq!(positive(ColumnKind::String, &answers), Some(Scalar::Text("Yes".into())));
        assert_eq!(model_name("arr delay>15"), "arr_delay_15");
        assert_eq!(model_name("7up"), "model_7up");
    }
}
