//! The loop of one stream: read, decode, push, and commit what came of it.
//!
//! What a run gives depends on the rows and their order alone: not on how many were read at a time, on when it committed,
//! or on where it was cut off. Of several partitions the one that is furthest behind in event time is read next, so that
//! over files the order is the same each time.

use super::decode::Decoder;
use super::history::{Archive, LIMIT_HISTORY};
use super::live::{Doing, Live, note, shown};
use super::output::{ASIDE, Aside, Columns, MALFORMED, reason};
use super::sources::{self, Order};
use crate::clock;
use crate::project::Project;
use anyhow::{Context, Result};
use features::windows::{Engine, Event, Partition, Pushed, Window};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use storage::StorageError;
use storage::streams::{Ending, Lag, Offset, Pulled, Source, Spool, Store, Tables};
use tokio::runtime::Handle;
use vocabulary::Timestamp;

/// Rows read at a time: enough to make reading cheap, few enough to stop and commit in time.
const READ_ROWS: usize = 4096;
/// Events for which the engine is locked at a time: some 30 µs that a look-up may have to wait.
const LOCKED_EVENTS: usize = 32;
/// How long one partition is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long is waited where no partition has anything.
const PAUSE: Duration = Duration::from_millis(50);
/// A commit takes this share of the time at most.
const COMMIT_SHARE: u32 = 10;
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until it is stopped.
    Stopped,
    /// Until the sources have nothing more.
    End,
    /// The same, and then every window closes: nothing will ever come after it.
    Closed,
}

/// One stream at work.
pub struct Runner {
    live: Arc<Live>,
    until: Until,
    folder: PathBuf,
    decoder: Decoder,
    source: Box<dyn Source>,
    store: Store,
    tables: Tables,
    columns: Vec<Columns>,
    aside: Aside,
    archive: Archive,
    partitions: Vec<Part>,
    /// Whether anything came since the last commit.
    changed: bool,
    committed: Instant,
    commit_took: Duration,
    noted: Instant,
    rows: u64,
    rows_noted: u64,
}

struct Part {
    name: String,
    number: Partition,
    offset: Offset,
    lag: Lag,
    newest: Option<Timestamp>,
    /// Read to its end, in a run that has one.
    ended: bool,
    /// The engine was told that others need not wait for it.
    idle: bool,
    brought: Instant,
}

enum Step {
    Moved,
    Nothing,
}

impl Runner {
    /// Opens a stream where it was last committed. `spool` is put in where the stream is the first to open it.
    pub fn open(
        project: &Project,
        live: &Arc<Live>,
        until: Until,
        runtime: &Handle,
        spool: &Mutex<Option<Spool>>,
    ) -> Result<Runner> {
        let spec = &live.spec;
        let folder = super::folder(project, &spec.name);
        let store = Store::open(&folder)?;
        let committed = Store::read(&folder)?;
        let mut engine = match &committed {
            Some(committed) => Engine::from_bytes(spec, &committed.engine).with_context(|| {
                format!("stream \"{}\" can't go on; remove {} to begin anew", spec.name, folder.display())
            })?,
            None => Engine::new(spec)?,
        };
        let head = committed.map(|committed| committed.head).unwrap_or_default();
        let tables = Tables::open(&Store::tables(&folder), &head.tables)?;
        let archive = Archive::open(spec, &folder, &head, &tables)?;
        let decoder = Decoder::new(spec)?;
        let ending = if until == Until::Stopped { Ending::Open } else { Ending::Final };
        let order = Order { project, spec, ending, runtime, spool: spool.lock().clone() };
        let opened = sources::open(&order, &decoder)?;
        *spool.lock() = opened.spool;
        let now = Instant::now();
        let partitions = opened.source.partitions().iter().map(|name| Part {
            name: name.clone(),
            number: engine.partition(name),
            offset: head.offsets.get(name).cloned().unwrap_or_default(),
            lag: Lag::default(),
            newest: None,
            ended: false,
            idle: false,
            brought: now,
        });
        let partitions = partitions.collect();
        *live.engine.write() = engine;
        {
            let mut standing = live.standing.lock();
            (standing.opened, standing.head) = (true, head);
        }
        let mut runner = Runner {
            live: Arc::clone(live),
            until,
            folder,
            decoder,
            source: opened.source,
            store,
            tables,
            columns: Columns::of(spec),
            aside: Aside::default(),
            archive,
            partitions,
            changed: false,
            committed: now,
            commit_took: Duration::ZERO,
            noted: now,
            rows: 0,
            rows_noted: 0,
        };
        runner.see_watermarks();
        runner.release()?;
        Ok(runner)
    }

