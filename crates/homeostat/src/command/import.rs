//! `import`: models made elsewhere become versions, checked against known outputs first where there are any.

use crate::cli::Import;
use crate::client::Client;
use crate::imported::{self, Engine, Opened};
use crate::project::Project;
use crate::routing::{Deed, operated};
use crate::serve::deploy;
use crate::{clock, output};
use anyhow::{Context, Result, bail};
use inference::{Data, Tensor};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;
use storage::Catalog;
use storage::catalog::Version;
use vocabulary::Routing;

/// A file that was read, checked and registered.
struct Done {
    version: Version,
    opened: Opened,
    checked: Option<Checked>,
    is_first: bool,
}

/// How the answers compare with the known ones.
struct Checked {
    rows: usize,
    different: usize,
    largest: f64,
    /// Where the largest difference is.
    at: usize,
    equal_bits: usize,
}

pub async fn run(project: &Project, args: &Import, json: bool) -> Result<bool> {
    if args.files.len() > 1 && (args.name.is_some() || args.expect.is_some()) {
        bail!("--as and --expect belong to one file; import the files one by one, or leave these out");
    }
    let catalog = project.catalog().await?;
    let routing = project.routing()?;
    let mut all = Vec::new();
    let mut right = true;
    for file in &args.files {
        match one(project, &catalog, &routing, file, args).await? {
            Ok(done) => all.push(done),
            Err((name, checked)) => {
                right = false;
                let shown = json!({ "version": null, "model": name, "checked": described(&checked) });
                output::show(json, &shown, || refusal(&name, &checked))?;
            }
        }
    }
    publish(project, &catalog, routing, &all).await?;
    let shown: Vec<Value> = all.iter().map(shown).collect();
    if let [only] = &all[..] {
        output::show(json, &shown[0], || sentence(only))?;
    } else if !all.is_empty() {
        output::show(json, &shown, || all.iter().map(sentence).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(right)
}

/// Reads, checks and registers one file; a failed check registers nothing.
async fn one(
    project: &Project,
    catalog: &Catalog,
    routing: &Routing,
    file: &Path,
    args: &Import,
) -> Result<Result<Done, (String, Checked)>> {
    let started = Instant::now();
    let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    vocabulary::id::check_name(&name).with_context(|| format!("{}: name the model with --as", file.display()))?;
    if project.models.contains_key(&name) {
        bail!("\"{name}\" is a model of the project's files; import under another name with --as");
    }
    let shown = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (bundle, mut opened) = imported::pack(&shown, &bytes, Engine { sessions: 1 }, &args.inputs)?;
    let checked = match &args.expect {
        Some(known) => {
            let checked = check(&opened, known, args)?;
            if checked.different > 0 {
                return Ok(Err((name, checked)));
            }
            Some(checked)
        }
        None => None,
    };
    project.keep(&bundle)?;
    let mut version = imported::version(&name, &bundle, &opened, &bytes, started.elapsed().as_secs_f64());
    if let Some(checked) = &checked {
        version.lineage["checked"] = described(checked);
    }
    let version = catalog.register(&version).await?;
    opened.notes.dedup();
    let is_first = !routing.models.contains_key(&name);
    Ok(Ok(Done { version, opened, checked, is_first }))
}

/// The first version of a model answers at once; later ones wait for `release`.
async fn publish(project: &Project, catalog: &Catalog, routing: Routing, all: &[Done]) -> Result<()> {
    let running = Client::running(&project.state()).await;
    let mut next = routing;
    let mut released = Vec::new();
    for done in all {
        let Version { model, number, digest, .. } = &done.version;
        if let Some(client) = &running {
            let path = format!("/v1/models/{model}/routing");
            let request = if done.is_first {
                json!({ "action": "release", "version": number, "how": "now" })
            } else {
                json!({ "action": "register" })
            };
            client.post(&path, &request).await?;
        } else if done.is_first && !next.models.contains_key(model) {
            let deed = Deed::Now { version: *number, digest: *digest };
            next = operated(&next, model, &deed, clock::wall())?;
            released.push((model, deed));
        }
    }
    if !released.is_empty() {
        deploy::keep(project, catalog, &next).await?;
        for (model, deed) in released {
            deploy::record(catalog, model, &deed, "operator", "imported", next.at.unwrap_or_default()).await?;
        }
    }
    Ok(())
}

fn described(checked: &Checked) -> Value {
    json!({
        "rows": checked.rows,
        "different": checked.different,
        "largest_difference": checked.largest,
        "at_row": checked.at,
        "rows_with_equal_bits": checked.equal_bits,
    })
}

fn shown(done: &Done) -> Value {
    let Version { learner, digest, bytes, seconds, task, .. } = &done.version;
    let tensors = |specs: &[inference::TensorSpec]| -> Vec<Value> {
        specs.iter().map(|s| json!({ "name": s.name, "datatype": s.datatype.name(), "shape": s.shape })).collect()
    };
    let signature = done.opened.model.signature();
    json!({
        "version": done.version.name(),
        "digest": digest,
        "learner": learner,
        "task": task,
        "kind": done.opened.about.kind,
        "rows": 0,
        "seconds": seconds,
        "metrics": {},
        "bytes": bytes,
        "live": done.is_first,
        "inputs": tensors(&signature.inputs),
        "outputs": tensors(&signature.outputs),
        "features": done.opened.about.features,
        "classes": done.opened.about.classes,
        "checked": done.checked.as_ref().map(described),
        "notes": done.opened.notes,
    })
}

fn sentence(done: &Done) -> String {
    let name = done.version.name();
    let mut text = format!(
        "{name}: {} on {}, {} bytes, digest {}{}",
        done.opened.about.kind,
        done.version.learner,
        done.version.bytes,
        done.version.digest.short(),
        if done.is_first { ", live" } else { "; give it traffic with `homeostat release`" }
    );
    if let Some(checked) = &done.checked {
        text.push_str(&format!(
            "\n  checked on {} rows: largest difference {:e}, {} with equal bits",
            checked.rows, checked.largest, checked.equal_bits
        ));
    }
    for note in &done.opened.notes {
        text.push_str(&format!("\n  note: {note}"));
    }
    text
}

fn refusal(name: &str, checked: &Checked) -> String {
    format!(
        "{name} is not registered: {} of {} rows differ from the known outputs, most at row {} by {:e}",
        checked.different, checked.rows, checked.at, checked.largest
    )
}

/// Rows of a model's answers that are computed at once.
const CHECK_ROWS: usize = 256;

fn check(opened: &Opened, file: &Path, args: &Import) -> Result<Checked> {
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    let (answers, known) = if is_json { by_tensors(opened, file)? } else { by_table(opened, file, args)? };
    compare(&answers, &known, args.tolerance).with_context(|| format!("{}", file.display()))
}

/// A table: the features' columns, and one with the known answers.
fn by_table(opened: &Opened, file: &Path, args: &Import) -> Result<(Vec<f64>, Vec<f64>)> {
    let table = imported::plain(&storage::engine::read_file(file)?)?;
    let signature = opened.model.signature();
    let output = match &args.expect_output {
        Some(name) => signature.outputs.iter().position(|spec| spec.name == *name).with_context(|| {
            let names: Vec<&str> = signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
            format!("the model has no output \"{name}\"; it has {}", names.join(", "))
        })?,
        None => imported::primary(signature).context("the model gives no number to compare")?,
    };
    let column = args.expect_column.as_deref().unwrap_or("expected");
    let schema = table.schema();
    if schema.index_of(column).is_err() {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let hint = vocabulary::suggest::hint(column, names);
        bail!(
            "{}: there is no column \"{column}\"{hint}; name the known answers' with --expect-column",
            file.display()
        );
    }
    let features = imported::columns_of(signature, &opened.about.features).map_err(anyhow::Error::msg)?;
    if let Some(missing) = features.iter().find(|name| schema.index_of(name).is_err()) {
        bail!("{}: there is no column \"{missing}\", which the model reads", file.display());
    }
    let mut rows: Vec<Map<String, Value>> = Vec::with_capacity(table.num_rows());
    let mut known = Vec::with_capacity(table.num_rows());
    for place in 0..table.num_rows() {
        let mut row = features::row_to_json(&table, place);
        known.push(row.get(column).and_then(Value::as_f64).unwrap_or(f64::NAN));
        row.retain(|name, _| features.contains(name));
        rows.push(row);
    }
    let mut answers = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHECK_ROWS) {
        let inputs = imported::tensors(signature, &opened.about.features, chunk).map_err(anyhow::Error::msg)?;
        let outputs = opened.model.run(&inputs, &[output])?;
        let values = outputs.first().and_then(imported::values);
        answers.extend(values.context("the output is not one number a row; compare tensors in a .json file")?);
    }
    Ok((answers, known))
}

/// A request and its answer as the Open Inference Protocol writes them: `{"inputs": […], "outputs": […]}`.
fn by_tensors(opened: &Opened, file: &Path) -> Result<(Vec<f64>, Vec<f64>)> {
    let text = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let document: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let tensors = |part: &str| -> Result<Vec<Tensor>> {
        let wrapped = json!({ "inputs": document[part] }).to_string();
        let read = serving::wire::json::read(wrapped.as_bytes(), b"");
        Ok(read.map_err(|refusal| anyhow::anyhow!("{}: \"{part}\": {}", file.display(), refusal.error))?.request.inputs)
    };
    let (inputs, known) = (tensors("inputs")?, tensors("outputs")?);
    let signature = opened.model.signature();
    let mut ordered = Vec::new();
    for spec in &signature.inputs {
        let given = inputs.iter().find(|input| input.name == spec.name);
        let given = given.with_context(|| format!("{}: input \"{}\" is missing", file.display(), spec.name))?;
        ordered.push(given.clone());
    }
    let (mut answers, mut wanted) = (Vec::new(), Vec::new());
    for output in &known {
        let place = signature.outputs.iter().position(|spec| spec.name == output.name);
        let place =
            place.with_context(|| format!("{}: the model has no output \"{}\"", file.display(), output.name))?;
        let given = opened.model.run(&ordered, &[place])?;
        answers.extend(given.first().map(numbers).unwrap_or_default());
        wanted.extend(numbers(output));
    }
    Ok((answers, wanted))
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match &tensor.data {
        Data::Bytes(_) => Vec::new(),
        _ => imported::values(&Tensor::new("", vec![tensor.data.len()], tensor.data.clone())).unwrap_or_default(),
    }
}

/// Differences count relative to the known value where that is above one.
fn compare(answers: &[f64], known: &[f64], tolerance: f64) -> Result<Checked> {
    if answers.len() != known.len() || known.is_empty() {
        bail!("there are {} known answers and {} of the model", known.len(), answers.len());
    }
    let mut checked = Checked { rows: known.len(), different: 0, largest: 0.0, at: 0, equal_bits: 0 };
    for (place, (answer, known)) in answers.iter().zip(known).enumerate() {
        let both_nan = answer.is_nan() && known.is_nan();
        checked.equal_bits += usize::from(both_nan || answer.to_bits() == known.to_bits());
        let difference = if both_nan || answer == known { 0.0 } else { (answer - known).abs() / known.abs().max(1.0) };
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        checked.different += usize::from(difference > tolerance);
        if difference > checked.largest {
            (checked.largest, checked.at) = (difference, place);
        }
    }
    Ok(checked)
}
