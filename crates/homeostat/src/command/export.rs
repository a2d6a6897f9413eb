//! `export`: a version as an ONNX file, for whoever runs it elsewhere.

use super::versions::resolve;
use crate::artifact::{Artifact, OnnxInputs};
use crate::imported;
use crate::output;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::Path;

pub async fn run(project: &Project, version: &str, out: &Path, matrices: bool, json: bool) -> Result<bool> {
    let version = resolve(project, version).await?;
    if imported::is_imported(&version) {
        bail!("{} came as a file; that file is the one to take elsewhere", version.name());
    }
    let artifact = Artifact::load(project, &version)?;
    let form = if matrices { OnnxInputs::Matrices } else { OnnxInputs::Columns };
    let exported = artifact.onnx(form).with_context(|| format!("{} cannot be exported", version.name()))?;
    storage::write_atomically(out, &exported.bytes)?;
    let inputs: Vec<serde_json::Value> = exported
        .inputs
        .iter()
        .map(|input| {
            json!({ "name": input.name, "datatype": input.datatype.to_string(), "width": input.width,
                "source": input.source.name(), "meaning": input.meaning,
                "missing": input.missing.to_string() })
        })
        .collect();
    let shown = json!({ "version": version.name(), "digest": version.digest, "out": out, "bytes": exported.bytes.len(),
        "inputs": inputs, "outputs": exported.outputs });
    output::show(json, &shown, || {
        let rows: Vec<Vec<String>> = exported
            .inputs
            .iter()
            .map(|input| {
                let shape = format!("{} [rows, {}]", input.datatype, input.width);
                vec![
                    input.name.clone(),
                    shape,
                    input.source.name().to_owned(),
                    input.missing.to_string(),
                    input.meaning.clone(),
                ]
            })
            .collect();
        format!(
            "{}: {} bytes, gives {}\n\n{}",
            out.display(),
            exported.bytes.len(),
            exported.outputs.join(", "),
            output::table(&["input", "tensor", "from", "missing", "meaning"], &rows)
        )
    })?;
    Ok(true)
}
