//! What a person types.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Keeps predictive models inside their objectives while traffic, data and the world drift.
#[derive(Parser, Debug)]
#[command(name = "homeostat", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Print one JSON document to standard output; everything else goes to standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// The project's folder; by default the current one or the nearest above it that holds homeostat.toml.
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
    /// Which of the contracts' environments this is; by default what homeostat.toml says under [project] environment
    #[arg(long, global = true, value_name = "NAME")]
    pub env: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Task {
    Binary,
    Regression,
    Multiclass,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Learner {
    Linear,
    Trees,
    Network,
    Auto,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// The main job on the bundled flights data: learn, serve, watch, retrain, prove, promote; live in the browser
    Quickstart(Quickstart),
    /// A project from a data file: inferred contract and a model file, ready to train
    Init(Init),
    /// Files, contracts and data are valid, changes are compatible with what is deployed, and no column knows the outcome;
    /// with --data, a report on one file; with --parity, the pipeline gives the same bits for a batch and row by row
    Check(Check),
    /// Rows that were set aside: what there is, why, and back into the data once they are corrected
    Quarantine {
        #[command(subcommand)]
        action: QuarantineAction,
    },
    /// Trains, evaluates and registers a version with its lineage
    Train(Train),
    /// Searches for the declaration's best values, then trains and registers the winner
    Tune(Tune),
    /// Smaller versions of a version, each measured against it
    Compress(Compress),
    /// Which columns say something, which are noise, and what each costs
    Select(Select),
    /// Writes a version as an ONNX file that gives the same answers, and says what its inputs are
    Export {
        /// model@7, model@live, or a digest
        version: String,
        #[arg(long, value_name = "FILE.onnx")]
        out: PathBuf,
        /// Take the model's own inputs as two matrices, instead of raw columns as far as tensors can express the pipeline
        #[arg(long)]
        matrices: bool,
    },
    /// Trains a version again from its lineage and compares the bytes
    Reproduce {
        /// model@7, model@live, or a digest
        version: String,
        /// Threads; the result is the same for any number
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
    /// Registers models made elsewhere: ONNX, LightGBM text, XGBoost JSON or UBJSON, CatBoost JSON or cbm
    Import(Import),
    /// Metrics of a version on a data file, with confidence intervals, per slice
    Evaluate(Evaluate),
    /// Batch scoring, in parts: begun again after it was cut off, it goes on
    Predict(Predict),
    /// What versions there are
    Versions {
        /// Only this model's
        model: Option<String>,
    },
    /// Everything about one version
    Show(Show),
    /// Paired difference of two versions on the same rows
    Compare(Compare),
    /// Data plane, control loop and dashboard
    Serve(Serve),
    /// Gives a version traffic: in shadow (the default), as a canary, or at once
    Release(Release),
    /// Returns to the version before, or to a named one
    Rollback {
        model: String,
        /// The version to return to, such as model@3; by default the fallback
        #[arg(long)]
        to: Option<String>,
    },
    /// Stops retraining of a model
    Freeze { model: String },
    /// Allows retraining of a model again
    Thaw { model: String },
    /// The same answer again from the log, or where it differs
    Replay {
        /// Prediction ids
        #[arg(value_name = "PREDICTION_ID", required_unless_present = "sample")]
        ids: Vec<String>,
        /// Replay this many predictions chosen at random from the log
        #[arg(long, value_name = "N", conflicts_with = "ids")]
        sample: Option<usize>,
        /// Seed of the choice
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// What is going on
    Status { model: Option<String> },
    /// What the monitors found
    Findings,
    /// What went wrong, what moved first, what was done, and how it ended
    Incidents {
        /// Only this one, with its timeline
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// Puts the promises of an OpenSLO v1 file into a model's declaration
    ImportSlo {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The model; not needed where the project has one
        #[arg(long)]
        model: Option<String>,
    },
    /// Rehearses a playbook with made records: does the right action come within the time that it states?
    Drill {
        /// The playbook's name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Where a version came from
    Lineage { version: String },
    /// Keys of the tenants that may ask for predictions
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// The audit log; `audit verify` checks its chain
    Audit {
        #[command(subcommand)]
        action: Option<AuditAction>,
    },
    /// Streams of events: running one, what they have done, and what they know about a key
    Stream {
        #[command(subcommand)]
        action: StreamAction,
    },
    /// Runs a job that the server started; not for people
    #[command(hide = true)]
    Job { id: String },
}

#[derive(Subcommand, Debug)]
pub enum TokenAction {
    /// Makes a key, shows it once, and writes its digest into homeostat.toml
    Create {
        #[arg(long)]
        role: Role,
        /// Whose requests it stands for; made where it is not declared yet
        #[arg(long, default_value = "default")]
        tenant: String,
    },
}

#[derive(Subcommand, Debug)]
pub enum StreamAction {
    /// Takes events in until it is stopped; begun again, it goes on where it was, also after a crash
    Run {
        stream: String,
        /// End when the source has nothing more
        #[arg(long)]
        until_end: bool,
        /// And then close every window: nothing will ever come after it
        #[arg(long, requires = "until_end")]
        close: bool,
    },
    /// Events by what became of them, lag, watermarks
    Status {
        /// Only this stream's
        stream: Option<String>,
    },
    /// What a stream knows about a key
    Features {
        stream: String,
        /// The key column's value; of several columns, a JSON array in their order
        #[arg(long)]
        key: String,
        /// Of the events before this instant; now, when left out
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Role {
    /// May ask for predictions and hand in outcomes
    Client,
}

#[derive(Subcommand, Debug)]
pub enum AuditAction {
    /// Recomputes the chain and names the first entry that does not fit
    Verify,
}

#[derive(Args, Debug)]
pub struct Quickstart {
    /// Where the project is laid out; a run that was cut off there goes on
    #[arg(long, default_value = "homeostat-quickstart")]
    pub dir: PathBuf,
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Seconds of event time a second; as fast as the machine can when left out
    #[arg(long, value_name = "N")]
    pub speed: Option<f64>,
    /// End when the last flight has landed, instead of serving on
    #[arg(long)]
    pub exit_when_done: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of training; the result is the same for any number
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Replay only up to this instant
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Begin anew, whatever --dir holds from before
    #[arg(long)]
    pub fresh: bool,
}

#[derive(Args, Debug)]
pub struct Init {
    /// The folder to make
    pub dir: PathBuf,
    /// A table: .parquet, .csv (also with semicolons, tabs, bars), .jsonl, .json, .arrow; text may end in .gz
    #[arg(long)]
    pub data: PathBuf,
    /// The column to predict
    #[arg(long)]
    pub target: String,
    /// The column that says when an event happened
    #[arg(long)]
    pub time: Option<String>,
    /// The column that identifies an event
    #[arg(long)]
    pub key: Option<String>,
    /// By default what the target's values suggest
    #[arg(long)]
    pub task: Option<Task>,
    /// The model's name; by default the target's
    #[arg(long)]
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Show {
    /// model@7, model@live, or a digest
    pub version: String,
    /// The pipeline as a table: what each step reads, does and gives
    #[arg(long)]
    pub pipeline: bool,
    /// Write the pipeline as a graph for Graphviz
    #[arg(long, value_name = "FILE")]
    pub dot: Option<PathBuf>,
    /// Write the pipeline as a picture
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Check {
    /// Transform the model's whole data set as one batch and row by row, and count the differing bits
    #[arg(long)]
    pub parity: bool,
    /// With --parity: compute again, from the streams' histories, the window features that logged answers were given with
    #[arg(long, requires = "parity", conflicts_with_all = ["data", "collisions", "rows", "perturb"])]
    pub online: bool,
    /// Compare this many rows: those of the data set again and again, changed as the seed says
    #[arg(long, value_name = "N", requires = "parity", value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// Make some cells missing, some extreme and some a little off
    #[arg(long, value_name = "SEED", requires = "parity")]
    pub perturb: Option<u64>,
    /// Count the different values of hashed columns that share a slot
    #[arg(long)]
    pub collisions: bool,
    /// Only this model
    #[arg(conflicts_with = "data")]
    pub model: Option<String>,
    /// Hold the table in this file against a contract
    #[arg(long, value_name = "FILE", conflicts_with_all = ["parity", "collisions"])]
    pub data: Option<PathBuf>,
    /// The contract; not needed where the project has one
    #[arg(long, value_name = "NAME", requires = "data")]
    pub contract: Option<String>,
    /// Keep the file's rows that the contract sets aside
    #[arg(long, requires = "data")]
    pub quarantine: bool,
    /// The instant against which freshness is measured; by default the newest event's
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// Write the report as a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum QuarantineAction {
    /// The files of rows that wait, and the corrections that are in use
    List {
        /// Only this contract's
        contract: Option<String>,
    },
    /// The rows of a file and why they were set aside
    Show { file: PathBuf },
    /// Checks the rows of a corrected file again; those that pass take the place of the rows that they were
    Replay {
        /// A file of the quarantine, corrected in place, or a corrected copy of one (Parquet or CSV)
        file: PathBuf,
        /// The contract; not needed where the project has one, nor for a file of the quarantine
        #[arg(long, value_name = "NAME")]
        contract: Option<String>,
    },
}

#[derive(Args, Debug)]
pub struct Train {
    /// The model; not needed where the project has one
    pub model: Option<String>,
    #[arg(long)]
    pub learner: Option<Learner>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; the result is the same for any number
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Learn from events at or after this instant; or go on from a version, such as model@3, growing it where the
    /// declaration asks for more
    #[arg(long, value_name = "TIME|VERSION")]
    pub from: Option<String>,
    /// Share of the version's weights that is kept, the rest being as if begun anew
    #[arg(long, value_name = "SHARE", requires = "from")]
    pub shrink: Option<f64>,
    /// Learn from what was known before this instant
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Read the data in pieces instead of loading it, as is done where it is large ([engine] load_bytes_max); for the
    /// learner linear and one Parquet file that is sorted by time
    #[arg(long)]
    pub stream: bool,
    /// Learn from the very set that a version was made from, by the snapshot that its lineage names
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "to"])]
    pub snapshot: Option<String>,
    /// Go on with a run that was cut off; it ends with the same bytes as one that never was
    #[arg(long, value_name = "RUN", conflicts_with_all = ["model", "learner", "from", "to", "seed", "stream", "snapshot"])]
    pub resume: Option<String>,
}

#[derive(Args, Debug)]
pub struct Tune {
    /// The model; not needed where the project has one
    pub model: Option<String>,
    /// Points that are tried at most; by default what the model's [tuning] says
    #[arg(long, value_name = "N")]
    pub trials: Option<u32>,
    /// Time after which no trial begins, such as 10m
    #[arg(long, value_name = "TIME")]
    pub budget: Option<String>,
    /// Price after which no trial begins, in the project's currency
    #[arg(long, value_name = "AMOUNT")]
    pub money: Option<f64>,
    /// Trials at once; the trials and the winner are the same for any number
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// auto searches over all learners at once
    #[arg(long)]
    pub learner: Option<Learner>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of all workers together
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Learn from events at or after this instant
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Learn from what was known before this instant
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Put the winner's values into the model's file
    #[arg(long)]
    pub write: bool,
    /// Go on with a search that was cut off; it ends as one that never was
    #[arg(long, value_name = "RUN", conflicts_with_all = ["model", "learner", "trials", "budget", "money", "from", "to", "seed"])]
    pub resume: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Bits {
    Int8,
    /// Tables in 4 bits, the rest in 8
    Int4,
}

#[derive(Args, Debug)]
pub struct Compress {
    /// model@7, model@live, or a digest
    pub version: String,
    /// A student of this learner learns from the version
    #[arg(long, value_name = "LEARNER")]
    pub distill: Option<Learner>,
    /// Versions that teach instead, their answers averaged; imported ones too, where they read the model's columns
    #[arg(long, value_name = "VERSION,…", value_delimiter = ',')]
    pub teacher: Vec<String>,
    /// Share of trees, units or weights to remove, those that do least, such as 0.5 or 50%
    #[arg(long, value_name = "SHARE")]
    pub prune: Option<String>,
    #[arg(long, value_name = "BITS")]
    pub quantize: Option<Bits>,
    /// Try every learner, pruned and in few bits, and name the cheapest that keeps all promises
    #[arg(long, conflicts_with_all = ["distill", "prune", "quantize"])]
    pub search: bool,
    /// A promise to keep, such as auc=0.72 or rmse=3.1; by default what the model's [objective] limits say
    #[arg(long, value_name = "METRIC=LIMIT", requires = "search")]
    pub keep: Vec<String>,
    /// Columns whose values make slices, each of which must keep the promises too
    #[arg(long, value_delimiter = ',', value_name = "COL,…")]
    pub slices: Vec<String>,
    /// Threads; the result is the same for any number
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

#[derive(Args, Debug)]
pub struct Select {
    /// The model; not needed where the project has one
    pub model: Option<String>,
    #[arg(long)]
    pub learner: Option<Learner>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Trainings on shuffled targets that tell chance from importance
    #[arg(long, default_value_t = 10)]
    pub shuffles: u32,
    /// Share of the loss of all columns that the proposal may lose
    #[arg(long, default_value_t = 0.002)]
    pub tolerance: f64,
}

#[derive(Args, Debug)]
pub struct Evaluate {
    /// model@7, model@live, or a digest
    pub version: String,
    #[arg(long)]
    pub data: PathBuf,
    /// Columns whose values make slices
    #[arg(long, value_delimiter = ',', value_name = "COL,…")]
    pub slices: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Compare {
    pub a: String,
    pub b: String,
    /// The rows; by default the model's own data, its newest part
    #[arg(long)]
    pub data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Predict {
    pub model: String,
    #[arg(long)]
    pub data: PathBuf,
    /// A .parquet or .csv file
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Args, Debug)]
pub struct Import {
    /// Model files
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The model's name; by default the file's, without its extension
    #[arg(long = "as", value_name = "MODEL")]
    pub name: Option<String>,
    /// Known outputs: a table (.parquet, .csv) with the features and their answers, or a .json with the tensors
    /// {"inputs": [...], "outputs": [...]}; where the model answers otherwise it is not registered
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// The table's column of known answers
    #[arg(long, value_name = "COL", requires = "expect")]
    pub expect_column: Option<String>,
    /// The model's output that is compared; by default the probability or value
    #[arg(long, value_name = "NAME", requires = "expect")]
    pub expect_output: Option<String>,
    /// Largest difference that passes, relative where the known answer is above one
    #[arg(long, value_name = "T", default_value_t = 1e-6, requires = "expect")]
    pub tolerance: f64,
    /// Names of the columns of the model's input, in order, where its file does not say them
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    pub inputs: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Serve {
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    pub with_parent: bool,
    /// 0 takes any free port
    #[arg(long)]
    pub port: Option<u16>,
    /// Where gRPC listens; 0 takes any free port
    #[arg(long)]
    pub grpc_port: Option<u16>,
}

#[derive(Args, Debug)]
pub struct Release {
    pub version: String,
    /// Score real requests off the hot path (the default)
    #[arg(long, conflicts_with_all = ["canary", "now"])]
    pub shadow: bool,
    /// Answer this share of requests
    #[arg(long, value_name = "SHARE", conflicts_with = "now")]
    pub canary: Option<String>,
    /// Answer all requests
    #[arg(long)]
    pub now: bool,
}