    /// Rows read in this run.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Runs until its end or until `stop`; what was done by then is committed. `look` is called about once a second.
    pub fn run(&mut self, stop: &AtomicBool, look: &mut dyn FnMut(&Live)) -> Result<()> {
        let mut backoff = Backoff::default();
        self.doing(Doing::Running);
        let stopped = || stop.load(Ordering::Relaxed);
        while !stopped() {
            match self.step() {
                Ok(Step::Moved) => {
                    backoff = Backoff::default();
                    self.doing(Doing::Running);
                }
                Ok(Step::Nothing) if self.until != Until::Stopped => break,
                Ok(Step::Nothing) => self.doing(Doing::Running),
                Err(error) => match error.downcast_ref() {
                    Some(StorageError::Unavailable(why)) => {
                        self.doing(Doing::Waiting(why.clone()));
                        self.note(look);
                        self.commit()?;
                        backoff.sleep(stop);
                    }
                    _ => return Err(error),
                },
            }
            let pause = self.commit_took * COMMIT_SHARE;
            let every = Duration::from_micros(self.live.spec.commit_every.0.max(0) as u64);
            if self.committed.elapsed() >= every.max(pause) {
                self.commit()?;
            }
            if self.noted.elapsed() >= NOTE_EVERY {
                self.note(look);
            }
        }
        if self.until == Until::Closed && !stopped() {
            self.close()?;
        }
        self.commit()?;
        self.doing(Doing::Stopped);
        self.note(look);
        Ok(())
    }

    /// Takes rows from the partition that is furthest behind and has any.
    fn step(&mut self) -> Result<Step> {
        let mut places: Vec<usize> =
            (0..self.partitions.len()).filter(|place| !self.partitions[*place].ended).collect();
        places.sort_by_key(|place| self.partitions[*place].newest);
        let alone = self.partitions.len() == 1;
        let patience = if alone && self.until == Until::Stopped { PATIENCE } else { Duration::ZERO };
        for place in places {
            let part = &self.partitions[place];
            let pulled = self.source.read(place, &part.offset, READ_ROWS, patience)?;
            match pulled {
                Some(pulled) => {
                    self.take(place, pulled)?;
                    return Ok(Step::Moved);
                }
                None => self.nothing_from(place)?,
            }
        }
        if !alone && self.until == Until::Stopped {
            std::thread::sleep(PAUSE);
        }
        Ok(Step::Nothing)
    }

    /// A partition that others need not wait for: read to its end, or without rows for as long as is declared.
    fn nothing_from(&mut self, place: usize) -> Result<()> {
        let alone = self.partitions.len() == 1;
        let part = &mut self.partitions[place];
        part.lag = Lag { rows: Some(0), bytes: Some(0) };
        let idle_after = self.live.spec.idle_after.map(|span| Duration::from_micros(span.0.max(0) as u64));
        part.ended = self.until != Until::Stopped;
        // With one partition there is nothing that it could hold back.
        let idle = !alone && (part.ended || idle_after.is_some_and(|after| part.brought.elapsed() >= after));
        if idle && !part.idle {
            self.live.engine.write().idle(part.number);
            part.idle = true;
            self.changed = true;
            self.keep_emitted()?;
        }
        self.see_lag();
        Ok(())
    }

    fn take(&mut self, place: usize, pulled: Pulled) -> Result<()> {
        let Pulled { rows, next, lag } = pulled;
        let part = &mut self.partitions[place];
        let taken = self.decoder.decode(&rows).with_context(|| {
            format!("stream \"{}\": the rows from {} on can't be read", self.live.spec.name, part.offset)
        })?;
        let mut reasons = Vec::with_capacity(taken.len());
        let mut newest = part.newest.unwrap_or(Timestamp::MIN);
        for events in taken.chunks(LOCKED_EVENTS) {
            let mut engine = self.live.engine.write();
            for taken in events {
                reasons.push(match &taken.event {
                    Ok(event) => push(&mut engine, &mut self.archive, part.number, event, &mut newest)?,
                    Err(_) => Some(MALFORMED),
                });
            }
        }
        for (taken, reason) in taken.iter().zip(&reasons) {
            let Some(reason) = reason else { continue };
            self.aside.add(&part.name, taken, reason, &rows);
        }
        let count = |what: &str| reasons.iter().filter(|reason| **reason == Some(what)).count() as u64;
        (part.offset, part.lag, part.brought, part.idle) = (next, lag, Instant::now(), false);
        self.rows += taken.len() as u64;
        self.changed = true;
        {
            let mut standing = self.live.standing.lock();
            standing.head.offsets.insert(part.name.clone(), part.offset.clone());
            *standing.head.counts.entry(MALFORMED.to_owned()).or_default() += count(MALFORMED);
            if count(LIMIT_HISTORY) > 0 {
                *standing.head.counts.entry(LIMIT_HISTORY.to_owned()).or_default() += count(LIMIT_HISTORY);
            }
            self.archive.note(&mut standing.head);
            standing.missed = self.source.missed();
        }
        self.see_lag();
        self.see_watermarks();
        let aside = self.aside.batch()?;
        self.tables.append(ASIDE, aside)?;
        self.archive.hand_over(&mut self.tables)?;
        self.keep_emitted()
    }

