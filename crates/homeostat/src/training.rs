//! Making a version: the training set as it was known at an instant, the training itself, and the registration with
//! lineage and audit record. The server never does this itself; its jobs run the same code in a child process.

use crate::clock;
use crate::joins;
use crate::project::Project;
use crate::quarantine;
use crate::runs::Run;
use crate::screening::{self, Screen, Screened};
use crate::snapshot;
use crate::streamed::{self, FileRows};
use crate::windows::{self, LookedUp, Windows};
use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use features::{RowReader, Strangers, Violations};
use inference::{Bundle, section};
use learning::{Checkpoints, LearnError, Limits, Progress, Start, StreamRequest, TrainRequest, Trained};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use storage::catalog::{Deed, Version};
use storage::parquet_log::Columns;
use vocabulary::model::{LearnerKind, LearnerSpec};
use vocabulary::{Contract, Digest, ModelSpec, PredictionId, Timestamp};

/// What is to be learned from, and how. A job's request on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Order {
    pub model: String,
    pub learner: Option<LearnerKind>,
    pub seed: u64,
    pub threads: usize,
    /// Events at or after this instant.
    pub from: Option<Timestamp>,
    /// What was known before this instant.
    pub to: Option<Timestamp>,
    /// Learn from the decision log too; then the data files count up to this instant only, or whole where it is none.
    pub log: Option<LogUse>,
    /// The version that is live.
    pub parent: Option<Digest>,
    /// Versions whose own training is averaged into this one's answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub average_with: Vec<Digest>,
    /// The version that is gone on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Digest>,
    /// Share of its weights that is kept; all of them without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrink: Option<f64>,
    /// Values of the learners, instead of those in the model's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learner_spec: Option<Box<LearnerSpec>>,
    /// Read the data in pieces, whatever its size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// The files of corrected rows that are used, see `quarantine`; those that are there, without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Vec<String>>,
    /// Of streams whose windows are inputs, the newest event of the history that counts; all that is known, without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, u64>,
    /// The training set's snapshot, where it must be a certain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// What happens where a table is not what its contract expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadData {
    Stop,
    /// It was learned from once.
    GoOn,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogUse {
    pub files_to: Option<Timestamp>,
}

/// A registered version and what there is to say about its making.
pub struct Made {
    pub version: Version,
    pub cpu_seconds: f64,
}

/// Rows to learn from, sorted by time and key, in canonical form.
pub struct TrainingSet {
    pub rows: RecordBatch,
    pub violations: Violations,
    /// The files of corrected rows that were used.
    pub corrected: Vec<String>,
    /// The newest event used of each stream.
    pub events: BTreeMap<String, u64>,
}

/// What is learned from: all rows in memory, or a file that is read as often as needed.
pub enum Rows<'a> {
    Loaded(TrainingSet),
    Streamed(Box<FileRows<'a>>),
}

impl<'a> Rows<'a> {
    async fn of(project: &'a Project, spec: &'a ModelSpec, order: &Order, bad: OnBadData) -> Result<Rows<'a>> {
        let Some(file) = streamed::file(project, spec, order)? else {
            return Ok(Rows::Loaded(screened_set(project, spec, order, bad).await?));
        };
        let (contract, source) = (project.contract_of(spec), source(project, spec));
        let registered = screening::registered(project, &spec.name).await?;
        let screen = Screen::new(project, contract, &registered, &source, order.corrected.as_deref())?;
        let screen = if bad == OnBadData::GoOn { screen.reading_again() } else { screen };
        let mut rows = FileRows::open(contract, spec, order, file, screen)?;
        rows.windows = Windows::open(project, spec, &order.events)?;
        if bad == OnBadData::Stop {
            rows.screen.stop_if_bad(spec, &rows.seen, order.to)?;
        }
        Ok(Rows::Streamed(Box::new(rows)))
    }

    /// As a version's rows were read when it was trained.
    pub async fn again(
        project: &'a Project,
        spec: &'a ModelSpec,
        order: &Order,
        version: &Version,
    ) -> Result<Rows<'a>> {
        // What was corrected since was not known then.
        let order = Order { corrected: Some(order.corrected.clone().unwrap_or_default()), ..order.clone() };
        if version.lineage["streamed"] == true {
            return Rows::of(project, spec, &Order { stream: true, ..order }, OnBadData::GoOn).await;
        }
        Ok(Rows::Loaded(screened_set(project, spec, &order, OnBadData::GoOn).await?))
    }

    fn violations(&self) -> &Violations {
        match self {
            Rows::Loaded(set) => &set.violations,
            Rows::Streamed(file) => &file.seen.violations,
        }
    }

    fn corrected(&self) -> &[String] {
        match self {
            Rows::Loaded(set) => &set.corrected,
            Rows::Streamed(file) => file.screen.corrections(),
        }
    }

    fn events(&self) -> BTreeMap<String, u64> {
        match self {
            Rows::Loaded(set) => set.events.clone(),
            Rows::Streamed(file) => file.windows.until(),
        }
    }
}

