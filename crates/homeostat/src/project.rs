//! A project's folder: `homeostat.toml`, contracts, models and streams, read strictly.

use crate::alerts::AlertsSection;
use anyhow::{Context, Result, bail};
use inference::Bundle;
use serde::{Deserialize, Serialize};
use serving::spans::SpanOptions;
use serving::tenant::{TenantSpec, Tenants};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use storage::Durability;
use vocabulary::stream::StreamSpec;
use vocabulary::{Contract, Digest, ModelSpec, Playbook, Span, suggest};

pub const FILE: &str = "homeostat.toml";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub project: ProjectSection,
    pub storage: StorageSection,
    pub engine: EngineSection,
    pub server: ServerSection,
    pub control: ControlSection,
    pub prices: Prices,
    /// Who is told of alarms.
    pub alerts: AlertsSection,
    /// Who may ask, and how much. Changes take effect without a restart.
    pub tenants: Vec<TenantSpec>,
    /// Where traces go; nowhere when left out.
    pub telemetry: Option<SpanOptions>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectSection {
    pub name: String,
    /// Where state lives, relative to the project's folder.
    pub state: String,
    /// Days and months on the page are those of this zone of the time-zone database.
    pub time_zone: String,
    /// Which of the contracts' environments this is; `--env` says otherwise for one command.
    pub environment: Option<String>,
}

