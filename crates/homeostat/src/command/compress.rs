//! `compress`: smaller versions of a version, each registered with its parent and what it lost, saved and costs; with
//! `--search` many, and the cheapest that keeps every promise.

use super::train::described;
use super::versions::resolve;
use crate::artifact::Artifact;
use crate::cli::{Bits, Compress};
use crate::imported::{self, Engine};
use crate::project::Project;
use crate::runs;
use crate::training::{self, Order};
use crate::windows::Windows;
use crate::{clock, output};
use anyhow::{Context, Result, bail};
use inference::section;
use learning::TrainRequest;
use learning::compress::{
    Ground, Measurement, Promises, Quantize, Steps, Variant, broken, candidates, judged_by, pareto,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use storage::catalog::{Deed, Version};
use vocabulary::model::LearnerKind;
use vocabulary::{ModelSpec, Task};

impl From<Bits> for Quantize {
    fn from(bits: Bits) -> Self {
        match bits {
            Bits::Int8 => Quantize::Int8,
            Bits::Int4 => Quantize::Int4,
        }
    }
}

pub async fn run(project: &Project, args: &Compress, json: bool) -> Result<bool> {
    let steps = Steps {
        distill: args.distill.map(LearnerKind::from),
        prune: args.prune.as_deref().map(share).transpose()?,
        quantize: args.quantize.map(Quantize::from),
    };
    if steps.distill == Some(LearnerKind::Auto) {
        bail!("--distill auto: name the student's learner: linear, trees or network; --search tries all");
    }
    if steps == Steps::default() && !args.search {
        bail!(
            "say how: --distill LEARNER, --prune SHARE, --quantize int8, or --search for the cheapest that keeps all promises"
        );
    }
    let parent = resolve(project, &args.version).await?;
    if imported::is_imported(&parent) {
        return smaller_import(project, args, &parent, json).await;
    }
    let bundle = project.bundle(&parent.digest)?;
    let order: Order = serde_json::from_value(parent.lineage["order"].clone())
        .with_context(|| format!("{} was not trained here; distil it with --teacher instead", parent.name()))?;
    let spec: ModelSpec = bundle.json(section::SPEC)?;
    let contract = project.contract_of(project.model(&spec.name)?);
    let set = training::training_set(project, &spec, &order).await?;
    let taught_by = teachers(project, args, &spec, &set.rows).await?;
    let bar = output::bar("preparing");
    let progress = |step: learning::Progress| {
        bar.set_length(step.total);
        bar.set_position(step.done);
        bar.set_message(format!("{} {}", step.learner.name(), step.phase.name()));
    };
    let manifest: inference::Manifest = bundle.json(section::MANIFEST)?;
    let start = training::started_from(project, &order)?;
    let request = TrainRequest {
        spec: &spec,
        contract,
        rows: &set.rows,
        learner: kind(&manifest.learner).unwrap_or(spec.learner.kind),
        seed: manifest.seed,
        threads: training::threads(args.threads),
        parent: manifest.parent,
        earlier: &[],
        teacher: None,
        start: order.start(start.as_ref()),
        program: &manifest.program,
        progress: &progress,
        checkpoints: None,
    };
    runs::stop_when_asked()?;
    let ground = Ground::prepare(request, &bundle, taught_by)
        .with_context(|| format!("{} cannot be made smaller", parent.name()))?;
    ground.notes.iter().for_each(|note| tracing::warn!("{}: {note}", parent.name()));
    let tried =
        if args.search { candidates(kind(&manifest.learner).unwrap_or(LearnerKind::Trees)) } else { vec![steps] };
    let mut made = Vec::new();
    for steps in &tried {
        if runs::stop().load(Ordering::Relaxed) {
            bail!("asked to stop; what was registered so far stays, the rest can be made by asking again");
        }
        bar.set_message(steps.name());
        let variant = match ground.make(steps) {
            Ok(variant) => variant,
            Err(error) if args.search => {
                tracing::warn!("{}: {error}", steps.name());
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("{} by {}", parent.name(), steps.name())),
        };
        let measurement = ground.measure(&variant, &args.slices)?;
        let version = register(project, &parent, &variant, &measurement, &spec).await?;
        made.push(Made { steps: steps.clone(), version, measurement });
    }
    bar.finish_and_clear();
    if made.is_empty() {
        bail!("no variant of {} could be made; see the warnings above", parent.name());
    }
    let price = project.config.prices.cpu_hour / 3600.0;
    if args.search {
        search(project, args, &spec, &parent, &made, price, json)
    } else {
        one(&parent, &made[0], price, json)
    }
}

/// An imported ONNX file in 8 bits, registered as the next version of its model.
async fn smaller_import(project: &Project, args: &Compress, parent: &Version, json: bool) -> Result<bool> {
    if args.quantize != Some(Bits::Int8) || args.distill.is_some() || args.prune.is_some() || args.search {
        bail!(
            "{} was imported: --quantize int8 is what can be done to it; to distil it, compress a declared model with \
             --distill LEARNER --teacher {}",
            parent.name(),
            parent.name()
        );
    }
    let (about, file, notes) = imported::quantized(project, parent)?;
    let (bundle, opened) = imported::pack(&about.file, &file, Engine { sessions: 1 }, &about.features)?;
    project.keep(&bundle)?;
    let mut wanted = imported::version(&parent.model, &bundle, &opened, &file, 0.0);
    wanted.lineage["parent"] = json!(parent.digest);
    wanted.lineage["made_by"] = json!("int8");
    let version = project.catalog().await?.register(&wanted).await?;
    let shown = json!({ "version": version.name(), "digest": version.digest, "learner": version.learner, "rows": 0,
        "seconds": 0.0, "metrics": {}, "bytes": version.bytes, "parent": parent.name(), "parent_bytes": parent.bytes,
        "notes": notes });
    output::show(json, &shown, || {
        format!(
            "{} from {}: {} bytes of {}\n{}\ncompare their answers before you release it",
            version.name(),
            parent.name(),
            version.bytes,
            parent.bytes,
            notes.join("\n")
        )
    })?;
    Ok(true)
}

struct Made {
    steps: Steps,
    version: Version,
    measurement: Measurement,
}

fn share(text: &str) -> Result<f64> {
    let number =
        text.strip_suffix('%').map_or_else(|| text.parse::<f64>(), |text| text.parse::<f64>().map(|n| n / 100.0));
    match number {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => bail!("--prune {text}: a share between 0 and 1 is expected, such as 0.5 or 50%"),
    }
}

fn kind(learner: &str) -> Option<LearnerKind> {
    [LearnerKind::Linear, LearnerKind::Trees, LearnerKind::Network].into_iter().find(|kind| kind.name() == learner)
}

/// The mean of what the named versions say of the rows.
async fn teachers(
    project: &Project,
    args: &Compress,
    spec: &ModelSpec,
    rows: &arrow::array::RecordBatch,
) -> Result<Option<Vec<f64>>> {
    let mut sum: Option<Vec<f64>> = None;
    for name in &args.teacher {
        let version = resolve(project, name).await?;
        let answers = if imported::is_imported(&version) {
            imported::answers(project, &version, rows, spec.outputs())?
        } else {
            let artifact = Artifact::load(project, &version)?;
            if artifact.spec.outputs() != spec.outputs() || artifact.spec.task != spec.task {
                bail!("--teacher {name}: it predicts something else than {}", args.version);
            }
            let rows = Windows::open(project, &artifact.spec, &BTreeMap::new())?.attach(rows)?;
            artifact.answer(&rows).with_context(|| format!("--teacher {name} cannot answer the model's rows"))?
        };
        sum = Some(match sum {
            None => answers,
            Some(before) => before.iter().zip(&answers).map(|(a, b)| a + b).collect(),
        });
    }
    let count = args.teacher.len() as f64;
    Ok(sum.map(|sum| sum.into_iter().map(|answer| answer / count).collect()))
}

async fn register(
    project: &Project,
    parent: &Version,
    variant: &Variant,
    measurement: &Measurement,
    spec: &ModelSpec,
) -> Result<Version> {
    let digest = project.keep(&variant.bundle)?;
    let catalog = project.catalog().await?;
    let at = clock::wall();
    let mut lineage = parent.lineage.clone();
    lineage["parent"] = json!(parent.digest);
    lineage["made_by"] = json!(variant.steps.name());
    lineage["steps"] = json!(variant.steps);
    lineage["pipeline"] = json!(variant.manifest.pipeline);
    lineage["averaged_with"] = json!([]);
    lineage["measured"] = json!({ "difference": measurement.difference, "cost": measurement.cost,
        "parent_cost": measurement.parent_cost });
    let wanted = Version {
        model: spec.name.clone(),
        number: 0,
        digest,
        learner: variant.manifest.learner.clone(),
        task: spec.task.name().to_owned(),
        created_at: at,
        trained_from: parent.trained_from,
        trained_to: parent.trained_to,
        rows: variant.manifest.rows_learned,
        bytes: variant.encoded.len() as u64,
        seconds: 0.0,
        metrics: variant.manifest.metrics.clone(),
        lineage,
        run: None,
    };
    let version = catalog.register(&wanted).await?;
    catalog
        .record(&Deed {
            at,
            recorded_at: clock::wall(),
            actor: "operator".into(),
            action: "register".into(),
            model: spec.name.clone(),
            subject: version.name(),
            because: "asked for".into(),
            detail: format!("{} from {} by {}, digest {digest}", version.learner, parent.name(), variant.steps.name()),
        })
        .await?;
    Ok(version)
}

/// Price of a million predictions, and of a million right ones.
fn prices(measurement: &Measurement, price: f64) -> Value {
    json!({
        "million": measurement.cost.batch_row_us * price,
        "parent_million": measurement.parent_cost.batch_row_us * price,
        "million_correct": measurement.cpu_us_per_correct * price,
        "parent_million_correct": measurement.parent_cpu_us_per_correct * price,
    })
}

fn document(parent: &Version, made: &Made, price: f64) -> Value {
    let mut shown = described(&made.version);
    shown["parent"] = json!(parent.name());
    shown["parent_bytes"] = json!(made.measurement.parent_cost.bytes);
    shown["steps"] = json!(made.steps);
    shown["difference"] = json!(made.measurement.difference);
    shown["slices"] = json!(made.measurement.slices);
    shown["cost"] = json!(made.measurement.cost);
    shown["parent_cost"] = json!(made.measurement.parent_cost);
    shown["price"] = prices(&made.measurement, price);
    shown
}

fn one(parent: &Version, made: &Made, price: f64, json: bool) -> Result<bool> {
    output::show(json, &document(parent, made, price), || {
        let (cost, before) = (&made.measurement.cost, &made.measurement.parent_cost);
        let row = |name: &str, before: f64, after: f64| {
            let ratio = if before > 0.0 { format!("{:.0} %", after / before * 100.0) } else { String::new() };
            vec![name.to_owned(), output::figure(Some(before)), output::figure(Some(after)), ratio]
        };
        let mut rows = vec![
            row("bytes", before.bytes as f64, cost.bytes as f64),
            row("one row, µs", before.row_us, cost.row_us),
            row("a row of 256, µs", before.batch_row_us, cost.batch_row_us),
            row("its model alone, µs", before.batch_model_us, cost.batch_model_us),
            row(
                "CPU of a right one, µs",
                made.measurement.parent_cpu_us_per_correct,
                made.measurement.cpu_us_per_correct,
            ),
        ];
        rows.extend(made.measurement.difference.iter().map(|(name, d)| {
            let change = format!("{:+.5} [{:+.5}, {:+.5}]", d.value, d.interval.low, d.interval.high);
            vec![name.clone(), output::figure(Some(d.second)), output::figure(Some(d.first)), change]
        }));
        format!(
            "{} from {} by {} (digest {})\n\n{}",
            made.version.name(),
            parent.name(),
            made.steps.name(),
            made.version.digest.short(),
            output::table(&["", &parent.name(), &made.version.name(), "of it, or change"], &rows)
        )
    })?;
    Ok(true)
}

fn search(
    project: &Project,
    args: &Compress,
    spec: &ModelSpec,
    parent: &Version,
    made: &[Made],
    price: f64,
    json: bool,
) -> Result<bool> {
    let promises = promises(args, spec, made)?;
    let metric = judged_by(spec.task);
    let value = |made: &Made| made.measurement.metrics.get(metric).unwrap_or(f64::NAN);
    let worse = |made: &Made| if spec.task == Task::Binary { -value(made) } else { value(made) };
    let points: Vec<_> = made
        .iter()
        .map(|made| (worse(made), made.measurement.cost.bytes, made.measurement.cost.batch_row_us))
        .collect();
    let unbeaten = pareto(&points);
    let faults: Vec<Vec<String>> = made.iter().map(|made| broken(&promises, &made.measurement, price)).collect();
    let keeping = (0..made.len()).filter(|place| faults[*place].is_empty());
    let chosen = keeping.min_by(|a, b| points[*a].2.total_cmp(&points[*b].2).then(points[*a].1.cmp(&points[*b].1)));
    let variants: Vec<Value> = (0..made.len())
        .map(|place| {
            let mut shown = document(parent, &made[place], price);
            shown["pareto"] = json!(unbeaten[place]);
            shown["breaks"] = json!(faults[place]);
            shown
        })
        .collect();
    let reason = match chosen {
        Some(place) => format!(
            "{} ({}) costs least of the {} variants that keep every promise",
            made[place].version.name(),
            made[place].steps.name(),
            faults.iter().filter(|faults| faults.is_empty()).count()
        ),
        None => format!("no variant keeps every promise; {} stays the one to take", parent.name()),
    };
    let shown = json!({
        "parent": parent.name(),
        "promises": promises,
        "currency": project.config.prices.currency,
        "variants": variants,
        "chosen": chosen.map(|place| made[place].version.name()),
        "reason": reason,
    });
    output::show(json, &shown, || {
        let mut order: Vec<usize> = (0..made.len()).collect();
        order.sort_by(|a, b| points[*a].2.total_cmp(&points[*b].2));
        let rows: Vec<Vec<String>> = order
            .into_iter()
            .map(|place| {
                let made = &made[place];
                vec![
                    made.version.name(),
                    made.steps.name(),
                    output::figure(Some(value(made))),
                    made.measurement.cost.bytes.to_string(),
                    format!("{:.2}", made.measurement.cost.batch_row_us),
                    if unbeaten[place] { "yes".into() } else { String::new() },
                    faults[place].first().cloned().unwrap_or_default(),
                ]
            })
            .collect();
        let head = ["version", "made by", metric, "bytes", "µs a row", "unbeaten", "breaks"];
        format!("{}\n\n{reason}", output::table(&head, &rows))
    })?;
    Ok(chosen.is_some())
}

/// The declared promises; where no metric is promised, at most .005 of the AUC or 1 % of the loss may be lost.
fn promises(args: &Compress, spec: &ModelSpec, made: &[Made]) -> Result<Promises> {
    let objective = &spec.objective;
    let mut promises = Promises {
        limits: objective.limits.clone(),
        latency_ms: Some(objective.latency_ms),
        bytes_max: objective.bytes_max,
        price_max: objective.price_max,
    };
    for text in &args.keep {
        let (name, limit) = text.split_once('=').with_context(|| format!("--keep {text}: METRIC=LIMIT is expected"))?;
        let limit = limit.trim().parse().with_context(|| format!("--keep {text}: the limit is no number"))?;
        promises.limits.insert(name.trim().to_owned(), limit);
    }
    if promises.limits.is_empty() {
        let metric = judged_by(spec.task);
        let parent = made.iter().find_map(|made| made.measurement.difference.get(metric)).map(|d| d.second);
        let parent =
            parent.with_context(|| format!("the {metric} of the parent is not known; name one with --keep"))?;
        let limit = if spec.task == Task::Binary { parent - 0.005 } else { parent * 1.01 };
        promises.limits.insert(metric.to_owned(), limit);
    }
    Ok(promises)
}
