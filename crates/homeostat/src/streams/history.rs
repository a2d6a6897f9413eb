//! A stream's history: the events that it counted, each with the instant at which it became known, in a table that is
//! committed together with state and offsets. Written by the stream's own thread, read by whoever trains or checks.
//!
//! What is kept, let go and refused depends on the events and their order alone, so that a run that was cut off ends
//! with the same files as one that was not.

use super::folder;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use features::windows::{Counted, Engine, Event, EventTable};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use storage::parts::ParquetFile;
use storage::streams::tables::{ROWS_A_PART, files};
use storage::streams::{Head, Store, Tables};
use vocabulary::Timestamp;
use vocabulary::stream::{HistorySpec, StreamSpec};

/// The table's name, which no window's table can have.
pub const HISTORY: &str = "history";

/// An event that was turned away because the history is full.
pub const LIMIT_HISTORY: &str = "limit_history";

/// Among the head's counts: parts of the table that were let go, from the first on.
const PARTS_GONE: &str = "history_parts_gone";

/// Events of one stream's history that are held in memory at most: a judgement, some 10 GB. More are refused.
const LOADED_EVENTS_MAX: u64 = 50_000_000;

/// The history while its stream runs.
pub struct Archive {
    spec: HistorySpec,
    table: EventTable,
    folder: PathBuf,
    /// Events on their way into the table.
    pending: Vec<Counted>,
    /// Rows of the table, those on their way and those let go included.
    rows: u64,
    /// Parts that were let go, counted and on the disk.
    gone: u64,
    swept: u64,
    /// The newest event's time in each full part that was filled since the stream was opened, and in the first that is
    /// kept, once it was asked.
    newest: VecDeque<(u64, i64)>,
    /// The same of the part that is filled at present.
    filling: i64,
}

impl Archive {
    pub fn open(stream: &StreamSpec, streams_folder: &Path, head: &Head, tables: &Tables) -> Result<Archive> {
        let folder = Store::tables(streams_folder).join(HISTORY);
        let (table, rows) = (EventTable::new(stream), tables.rows(HISTORY));
        let mut filling = i64::MIN;
        let tail = rows % ROWS_A_PART as u64;
        if tail > 0
            && let Some(path) = files(&folder, rows).last()
        {
            filling = newest_of(&table, path)?;
        }
        let gone = gone(head);
        tables.let_go(HISTORY, gone)?;
        let (spec, pending, newest) = (stream.history.clone(), Vec::new(), VecDeque::new());
        Ok(Archive { spec, table, folder, pending, rows, gone, swept: gone, newest, filling })
    }

    /// Whether one more event would be too many, also after what is old was let go.
    pub fn is_full(&mut self, engine: &Engine) -> Result<bool> {
        let full = |archive: &Archive| archive.rows - archive.gone * ROWS_A_PART as u64 >= archive.spec.events_max;
        if self.spec.is_on() && full(self) {
            self.let_go(engine)?;
            return Ok(full(self));
        }
        Ok(false)
    }

    /// Keeps an event that `engine` has just accepted. One without a knowledge time of its own became known when its
    /// partition had come as far as `newest`, which says when it came to whoever read along.
    pub fn keep(&mut self, event: &Event, newest: Timestamp, engine: &Engine) -> Result<()> {
        if !self.spec.is_on() {
            return Ok(());
        }
        let mut event = event.clone();
        self.filling = self.filling.max(event.time.0);
        event.known_at = Some(event.known_at.unwrap_or(newest.max(event.time)));
        self.pending.push(Counted { number: engine.counters().accepted, event });
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_A_PART as u64) {
            let part = self.rows / ROWS_A_PART as u64 - 1;
            self.newest.push_back((part, self.filling));
            self.filling = i64::MIN;
            self.let_go(engine)?;
        }
        Ok(())
    }

    /// Counts full parts as gone that hold nothing but what is further behind the watermark than is kept.
    fn let_go(&mut self, engine: &Engine) -> Result<()> {
        let horizon = engine.watermark().0.saturating_sub(self.spec.keep.0);
        while self.gone < self.rows / ROWS_A_PART as u64 {
            if self.newest.front().is_none_or(|(part, _)| *part != self.gone) {
                let path = files(&self.folder, self.rows).into_iter().nth(self.gone as usize);
                let newest = newest_of(&self.table, &path.context("a part of the history is missing")?)?;
                self.newest.push_front((self.gone, newest));
            }
            if self.newest.front().is_some_and(|(_, newest)| *newest >= horizon) {
                break;
            }
            self.newest.pop_front();
            self.gone += 1;
        }
        Ok(())
    }

    /// Hands over what is to be committed next.
    pub fn hand_over(&mut self, tables: &mut Tables) -> Result<()> {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            tables.append(HISTORY, self.table.batch(&pending)?)?;
        }
        Ok(())
    }

    /// What the head says of it.
    pub fn note(&self, head: &mut Head) {
        if self.gone > 0 {
            head.counts.insert(PARTS_GONE.to_owned(), self.gone);
        }
    }

    /// What was let go is committed as gone: its files are removed.
    pub fn committed(&mut self, tables: &Tables) -> Result<()> {
        if self.gone > self.swept {
            tables.let_go(HISTORY, self.gone)?;
            self.swept = self.gone;
        }
        Ok(())
    }
}

