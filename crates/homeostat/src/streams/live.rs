//! What can be seen of a stream at work, and of one that rests.

use crate::clock;
use crate::project::Project;
use anyhow::Result;
use features::windows::Engine;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use storage::streams::{Head, Lag, Store};
use vocabulary::Timestamp;
use vocabulary::stream::{SourceSpec, StreamSpec};

/// A stream that is run in this process. The engine is locked for a few events at a time by the stream's own thread.
pub struct Live {
    pub spec: StreamSpec,
    pub engine: RwLock<Engine>,
    pub standing: Mutex<Standing>,
}

impl Live {
    /// Of a stream of which nothing is read yet.
    pub fn new(spec: &StreamSpec) -> Result<Live> {
        Ok(Live { spec: spec.clone(), engine: RwLock::new(Engine::new(spec)?), standing: Mutex::default() })
    }

    /// Whether the engine holds what was committed, at least.
    pub fn is_open(&self) -> bool {
        self.standing.lock().opened
    }
}

/// Where the stream's thread has got to.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Whether the last commit was read.
    pub opened: bool,
    pub head: Head,
    pub lag: Lag,
    /// Rows that the source removed before they were read, since this process began.
    pub missed: u64,
    pub doing: Doing,
    pub rows_per_second: f64,
    pub committed_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    #[default]
    Starting,
    Running,
    /// Something outside is not there; why.
    Waiting(String),
    /// It is tried again from the last commit; why.
    Failed(String),
    Stopped,
}

impl Doing {
    fn name(&self) -> &'static str {
        match self {
            Doing::Starting => "starting",
            Doing::Running => "running",
            Doing::Waiting(_) => "waiting",
            Doing::Failed(_) => "failed",
            Doing::Stopped => "stopped",
        }
    }
}

/// What a stream does and has done, for people and programs.
pub fn shown(live: &Live) -> Value {
    let standing = live.standing.lock().clone();
    let mut shown = of(&live.spec, &live.engine.read(), &standing.head);
    shown["state"] = json!(standing.doing.name());
    if let Doing::Waiting(why) | Doing::Failed(why) = &standing.doing {
        shown["because"] = json!(why);
    }
    shown["lag"] = json!(standing.lag);
    shown["missed"] = json!(standing.missed);
    shown["rows_per_second"] = json!(standing.rows_per_second.round());
    shown["committed_at"] = json!(standing.committed_at);
    shown
}

fn of(spec: &StreamSpec, engine: &Engine, head: &Head) -> Value {
    let counters = engine.counters();
    let refused =
        counters.refused_keys + counters.refused_tiles + counters.refused_events + counters.refused_duplicates;
    let refused = refused + super::history::refused(head);
    let watermark = Some(engine.watermark()).filter(|at| *at != Timestamp::MIN);
    let partitions: Vec<Value> = engine
        .watermarks()
        .iter()
        .map(|partition| {
            let mut shown = json!(partition);
            shown["offset"] = json!(head.offsets.get(&partition.partition).map(ToString::to_string));
            shown
        })
        .collect();
    json!({
        "stream": spec.name,
        "source": kind(&spec.source),
        "accepted": counters.accepted,
        "late": counters.late,
        "duplicates": counters.duplicate,
        "too_late": counters.too_late,
        "ahead": counters.ahead,
        "refused": refused,
        "malformed": malformed(head),
        "closed": counters.closed,
        "corrected": counters.corrected,
        "withdrawn": counters.withdrawn,
        "watermark": watermark,
        "partitions": partitions,
        "holds": engine.sizes(),
        "tables": head.tables,
        "history": { "events": super::history::held(head), "refused": super::history::refused(head) },
    })
}

pub fn malformed(head: &Head) -> u64 {
    head.counts.get(super::output::MALFORMED).copied().unwrap_or(0)
}

pub fn kind(source: &SourceSpec) -> &'static str {
    match source {
        SourceSpec::Files { .. } => "files",
        SourceSpec::Http { .. } => "http",
        SourceSpec::Nats { .. } => "nats",
    }
}

/// What the process that runs a stream notes about it each second, for others to see.
const NOTE: &str = "live.json";

pub fn note(folder: &Path, shown: &Value) {
    let mut shown = shown.clone();
    shown["at"] = json!(clock::wall());
    if let Ok(bytes) = serde_json::to_vec(&shown)
        && let Err(error) = storage::replace(&folder.join(NOTE), &bytes)
    {
        tracing::warn!("{error}");
    }
}

/// A stream as its state folder tells it: what was committed and, while some process runs it, what that one noted.
pub fn stored(project: &Project, spec: &StreamSpec) -> Result<Value> {
    let folder = super::folder(project, &spec.name);
    if Store::is_open(&folder)
        && let Some(noted) = std::fs::read(folder.join(NOTE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    {
        return Ok(noted);
    }
    let (engine, head) = match Store::read(&folder)? {
        Some(committed) => (Engine::from_bytes(spec, &committed.engine)?, committed.head),
        None => (Engine::new(spec)?, Head::default()),
    };
    let mut shown = of(spec, &engine, &head);
    shown["state"] = json!(Doing::Stopped.name());
    Ok(shown)
}

/// Counts of events by what became of them.
pub fn outcomes(live: &Live) -> BTreeMap<&'static str, u64> {
    let (malformed, no_room) = {
        let head = &live.standing.lock().head;
        (malformed(head), super::history::refused(head))
    };
    let engine = live.engine.read();
    let counters = engine.counters();
    BTreeMap::from([
        ("accepted", counters.accepted - counters.late),
        ("late", counters.late),
        ("duplicate", counters.duplicate),
        ("too_late", counters.too_late),
        ("ahead", counters.ahead),
        ("limit_keys", counters.refused_keys),
        ("limit_tiles", counters.refused_tiles),
        ("limit_events", counters.refused_events),
        ("limit_duplicates", counters.refused_duplicates),
        ("limit_history", no_room),
        ("malformed", malformed),
    ])
}
