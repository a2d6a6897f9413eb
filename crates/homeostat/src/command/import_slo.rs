//! `import-slo`: promises of an OpenSLO file into a model's declaration.

use crate::project::{Project, read_toml};
use crate::{openslo, output};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::Path;
use vocabulary::ModelSpec;

pub fn run(project: &Project, file: &Path, model: Option<&str>, json: bool) -> Result<bool> {
    let spec = match model {
        Some(name) => project.model(name)?,
        None => project.only_model()?,
    };
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let promises = openslo::read(&text).with_context(|| file.display().to_string())?;
    let path = declared(project, &spec.name)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let mut declared: toml_edit::DocumentMut =
        text.parse().with_context(|| format!("{} is no TOML", path.display()))?;
    let keys = promises.keys();
    let objective = declared.entry("objective").or_insert_with(toml_edit::table).as_table_like_mut();
    let objective = objective.with_context(|| format!("{}: objective is no table", path.display()))?;
    for (key, value) in &keys {
        objective.insert(key, toml_edit::Item::Value(value.clone()));
    }
    let made: ModelSpec = toml::from_str(&declared.to_string())?;
    if let Some(problem) = made.objective.problems(made.task).first() {
        bail!("{}: {problem}", file.display());
    }
    storage::write_atomically(&path, declared.to_string().as_bytes())?;
    let shown: serde_json::Map<String, serde_json::Value> = keys
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value.to_string().trim().trim_matches('"'))))
        .collect();
    output::show(json, &json!({ "model": spec.name, "file": path, "objective": shown }), || {
        let lines: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{}: [objective]\n{}", path.display(), lines.join("\n"))
    })?;
    Ok(true)
}

/// The file that declares a model; its name need not be the model's.
fn declared(project: &Project, model: &str) -> Result<std::path::PathBuf> {
    let folder = project.root.join("models");
    let files = crate::project::toml_files(&folder)?;
    let is = |path: &std::path::PathBuf| read_toml::<ModelSpec>(path).is_ok_and(|spec| spec.name == model);
    files.into_iter().find(is).with_context(|| format!("no file in {} declares \"{model}\"", folder.display()))
}