/// How rows are learned from.
pub struct Training<'a> {
    pub spec: &'a ModelSpec,
    pub contract: &'a Contract,
    pub learner: LearnerKind,
    pub seed: u64,
    /// As [`threads`] gives them.
    pub threads: usize,
    pub parent: Option<Digest>,
    pub earlier: &'a [Bundle],
    /// The version that is gone on from.
    pub start: Option<Start<'a>>,
    pub program: &'a str,
    pub progress: &'a (dyn Fn(Progress) + Sync),
    pub checkpoints: Option<&'a dyn Checkpoints>,
}

impl Training<'_> {
    pub fn of(&self, rows: &Rows<'_>) -> Result<Trained, LearnError> {
        let Training { spec, contract, learner, seed, threads, parent, earlier, start, program, progress, checkpoints } =
            *self;
        match rows {
            Rows::Loaded(TrainingSet { rows, .. }) => learning::train(&TrainRequest {
                spec,
                contract,
                rows,
                learner,
                seed,
                threads,
                parent,
                earlier,
                start,
                teacher: None,
                program,
                progress,
                checkpoints,
            }),
            Rows::Streamed(_) if start.is_some() => Err(LearnError::Start {
                what: "rows that are streamed cannot be learned on top of a version".to_owned(),
            }),
            Rows::Streamed(source) => learning::train_streaming(&StreamRequest {
                spec,
                contract,
                source: source.as_ref(),
                limits: Limits::default(),
                seed,
                threads,
                parent,
                earlier,
                program,
                progress,
                checkpoints,
            }),
        }
    }
}

/// Trains as ordered and registers the result. `at` is the instant on the loop's clock at which it is done.
pub async fn make(
    project: &Project,
    order: &Order,
    at: Timestamp,
    run: &Run,
    actor: &str,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Made> {
    let started = std::time::Instant::now();
    let cpu_before = clock::cpu_seconds();
    let mut spec = project.model(&order.model)?.clone();
    if let Some(learner) = &order.learner_spec {
        spec.learner = (**learner).clone();
    }
    let spec = &spec;
    let contract = project.contract_of(spec);
    let rows = Rows::of(project, spec, order, OnBadData::Stop).await?;
    let corrected = Some(rows.corrected().to_vec()).filter(|files| !files.is_empty());
    let order = &Order { corrected, events: rows.events(), ..order.clone() };
    let snapshot = snapshot::of(project, spec, order)?;
    if let Some(wanted) = &order.snapshot
        && *wanted != snapshot
    {
        bail!(
            "model \"{}\": snapshot {wanted} can't be made again, it would be {snapshot}: a data file, the contract or the \
             declaration of data is not what it was; bring it back",
            spec.name
        );
    }
    let earlier = earlier(project, spec, contract, &order.average_with)?;
    let checkpoints = run.checkpoints()?;
    let start = started_from(project, order)?;
    let training = Training {
        spec,
        contract,
        learner: order.learner.unwrap_or(spec.learner.kind),
        seed: order.seed,
        threads: threads(order.threads),
        parent: order.parent,
        earlier: &earlier,
        start: order.start(start.as_ref()),
        program: env!("CARGO_PKG_VERSION"),
        progress,
        checkpoints: Some(&checkpoints),
    };
    let trained = training.of(&rows)?;
    let seconds = started.elapsed().as_secs_f64();
    for note in &trained.notes {
        tracing::info!("model \"{}\": {note}", spec.name);
    }
    let digest = project.keep(&trained.bundle)?;
    let time = trained.manifest.time;
    let catalog = project.catalog().await?;
    let wanted = Version {
        model: spec.name.clone(),
        number: 0,
        digest,
        learner: trained.manifest.learner.clone(),
        task: spec.task.name().to_owned(),
        created_at: at,
        trained_from: time.map(|time| time.first),
        trained_to: order.to.or(time.map(|time| time.last)),
        rows: trained.manifest.rows_learned,
        bytes: trained.encoded.len() as u64,
        seconds,
        metrics: trained.manifest.metrics.clone(),
        lineage: serde_json::json!({
            "data": trained.manifest.data,
            "snapshot": snapshot,
            "data_files": storage::engine::files(&project.root, &spec.data)
                .iter()
                .map(|path| path.strip_prefix(&project.root).unwrap_or(path).display().to_string())
                .collect::<Vec<_>>(),
            "pipeline": trained.manifest.pipeline,
            "order": order,
            "spec": spec,
            "contract": { "name": contract.name, "version": contract.version },
            "environment": project.config.project.environment,
            "parent": order.parent,
            "averaged_with": trained.manifest.averaged_with,
            "program": trained.manifest.program,
            "rows_tested": trained.manifest.rows_tested,
            "rows_without_outcome": trained.manifest.rows_without_outcome,
            "rounds": trained.manifest.rounds,
            "violations": rows.violations(),
            "streamed": matches!(rows, Rows::Streamed(_)),
        }),
        run: Some(run.id.clone()),
    };
    let version = catalog.register(&wanted).await?;
    catalog
        .record(&Deed {
            at,
            recorded_at: clock::wall(),
            actor: actor.to_owned(),
            action: "register".into(),
            model: spec.name.clone(),
            subject: version.name(),
            because: if actor == "operator" { "asked for".into() } else { run.id.clone() },
            detail: format!("{} from {} rows, digest {}", version.learner, version.rows, version.digest),
        })
        .await?;
    Ok(Made { version, cpu_seconds: clock::cpu_seconds() - cpu_before })
}

impl Order {
    /// How to go on from the version that [`started_from`] opened.
    pub fn start<'a>(&self, version: Option<&'a Bundle>) -> Option<Start<'a>> {
        version.map(|version| Start { version, shrink: self.shrink.unwrap_or(1.0) })
    }
}