    fn keep_emitted(&mut self) -> Result<()> {
        let emitted = self.live.engine.write().take_emitted();
        for (place, columns) in self.columns.iter().enumerate() {
            let windows: Vec<&Window> = emitted.iter().filter(|window| window.window == place).collect();
            if !windows.is_empty() {
                self.tables.append(columns.table(), columns.batch(&windows)?)?;
            }
        }
        Ok(())
    }

    fn see_watermarks(&mut self) {
        let seen = self.live.engine.read().watermarks();
        for part in &mut self.partitions {
            part.newest = seen.iter().find(|seen| seen.partition == part.name).and_then(|seen| seen.newest);
        }
    }

    fn see_lag(&self) {
        let lag = self.partitions.iter().map(|part| part.lag).reduce(Lag::and).unwrap_or_default();
        self.live.standing.lock().lag = lag;
    }

    fn close(&mut self) -> Result<()> {
        for part in &self.partitions {
            self.live.engine.write().end(part.number);
        }
        self.changed = true;
        self.keep_emitted()
    }

    /// Writes down state, offsets and tables as one.
    fn commit(&mut self) -> Result<()> {
        self.committed = Instant::now();
        if !self.changed {
            return Ok(());
        }
        let tables = self.tables.prepare()?;
        let engine = self.live.engine.read().to_bytes();
        let head = {
            let mut standing = self.live.standing.lock();
            standing.head.tables = tables;
            standing.head.clone()
        };
        self.store.commit(&head, &engine)?;
        self.tables.committed()?;
        self.archive.committed(&self.tables)?;
        self.release()?;
        self.changed = false;
        self.commit_took = self.committed.elapsed();
        self.committed = Instant::now();
        self.live.standing.lock().committed_at = Some(clock::wall());
        Ok(())
    }

    fn release(&mut self) -> Result<()> {
        let offsets: Vec<Offset> = self.partitions.iter().map(|part| part.offset.clone()).collect();
        Ok(self.source.release(&offsets)?)
    }

    fn doing(&self, doing: Doing) {
        self.live.standing.lock().doing = doing;
    }

    fn note(&mut self, look: &mut dyn FnMut(&Live)) {
        let seconds = self.noted.elapsed().as_secs_f64();
        if seconds > 0.0 {
            self.live.standing.lock().rows_per_second = (self.rows - self.rows_noted) as f64 / seconds;
        }
        (self.noted, self.rows_noted) = (Instant::now(), self.rows);
        note(&self.folder, &shown(&self.live));
        look(&self.live);
    }
}

/// Hands an event to the engine and, where it counts, to the history; or says why it does not count.
fn push(
    engine: &mut Engine,
    archive: &mut Archive,
    partition: Partition,
    event: &Event,
    newest: &mut Timestamp,
) -> Result<Option<&'static str>> {
    if archive.is_full(engine)? {
        engine.pass_by(partition, event);
        return Ok(Some(LIMIT_HISTORY));
    }
    let pushed = engine.push(partition, event);
    if pushed != Pushed::Ahead {
        *newest = event.time.max(*newest);
    }
    if pushed == Pushed::Accepted {
        archive.keep(event, *newest, engine)?;
    }
    Ok(reason(pushed))
}

/// Runs a stream until `stop`; after trouble, again from the last commit.
pub fn keep_running(
    project: &Project,
    live: &Arc<Live>,
    runtime: &Handle,
    spool: &Mutex<Option<Spool>>,
    stop: &AtomicBool,
) {
    let mut backoff = Backoff::default();
    while !stop.load(Ordering::Relaxed) {
        let ran = Runner::open(project, live, Until::Stopped, runtime, spool).and_then(|mut runner| {
            let ran = runner.run(stop, &mut |_| {});
            if runner.rows() > 0 {
                backoff = Backoff::default();
            }
            ran
        });
        if let Err(error) = ran {
            tracing::error!("stream \"{}\": {error:#}", live.spec.name);
            live.standing.lock().doing = Doing::Failed(format!("{error:#}"));
            backoff.sleep(stop);
        }
    }
}

/// Waits twice as long each time, up to five seconds.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(Duration::from_millis(100))
    }
}

impl Backoff {
    fn sleep(&mut self, stop: &AtomicBool) {
        let until = Instant::now() + self.0;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE.min(self.0));
        }
        self.0 = (self.0 * 2).min(Duration::from_secs(5));
    }
}