impl Default for ProjectSection {
    fn default() -> Self {
        let (name, state) = ("project".into(), ".homeostat".into());
        ProjectSection { name, state, time_zone: "UTC".into(), environment: None }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSection {
    /// `sqlite:PATH`; inside the state folder when left out.
    pub catalog: Option<String>,
    /// `file:FOLDER`; inside the state folder when left out.
    pub blobs: Option<String>,
    /// `file:FOLDER` of the decision log; inside the state folder when left out.
    pub stream: Option<String>,
    pub durability: Durability,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSection {
    pub batch: String,
    /// Memory that a training file's rows may take; a larger one is read in pieces, where the learner can.
    pub load_bytes_max: u64,
    /// Rows that batch scoring finishes at a time: what a run that was cut off has to score again.
    pub scoring_rows: u32,
}

impl Default for EngineSection {
    fn default() -> Self {
        EngineSection { batch: "embedded".into(), load_bytes_max: 1 << 30, scoring_rows: 1 << 20 }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSection {
    pub host: String,
    pub port: u16,
    /// Which clock the loop follows.
    pub clock: ClockKind,
    /// Bytes of a request's body at most; more is refused with 413.
    pub body_bytes_max: usize,
    /// Milliseconds from a request's head until all of its body is there; what is slower is refused with 408.
    pub body_ms_max: f64,
    /// Rows of a request at most; more is refused with 413.
    pub rows_max: usize,
    /// Requests in work at once; more is refused with 429.
    pub requests_max: usize,
    /// Where gRPC listens.
    pub grpc_port: u16,
    /// TLS for both ports; in the clear when left out.
    pub tls: Option<TlsSection>,
    /// Connections open at once; more are turned away with 503.
    pub connections_max: usize,
    /// Milliseconds after which an answer is of no use, where the caller says nothing.
    pub deadline_ms: Option<f64>,
    /// Threads that run models; one for each core when 0.
    pub inference_threads: usize,
    /// CPUs that they are pinned to, in order; left to the system when empty.
    pub inference_cpus: Vec<usize>,
    /// Whether requests that wait are computed together.
    pub batching: bool,
    /// Rows of a batch at most.
    pub batch_rows_max: usize,
    /// Predicted time of a batch at most, in milliseconds: what another tenant may have to wait.
    pub batch_ms_max: f64,
    /// A request that takes no longer than this, in microseconds, is computed where it arrives.
    pub inline_us: f64,
    /// Rows that wait at most; more is refused with 429.
    pub queue_rows_max: usize,
    /// Predicted wait in milliseconds beyond which a request without a deadline is refused with 429.
    pub queue_ms_max: f64,
    /// Memory of cached answers of imported models; 0 for no cache.
    pub cache_bytes_max: u64,
    /// Memory of cached answers of declared models; 0 for no cache.
    pub prediction_cache_bytes_max: u64,
    /// Memory of cached features of declared models; 0 for no cache.
    pub feature_cache_bytes_max: u64,
    /// Whether tenants share cached answers.
    pub cache_shared: bool,
    /// Memory of loaded imported models; beyond it the ones unused for longest leave.
    pub models_bytes_max: usize,
    /// Imported models in memory at most.
    pub models_loaded_max: usize,
    /// Requests kept of each imported version, in memory and on disk, to warm it up when it is loaded; 0 for none.
    pub warm_requests_max: usize,
    /// After SIGTERM: milliseconds of answering on while already not ready, so that balancers look elsewhere.
    pub drain_grace_ms: u64,
    /// And then milliseconds at most until requests in work are given up.
    pub drain_ms_max: u64,
    /// Predictions kept in memory to join outcomes with; beyond it the oldest leave (the log keeps them).
    pub ledger_rows_max: usize,
}

impl Default for ServerSection {
    fn default() -> Self {
        ServerSection {
            host: "127.0.0.1".into(),
            port: 8080,
            clock: ClockKind::Wall,
            body_bytes_max: 16 << 20,
            body_ms_max: 30_000.0,
            rows_max: 10_000,
            requests_max: 1024,
            grpc_port: 8081,
            tls: None,
            connections_max: 4096,
            deadline_ms: None,
            inference_threads: 0,
            inference_cpus: Vec::new(),
            batching: true,
            batch_rows_max: 256,
            batch_ms_max: 10.0,
            inline_us: 50.0,
            queue_rows_max: 65_536,
            queue_ms_max: 1000.0,
            cache_bytes_max: 64 << 20,
            prediction_cache_bytes_max: 64 << 20,
            feature_cache_bytes_max: 32 << 20,
            cache_shared: false,
            models_bytes_max: 4 << 30,
            models_loaded_max: 1024,
            warm_requests_max: 4,
            drain_grace_ms: 500,
            drain_ms_max: 10_000,
            ledger_rows_max: 2_000_000,
        }
    }
}

/// Files in PEM form, relative to the project's folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    pub cert: String,
    pub key: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// The machine's clock.
    #[default]
    Wall,
    /// The loop moves when `POST /v1/clock` says so: replays and rehearsals.
    Event,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSection {
    /// How often the loop looks, on the wall's clock.
    pub every: Span,
    /// Threads of a training job; all cores when 0. The result is the same for any number.
    pub job_threads: usize,
    pub seed: u64,
    /// Bytes of the decision log's disk that are to stay free; below it there is an alarm.
    pub disk_free_min: u64,
}

impl Default for ControlSection {
    fn default() -> Self {
        ControlSection { every: Span(10_000_000), job_threads: 0, seed: 1, disk_free_min: 256 << 20 }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    pub currency: String,
    /// Price of one core for one hour.
    pub cpu_hour: f64,
}

impl Default for Prices {
    /// About what a general-purpose core costs on demand at the large cloud providers in 2025; state your own.
    fn default() -> Self {
        Prices { currency: "USD".into(), cpu_hour: 0.048 }
    }
}

/// Everything that the files say.
#[derive(Clone, Debug)]
pub struct Project {
    pub root: PathBuf,
    pub config: Config,
    pub contracts: BTreeMap<String, Contract>,
    pub models: BTreeMap<String, ModelSpec>,
    /// With the types of their columns.
    pub streams: BTreeMap<String, StreamSpec>,
    /// What to do when something is found, in the order of their names.
    pub playbooks: Vec<Playbook>,
}

impl Project {
    /// Finds `homeostat.toml` in `start` or a folder above it, and reads the project.
    pub fn find(start: &Path) -> Result<Project> {
        let start = start.canonicalize().with_context(|| format!("no folder {}", start.display()))?;
        let root = start.ancestors().find(|folder| folder.join(FILE).is_file());
        let Some(root) = root else {
            bail!(
                "no {FILE} in {} or above it; make a project with `homeostat init DIR --data FILE --target COL`, or name \
                 one with --project",
                start.display()
            );
        };
        Project::load(root)
    }

    pub fn load(root: &Path) -> Result<Project> {
        let config: Config = read_toml(&root.join(FILE))?;
        let mut contracts = BTreeMap::new();
        for path in toml_files(&root.join("contracts"))? {
            let contract: Contract = read_toml(&path)?;
            if let Some(problem) = contract.problems().first() {
                bail!("{}: {problem}", path.display());
            }
            // What only an enforcer can say: whether patterns can be read and defaults are of their columns' types.
            let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
            features::Enforcer::new(&contract, &columns).with_context(|| path.display().to_string())?;
            contracts.insert(contract.name.clone(), contract);
        }
        let streams = streams(root, &contracts)?;
        let mut models = BTreeMap::new();
        for path in toml_files(&root.join("models"))? {
            let spec: ModelSpec = read_toml::<ModelSpec>(&path)?.with_streams(&streams);
            vocabulary::id::check_name(&spec.name).with_context(|| format!("{}", path.display()))?;
            let Some(contract) = contracts.get(&spec.contract) else {
                let hint = suggest::hint(&spec.contract, contracts.keys().map(String::as_str));
                bail!("{}: there is no contract \"{}\"{hint}", path.display(), spec.contract);
            };
            let mut problems = spec.window_problems(contract, &streams);
            // With a stream or a feature missing, what names its columns would be blamed too.
            if problems.is_empty() {
                problems = spec.problems(contract);
            }
            if !problems.is_empty() {
                let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
                bail!("{}: {}", path.display(), all.join("; "));
            }
            models.insert(spec.name.clone(), spec);
        }
        let playbooks = crate::playbooks::load(root, &models)?;
        let project = Project { root: root.to_owned(), config, contracts, models, streams, playbooks };
        project.check_config()?;
        Ok(project)
    }

    fn check_config(&self) -> Result<()> {
        let file = self.root.join(FILE);
        let storage = &self.config.storage;
        for (key, value, scheme) in [
            ("catalog", &storage.catalog, "sqlite:"),
            ("blobs", &storage.blobs, "file:"),
            ("stream", &storage.stream, "file:"),
        ] {
            if let Some(value) = value
                && !value.starts_with(scheme)
            {
                bail!("{}: [storage] {key} = \"{value}\": this program reads {scheme}PATH", file.display());
            }
        }
        if self.config.project.time_zone.parse::<chrono_tz::Tz>().is_err() {
            let zone = &self.config.project.time_zone;
            bail!(
                "{}: [project] time_zone = \"{zone}\" is no name of the time-zone database, such as \"Europe/Rome\"",
                file.display()
            );
        }
        if let Some(problem) = Tenants::problems(&self.config.tenants).first() {
            bail!("{}: {problem}", file.display());
        }
        self.config.alerts.check().with_context(|| file.display().to_string())?;
        let server = &self.config.server;
        if server.batch_rows_max == 0 || server.rows_max == 0 || server.requests_max == 0 {
            bail!("{}: [server] batch_rows_max, rows_max and requests_max must be above zero", file.display());
        }
        if self.config.engine.batch != "embedded" {
            bail!(
                "{}: [engine] batch = \"{}\": this program has the engine \"embedded\"",
                file.display(),
                self.config.engine.batch
            );
        }
        if self.config.engine.scoring_rows == 0 {
            bail!("{}: [engine] scoring_rows must be above zero", file.display());
        }
        Ok(())
    }

    pub fn model(&self, name: &str) -> Result<&ModelSpec> {
        self.models.get(name).with_context(|| {
            let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
            let hint = suggest::hint(name, names.iter().copied());
            format!(
                "no model \"{name}\" in {}{hint} (there are: {})",
                self.root.join("models").display(),
                names.join(", ")
            )
        })
    }

    pub fn stream(&self, name: &str) -> Result<&StreamSpec> {
        self.streams.get(name).with_context(|| {
            let names: Vec<&str> = self.streams.keys().map(String::as_str).collect();
            let hint = suggest::hint(name, names.iter().copied());
            let folder = self.root.join("streams");
            if names.is_empty() {
                return format!("no stream \"{name}\": {} declares none", folder.display());
            }
            format!("no stream \"{name}\" in {}{hint} (there are: {})", folder.display(), names.join(", "))
        })
    }

    /// The model that is meant when none is named: the only one.
    pub fn only_model(&self) -> Result<&ModelSpec> {
        let mut all = self.models.values();
        match (all.next(), all.next()) {
            (Some(model), None) => Ok(model),
            (None, _) => bail!("the project declares no model; add one under {}", self.root.join("models").display()),
            _ => bail!(
                "the project has several models ({}); name one",
                self.models.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// The project in another environment than its file says.
    pub fn in_environment(mut self, name: Option<&str>) -> Result<Project> {
        let Some(name) = name.filter(|name| self.config.project.environment.as_deref() != Some(name)) else {
            return Ok(self);
        };
        let known: Vec<&str> =
            self.contracts.values().flat_map(|contract| contract.environments.keys().map(String::as_str)).collect();
        if !known.contains(&name) {
            let hint = suggest::hint(name, known.iter().copied());
            bail!("--env {name}: no contract has [environments.{name}]{hint}");
        }
        self.config.project.environment = Some(name.to_owned());
        Ok(self)
    }

    /// The contract with the severities of this environment.
    pub fn in_force(&self, contract: &Contract) -> Contract {
        contract.in_environment(self.config.project.environment.as_deref())
    }

    /// A file as it is called in records: inside the project relative to it, and elsewhere in full.
    pub fn file_name(&self, path: &Path) -> String {
        let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        full.strip_prefix(&root).unwrap_or(&full).display().to_string()
    }

    pub fn contract(&self, name: &str) -> Result<&Contract> {
        self.contracts.get(name).with_context(|| {
            let names: Vec<&str> = self.contracts.keys().map(String::as_str).collect();
            let hint = suggest::hint(name, names.iter().copied());
            let folder = self.root.join("contracts");
            format!("no contract \"{name}\" in {}{hint} (there are: {})", folder.display(), names.join(", "))
        })
    }

    /// The contract that is meant when none is named: the only one.
    pub fn only_contract(&self) -> Result<&Contract> {
        let mut all = self.contracts.values();
        match (all.next(), all.next()) {
            (Some(contract), None) => Ok(contract),
            (None, _) => bail!("the project has no contract; add one under {}", self.root.join("contracts").display()),
            _ => bail!(
                "the project has several contracts ({}); name one with --contract",
                self.contracts.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    pub fn contract_of(&self, spec: &ModelSpec) -> &Contract {
        &self.contracts[&spec.contract]
    }

    pub fn time_zone(&self) -> chrono_tz::Tz {
        self.config.project.time_zone.parse().unwrap_or(chrono_tz::UTC)
    }

    pub fn state(&self) -> PathBuf {
        self.root.join(&self.config.project.state)
    }

    fn place(&self, declared: &Option<String>, scheme: &str, default: &str) -> PathBuf {
        match declared {
            Some(value) => self.root.join(value.trim_start_matches(scheme).trim_start_matches("//")),
            None => self.state().join(default),
        }
    }

    pub fn catalog_path(&self) -> PathBuf {
        self.place(&self.config.storage.catalog, "sqlite:", "catalog.db")
    }

    pub fn blobs(&self) -> storage::Blobs {
        storage::Blobs::at(self.place(&self.config.storage.blobs, "file:", "blobs"))
    }

    /// Stores a bundle and what lies beside it; its name is returned.
    pub fn keep(&self, bundle: &Bundle) -> Result<Digest> {
        if let Some(beside) = bundle.beside_content() {
            self.blobs().put(beside)?;
        }
        Ok(self.blobs().put(&bundle.encode())?)
    }

    /// A bundle with what lies beside it; every byte is checked.
    pub fn bundle(&self, digest: &Digest) -> Result<Bundle> {
        let mut bundle = Bundle::decode(&self.blobs().get(digest)?)?;
        if let Some(beside) = bundle.beside() {
            bundle.attach(self.blobs().get(&beside.digest)?)?;
        }
        Ok(bundle)
    }

    pub fn log_path(&self) -> PathBuf {
        self.place(&self.config.storage.stream, "file:", "log")
    }

    pub fn routing_path(&self) -> PathBuf {
        self.state().join("routing.json")
    }

    pub async fn catalog(&self) -> Result<storage::Catalog> {
        Ok(storage::Catalog::open(&self.catalog_path()).await?)
    }

    /// The routing snapshot on disk, or an empty one.
    pub fn routing(&self) -> Result<vocabulary::Routing> {
        let path = self.routing_path();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged; remove it to start from the newest version", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(vocabulary::Routing::default()),
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }
}

fn streams(root: &Path, contracts: &BTreeMap<String, Contract>) -> Result<BTreeMap<String, StreamSpec>> {
    let mut streams = BTreeMap::new();
    for path in toml_files(&root.join("streams"))? {
        let mut spec: StreamSpec = read_toml(&path)?;
        vocabulary::id::check_name(&spec.name).with_context(|| format!("{}", path.display()))?;
        if let Some(name) = &spec.contract {
            let Some(contract) = contracts.get(name) else {
                let hint = suggest::hint(name, contracts.keys().map(String::as_str));
                bail!("{}: there is no contract \"{name}\"{hint}", path.display());
            };
            spec = spec.with_contract(contract);
        }
        let problems = spec.problems();
        if !problems.is_empty() {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("{}: {}", path.display(), all.join("; "));
        }
        streams.insert(spec.name.clone(), spec);
    }
    Ok(streams)
}

pub fn toml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    found.sort();
    Ok(found)
}

/// Reads a TOML file into `T`; an unknown key is an error with a suggestion.
pub fn read_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map_or_else(|| path.display().to_string(), |line| format!("{}, line {line}", path.display()));
        anyhow::anyhow!("{place}: {}", suggest::explained(error.message()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_with_place_and_suggestion() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, "[project]\nname = \"x\"\n[server]\nprot = 1\n").unwrap();
        let error = read_toml::<Config>(&path).unwrap_err().to_string();
        assert!(error.contains("line 4") && error.contains("did you mean \"port\"?"), "{error}");
        std::fs::write(&path, "[storage]\ncatalog = \"mysql:x\"\n").unwrap();
        assert!(Project::load(folder.path()).unwrap_err().to_string().contains("sqlite:PATH"));
    }
}
