//! `tune`: a search for the declaration's best values, whose winner is trained and registered like any other version.

use super::train::{described, instant};
use crate::cli::Tune;
use crate::project::Project;
use crate::runs::{self, Run};
use crate::searches::{self, Ended};
use crate::training::{self, Order};
use crate::{clock, output};
use anyhow::{Context, Result, bail};
use learning::tune::{self, Budget, Clocks, Ending, Money, Progress, TuneRequest, Tuned};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;
use vocabulary::ModelSpec;
use vocabulary::model::LearnerKind;

/// What is searched; on disk, so that a search that was cut off goes on.
#[derive(Serialize, Deserialize)]
struct Search {
    order: Order,
    trials: u32,
    seconds: Option<f64>,
    money: Option<f64>,
}

pub async fn run(project: &Project, args: &Tune, json: bool) -> Result<bool> {
    let (run, search): (Run, Search) = match &args.resume {
        Some(id) => Run::resume(project, id)?,
        None => {
            let spec = match &args.model {
                Some(name) => project.model(name)?,
                None => project.only_model()?,
            };
            let order = Order {
                model: spec.name.clone(),
                learner: args.learner.map(LearnerKind::from),
                seed: args.seed,
                threads: args.threads,
                from: instant(&args.from)?,
                to: instant(&args.to)?,
                ..Order::default()
            };
            let seconds = args.budget.as_deref().map(str::parse::<vocabulary::Span>).transpose()?;
            let seconds = seconds.map(|span| span.0 as f64 / 1e6);
            let trials = args.trials.unwrap_or(spec.tuning.trials);
            if trials == 0 {
                bail!("--trials 0: a search needs one trial at least");
            }
            let search = Search { order, trials, seconds, money: args.money };
            (Run::begin(project, &search)?, search)
        }
    };
    runs::stop_when_asked()?;
    let spec = project.model(&search.order.model)?.clone();
    let set = training::training_set(project, &spec, &search.order).await?;
    let tuned = find(project, &spec, &set.rows, &search, &run, args.workers)?;
    for note in &tuned.notes {
        tracing::info!("{note}");
    }
    let ended = Ended { id: &run.id, model: &spec.name, at: clock::wall(), tuned: &tuned, best: best(&tuned) };
    let plot = searches::keep(project, ended)?;
    if tuned.ending == Ending::Stopped {
        bail!("the search was asked to stop; go on with `homeostat tune --resume {}`", run.id);
    }
    let order = Order {
        learner: Some(tuned.spec.learner.kind),
        learner_spec: Some(Box::new(tuned.spec.learner.clone())),
        ..search.order.clone()
    };
    let bar = output::bar("training the best");
    let progress = |step: learning::Progress| {
        bar.set_length(step.total);
        bar.set_position(step.done);
        bar.set_message(format!("the best: {} {}", step.learner.name(), step.phase.name()));
    };
    let at = order.to.unwrap_or_else(clock::wall);
    let made = training::make(project, &order, at, &run, "operator", &progress).await;
    bar.finish_and_clear();
    let version = made.with_context(|| format!("go on with `homeostat tune --resume {}`", run.id))?.version;
    let written = if args.write { Some(write(project, &spec, &tuned)?) } else { None };
    let id = run.id.clone();
    run.done();
    let mut shown = described(&version);
    shown["search"] = json!(id);
    shown["trials"] = json!(tuned.trials.len());
    shown["best"] = best(&tuned);
    shown["ending"] = json!(tuned.ending.reason());
    shown["cpu_seconds"] = json!(tuned.cpu_seconds);
    shown["plot"] = json!(plot);
    shown["written"] = json!(written);
    output::show(json, &shown, || {
        let measure = tuned.metric.name();
        let mut text = format!(
            "{} ({}) from the best of {} trials; {measure} on the validation rows {}\n\n{}\n\nthe search: {}",
            version.name(),
            version.learner,
            tuned.trials.len(),
            output::figure(tuned.trials[tuned.best].losses.last().copied()),
            values(&tuned),
            plot.display(),
        );
        match &written {
            Some(path) => text += &format!("\nwritten to {}", path.display()),
            None => text += "\nto keep these values for later trainings, put them into the model's file (--write does)",
        }
        text
    })?;
    Ok(true)
}