fn gone(head: &Head) -> u64 {
    head.counts.get(PARTS_GONE).copied().unwrap_or(0)
}

/// Events that the committed history holds.
pub fn held(head: &Head) -> u64 {
    head.tables.get(HISTORY).copied().unwrap_or(0).saturating_sub(gone(head) * ROWS_A_PART as u64)
}

/// Events that were turned away because it is full.
pub fn refused(head: &Head) -> u64 {
    head.counts.get(LIMIT_HISTORY).copied().unwrap_or(0)
}

fn read_part(table: &EventTable, path: &Path) -> Result<Vec<Counted>> {
    let file = ParquetFile::open(path)?;
    let columns: Vec<String> = file.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut events = Vec::new();
    for batch in file.batches(0..file.rows(), &columns)? {
        events.extend(table.read(&batch?).with_context(|| path.display().to_string())?);
    }
    Ok(events)
}

fn newest_of(table: &EventTable, path: &Path) -> Result<i64> {
    Ok(read_part(table, path)?.iter().map(|counted| counted.event.time.0).max().unwrap_or(i64::MIN))
}

/// A stream's history, read.
pub struct History {
    /// In the order in which they were accepted.
    pub events: Vec<Counted>,
    /// The newest event that it was committed with.
    pub until: u64,
    /// Whether older events were let go, or came before a history was kept.
    pub is_cut: bool,
}

impl History {
    /// The committed history of a stream, of events up to number `until` where one is given.
    ///
    /// # Errors
    /// Where the stream never ran, keeps no history, or holds more than fits into memory.
    pub fn read(project: &Project, spec: &StreamSpec, until: Option<u64>) -> Result<History> {
        let name = &spec.name;
        if !spec.history.is_on() {
            bail!("stream \"{name}\" keeps no history ([history] keep = \"0s\"); give it a length such as \"400d\"");
        }
        // A stream that is running may put one part in another's place between the two looks: then it is asked again.
        let mut tries = 0;
        loop {
            let folder = folder(project, name);
            let Some(committed) = Store::read(&folder)? else {
                bail!(
                    "stream \"{name}\" has no history yet; run `homeostat stream run {name} --until-end`, or serve it"
                )
            };
            match History::of(spec, &folder, &committed.head, until) {
                Ok(history) => return Ok(history),
                Err(_) if tries < 5 => tries += 1,
                Err(error) => return Err(error.context(format!("the history of stream \"{name}\" can't be read"))),
            }
        }
    }

    fn of(spec: &StreamSpec, folder: &Path, head: &Head, until: Option<u64>) -> Result<History> {
        let held = held(head);
        if held > LOADED_EVENTS_MAX {
            bail!(
                "it holds {held} events, of {LOADED_EVENTS_MAX} that are loaded at most; keep fewer ([history] keep)"
            );
        }
        let (table, gone) = (EventTable::new(spec), gone(head));
        let rows = head.tables.get(HISTORY).copied().unwrap_or(0);
        let mut events = Vec::with_capacity(held as usize);
        for path in files(&Store::tables(folder).join(HISTORY), rows).into_iter().skip(gone as usize) {
            events.extend(read_part(&table, &path)?);
        }
        let newest = events.last().map_or(0, |counted| counted.number);
        if let Some(until) = until {
            events.retain(|counted| counted.number <= until);
        }
        let is_cut = gone > 0 || events.first().is_some_and(|first| first.number > 1);
        Ok(History { events, until: until.unwrap_or(newest).min(newest), is_cut })
    }
}