/// The version that an order goes on from.
pub fn started_from(project: &Project, order: &Order) -> Result<Option<Bundle>> {
    order.start.map(|digest| project.bundle(&digest)).transpose()
}

/// The versions to average with, as far as declaration and contract were the same.
fn earlier(project: &Project, spec: &ModelSpec, contract: &Contract, wanted: &[Digest]) -> Result<Vec<Bundle>> {
    let mut found = Vec::with_capacity(wanted.len());
    for digest in wanted {
        let bundle = project.bundle(digest)?;
        let same = bundle.json::<ModelSpec>(section::SPEC)? == *spec
            && bundle.json::<Contract>(section::CONTRACT)? == *contract;
        if same {
            found.push(bundle);
        } else {
            tracing::info!("{digest} was made by another declaration; it is not averaged in");
        }
    }
    Ok(found)
}

/// All cores where none are asked for.
pub fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// The training set as it was known before `order.to`. Rows that the contract sets aside are kept for a person; data
/// that are not what the contract expects are no training set.
pub async fn training_set(project: &Project, spec: &ModelSpec, order: &Order) -> Result<TrainingSet> {
    screened_set(project, spec, order, OnBadData::Stop).await
}

async fn screened_set(project: &Project, spec: &ModelSpec, order: &Order, bad: OnBadData) -> Result<TrainingSet> {
    let contract = project.contract_of(spec);
    let schema = features::canonical_schema(contract);
    let registered = screening::registered(project, &spec.name).await?;
    let screen = |source: &str| {
        let screen = Screen::new(project, contract, &registered, source, order.corrected.as_deref())?;
        anyhow::Ok(if bad == OnBadData::GoOn { screen.reading_again() } else { screen })
    };
    let file = file_rows(project, spec).await?;
    let files_to = order.log.as_ref().map_or(order.to, |log| log.files_to.or(order.to));
    let places = known_rows(&file, spec, order.from, files_to)?;
    let known = match &places {
        Some(places) => take_record_batch(&file, places)?,
        None => file,
    };
    let of_file = screen(&source(project, spec))?;
    let place = |row: usize| places.as_ref().map_or(row as u64, |places| u64::from(places.value(row)));
    let mut screened = Screened::default();
    let enforced = of_file.count(&known, &place, &mut screened)?;
    let mut reason = first_reason(&enforced.rejected, 0);
    of_file.keep(std::mem::take(&mut screened.aside))?;
    let windows = Windows::open(project, spec, &order.events)?;
    let mut batches = vec![windows.attach(&enforced.batch)?];
    if order.log.is_some() {
        let of_log = screen(quarantine::LOG)?;
        let (logged, looked) = log_rows(project, spec, contract, &schema, order)?;
        let logged = concat_batches(&schema, &logged)?;
        let before = screened.seen.rows;
        let enforced = of_log.count(&logged, &|row| before + row as u64, &mut screened)?;
        if reason.is_empty() {
            reason = first_reason(&enforced.rejected, before);
        }
        of_log.keep(std::mem::take(&mut screened.aside))?;
        // What was seen when the row was answered; where no stream was asked then, what was known.
        let looked: Vec<LookedUp> = enforced.kept.iter().map(|row| looked[*row as usize].clone()).collect();
        batches.push(windows::attach_logged(spec, &windows.attach(&enforced.batch)?, &looked)?);
    }
    let rows = concat_batches(&batches[0].schema(), &batches)?;
    if bad == OnBadData::Stop {
        of_file.stop_if_bad(spec, &screened.seen, order.to)?;
    }
    if rows.num_rows() == 0 {
        bail!("model \"{}\": no row is left to learn from{reason}", spec.name);
    }
    warn_of(&screened.seen.violations, contract, &reason);
    let corrected = of_file.corrections().to_vec();
    let (rows, violations) = (sorted(&rows, spec)?, screened.seen.violations);
    Ok(TrainingSet { rows, violations, corrected, events: windows.until() })
}