fn find(
    project: &Project,
    spec: &ModelSpec,
    rows: &arrow::array::RecordBatch,
    search: &Search,
    run: &Run,
    workers: Option<usize>,
) -> Result<Tuned> {
    let began = Instant::now();
    let bar = output::bar("searching");
    let measure = spec.tuning.metric.name();
    let progress = |step: &Progress| {
        bar.set_length(u64::from(step.trials_max));
        bar.set_position(u64::from(step.trials));
        let best = step.best.map(|(rung, loss)| format!(", best {measure} {loss:.5} at rung {}", rung + 1));
        let best = best.unwrap_or_default();
        let loss = step.loss.map_or("failed".to_owned(), |loss| format!("{loss:.5}"));
        bar.set_message(format!("trial {} rung {}/{}: {loss}{best}", step.trial, step.rung + 1, step.rungs));
    };
    let threads = training::threads(search.order.threads);
    let price_per_cpu_hour = project.config.prices.cpu_hour;
    let tuned = tune::run(&TuneRequest {
        spec,
        contract: project.contract_of(spec),
        rows,
        learner: search.order.learner.unwrap_or(spec.learner.kind),
        seed: search.order.seed,
        workers: workers.unwrap_or(threads),
        threads,
        budget: Budget {
            trials: search.trials,
            seconds: search.seconds,
            money: search.money.map(|limit| Money { limit, price_per_cpu_hour }),
        },
        journal: Some(&run.folder().join(searches::JOURNAL)),
        program: env!("CARGO_PKG_VERSION"),
        clocks: Clocks {
            seconds: &|| began.elapsed().as_secs_f64(),
            thread_cpu_seconds: &|| serving::meter::thread_cpu().as_secs_f64(),
        },
        stop: runs::stop(),
        progress: &progress,
    });
    bar.finish_and_clear();
    tuned.with_context(|| format!("the search of run {} failed", run.id))
}

fn best(tuned: &Tuned) -> Value {
    let trial = &tuned.trials[tuned.best];
    json!({ "trial": trial.number, "loss": trial.losses.last(), "learner": tuned.spec.learner.kind.name(),
        "values": tuned.values, "declared": tuned.declared.iter()
            .map(|(kind, loss)| json!({ "learner": kind.name(), "loss": loss })).collect::<Vec<_>>() })
}

fn values(tuned: &Tuned) -> String {
    let rows: Vec<Vec<String>> = tuned.values.iter().map(|(key, value)| vec![key.clone(), value.to_string()]).collect();
    output::table(&["key", "value"], &rows)
}

/// Puts the winner's values into the model's file; what else stands there stays as it is.
fn write(project: &Project, spec: &ModelSpec, tuned: &Tuned) -> Result<PathBuf> {
    let path = project.root.join("models").join(format!("{}.toml", spec.name));
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let mut file: toml_edit::DocumentMut = text.parse().with_context(|| format!("{} is no TOML", path.display()))?;
    let kind = json!(tuned.spec.learner.kind.name());
    let learner = std::iter::once(("learner.kind", &kind));
    for (key, value) in learner.chain(tuned.values.iter().map(|(key, value)| (key.as_str(), value))) {
        let mut names = key.split('.').peekable();
        let mut table = file.as_table_mut() as &mut dyn toml_edit::TableLike;
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                table.insert(name, toml_edit::Item::Value(plain(value)));
                break;
            }
            let inner = table.entry(name).or_insert_with(|| {
                let mut made = toml_edit::Table::new();
                made.set_implicit(true);
                toml_edit::Item::Table(made)
            });
            table = inner
                .as_table_like_mut()
                .with_context(|| format!("{}: \"{name}\" of {key} is no table", path.display()))?;
        }
    }
    storage::write_atomically(&path, file.to_string().as_bytes())?;
    Ok(path)
}

/// A JSON value as TOML; null does not occur among a declaration's values.
fn plain(value: &Value) -> toml_edit::Value {
    match value {
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => match n.as_i64() {
            Some(whole) => whole.into(),
            None => n.as_f64().unwrap_or_default().into(),
        },
        Value::Array(all) => all.iter().map(plain).collect::<toml_edit::Array>().into(),
        other => other.as_str().map_or_else(|| other.to_string(), str::to_owned).into(),
    }
}