/// What a model's rows are from, as records call it.
pub fn source(project: &Project, spec: &ModelSpec) -> String {
    let file = spec.data.file.as_ref().or(spec.data.sql.as_ref());
    file.map_or_else(String::new, |file| project.file_name(&project.root.join(file)))
}

/// Says how many rows are left out.
pub fn warn_of(violations: &Violations, contract: &Contract, reason: &str) {
    let left_out = violations.rejected_rows + violations.quarantined_rows;
    if left_out > 0 {
        let (rows, name) = (violations.rows, &contract.name);
        tracing::warn!("{left_out} of {rows} rows break contract \"{name}\" and are left out{reason}");
    }
}

/// What is wrong with the first row that was refused; rows count from `before` on.
pub fn first_reason(rejected: &[features::Rejected], before: u64) -> String {
    let words = |r: &features::Rejected| {
        format!("; the first: row {}, column \"{}\": {}", before + r.row as u64, r.column, r.what)
    };
    rejected.first().map_or_else(String::new, words)
}

/// What the model's files or query hold, in canonical form. Kept as Parquet under the state folder, so that the same
/// query over the same files runs once.
pub async fn file_rows(project: &Project, spec: &ModelSpec) -> Result<RecordBatch> {
    let contract = project.contract_of(spec);
    let load = async || -> Result<RecordBatch> {
        let raw = storage::engine::load(&project.root, &spec.data).await?;
        let raw = joins::joined(project, spec, raw).await?;
        features::canonical(&raw, contract)
            .with_context(|| format!("the data of model \"{}\" does not fit contract \"{}\"", spec.name, contract.name))
    };
    if spec.data.sql.is_none() {
        return load().await;
    }
    let place = cached_path(project, spec)?;
    if place.exists()
        && let Ok(batch) = storage::engine::read_file(&place)
        && let Ok(batch) = features::canonical(&batch, contract)
    {
        return Ok(batch);
    }
    let batch = load().await?;
    if let Err(error) = storage::parquet_log::write(&place, &batch) {
        tracing::warn!("the query's answer can't be kept for the next time: {error}");
    }
    Ok(batch)
}

fn cached_path(project: &Project, spec: &ModelSpec) -> Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    for path in storage::engine::files(&project.root, &spec.data) {
        hasher.update(&snapshot::digest_of(&path)?.0);
    }
    if !spec.data.joins.is_empty() {
        hasher.update(&serde_json::to_vec(&(&spec.data, &spec.time))?);
    }
    hasher.update(&serde_json::to_vec(project.contract_of(spec))?);
    Ok(project.state().join("cache").join(format!("{}.parquet", hasher.finalize().to_hex())))
}

fn instants<'a>(batch: &'a RecordBatch, column: &Option<String>) -> Option<&'a TimestampMicrosecondArray> {
    batch.column_by_name(column.as_deref()?)?.as_primitive_opt::<TimestampMicrosecondType>()
}

/// The places of the events in `from .. to` whose outcome was known before `to`; none where it is all rows.
pub fn known_rows(
    batch: &RecordBatch,
    spec: &ModelSpec,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Option<UInt32Array>> {
    if from.is_none() && to.is_none() {
        return Ok(None);
    }
    let Some(times) = instants(batch, &spec.time) else {
        bail!(
            "model \"{}\" declares no time column of type timestamp, so --from and --to mean nothing; declare `time`",
            spec.name
        );
    };
    let outcomes = instants(batch, &spec.outcome_at);
    let keep = (0..batch.num_rows())
        .filter(|row| {
            let row = *row;
            let at = times.is_valid(row).then(|| Timestamp(times.value(row)));
            let known = match outcomes {
                Some(outcomes) => outcomes.is_valid(row).then(|| Timestamp(outcomes.value(row))),
                None => at,
            };
            let early = from.is_none_or(|from| at.is_some_and(|at| at >= from));
            let late = to.is_none_or(|to| at.is_some_and(|at| at < to) && known.is_some_and(|known| known < to));
            early && late
        })
        .map(|row| row as u32);
    Ok(Some(UInt32Array::from_iter_values(keep)))
}

/// Logged rows joined with their newest outcomes, as far as those were known before `order.to`, and what streams knew of
/// each.
fn log_rows(
    project: &Project,
    spec: &ModelSpec,
    contract: &Contract,
    schema: &SchemaRef,
    order: &Order,
) -> Result<(Vec<RecordBatch>, Vec<LookedUp>)> {
    let logged = storage::log::read(&project.log_path(), &spec.name, Columns::All)?;
    let mut outcomes: HashMap<PredictionId, (Timestamp, f64)> = HashMap::new();
    for outcome in &logged.outcomes {
        if order.to.is_none_or(|to| outcome.at < to) {
            let newest = outcomes.entry(outcome.id).or_insert((outcome.at, outcome.value));
            if outcome.at > newest.0 {
                *newest = (outcome.at, outcome.value);
            }
        }
    }
    let inputs: Vec<String> = contract
        .column_names()
        .filter(|name| *name != spec.target && Some(*name) != spec.outcome_at.as_deref())
        .map(str::to_owned)
        .collect();
    let reader = RowReader::new(contract, &inputs);
    let (mut batches, mut looked) = (Vec::new(), Vec::new());
    for chunk in logged.predictions.chunks(8192) {
        let (mut rows, mut known) = (Vec::new(), Vec::new());
        for prediction in chunk {
            let recent = order.from.is_none_or(|from| prediction.at >= from);
            if let (true, Some(outcome)) = (recent, outcomes.get(&prediction.id)) {
                rows.push(
                    serde_json::from_str(&prediction.row).context("the decision log holds a row that is not JSON")?,
                );
                known.push(*outcome);
                looked.push(windows::logged(prediction.windows.as_deref())?);
            }
        }
        if rows.is_empty() {
            continue;
        }
        let batch = reader.read_with(&rows, Strangers::PassOverAll).map_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            anyhow::anyhow!("the decision log no longer fits contract \"{}\": {first}", contract.name)
        })?;
        batches.push(with_outcomes(&batch, spec, schema, &known)?);
    }
    Ok((batches, looked))
}

/// Completes a batch of request rows with target and outcome time, in the order of `schema`.
fn with_outcomes(
    batch: &RecordBatch,
    spec: &ModelSpec,
    schema: &SchemaRef,
    known: &[(Timestamp, f64)],
) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = if *field.name() == spec.target {
            let values = Float64Array::from_iter_values(known.iter().map(|(_, value)| *value));
            let positive = spec.positive.as_ref().and_then(|positive| match positive {
                vocabulary::contract::Scalar::Text(text) => Some(text.clone()),
                _ => None,
            });
            match (field.data_type(), positive) {
                (arrow::datatypes::DataType::Utf8, Some(positive)) => {
                    let texts = known.iter().map(|(_, value)| if *value == 1.0 { positive.as_str() } else { "" });
                    Arc::new(arrow::array::StringArray::from_iter_values(texts)) as _
                }
                (kind, _) => arrow::compute::cast(&values, kind)?,
            }
        } else if Some(field.name()) == spec.outcome_at.as_ref() {
            let times = TimestampMicrosecondArray::from_iter_values(known.iter().map(|(at, _)| at.0));
            Arc::new(times.with_timezone("UTC")) as _
        } else {
            match batch.column_by_name(field.name()) {
                Some(column) => Arc::clone(column),
                None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
            }
        };
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// By time, then key, then the order given; without a time column, as given.
pub fn sorted(batch: &RecordBatch, spec: &ModelSpec) -> Result<RecordBatch> {
    if spec.time.is_none() {
        return Ok(batch.clone());
    }
    let mut columns: Vec<arrow::compute::SortColumn> = [&spec.time, &spec.key]
        .into_iter()
        .flatten()
        .filter_map(|name| batch.column_by_name(name))
        .map(|column| arrow::compute::SortColumn { values: Arc::clone(column), options: None })
        .collect();
    let order: arrow::array::UInt32Array = (0..batch.num_rows() as u32).collect();
    columns.push(arrow::compute::SortColumn { values: Arc::new(order), options: None });
    Ok(take_record_batch(batch, &lexsort_to_indices(&columns, None)?)?)
}
