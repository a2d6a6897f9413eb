//! The engine: events in, closed windows and look-ups out.

use super::duplicates::{Duplicates, Known};
use super::event::{Event, Value};
use super::key::Key;
use super::keyed::{Keyed, Sink, due_for_tile};
use super::outcome::{Counters, Limit, LookupError, Partition, PartitionWatermark, Pushed, Sizes, Window};
use super::plan::Plan;
use super::read;
use super::tiles::Tiles;
use crate::FeatureError;
use crate::canonical::is_writable;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use vocabulary::stream::{StreamFeature, StreamSpec};
use vocabulary::time::Timestamp;

/// The watermark before the first event, and when all partitions have ended: beyond all instants that can be written, and
/// far enough from the ends of the numbers for sums with any span.
pub(super) const BEGINNING: i64 = -1_000_000_000_000_000_000;
pub(super) const END: i64 = 1_000_000_000_000_000_000;

/// The state of a stream's windows. The same calls in the same order give the same state to the last byte, whatever was
/// written with [`Engine::to_bytes`] and read back in between.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) plan: Plan,
    pub(super) partitions: Vec<PartitionState>,
    pub(super) watermark: i64,
    /// Places among `keys`.
    pub(super) index: HashMap<Key, u32>,
    pub(super) keys: Vec<Option<Keyed>>,
    free: Vec<u32>,
    /// Watermarks at which there is something to do, with the key's place; one that is not the key's `due` is outdated.
    queue: BinaryHeap<Reverse<(i64, u32)>>,
    pub(super) ids: Duplicates,
    pub(super) emitted: Vec<Window>,
    pub(super) counters: Counters,
    tiles: u64,
    events: u64,
}

#[derive(Clone, Debug)]
pub(super) struct PartitionState {
    pub(super) name: String,
    /// `BEGINNING` before the first event.
    pub(super) newest: i64,
    pub(super) activity: Activity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Active,
    Idle,
    Ended,
}

impl Engine {
    /// Fails where the declaration has problems; a stream with a contract goes through `StreamSpec::with_contract` first.
    pub fn new(spec: &StreamSpec) -> Result<Engine, FeatureError> {
        let plan = Plan::new(spec)?;
        Ok(Engine {
            ids: Duplicates::new(plan.remembered, plan.ids_max, BEGINNING),
            plan,
            partitions: Vec::new(),
            watermark: BEGINNING,
            index: HashMap::new(),
            keys: Vec::new(),
            free: Vec::new(),
            queue: BinaryHeap::new(),
            emitted: Vec::new(),
            counters: Counters::default(),
            tiles: 0,
            events: 0,
        })
    }

    pub fn spec(&self) -> &StreamSpec {
        &self.plan.spec
    }

    /// The columns whose values an event brings, in order.
    pub fn columns(&self) -> &[String] {
        &self.plan.columns
    }

    /// What a look-up gives, in order.
    pub fn features(&self) -> &[StreamFeature] {
        &self.plan.features
    }

    /// The partition of this name; a new one holds the watermark back until it has brought an event, is idle or ended.
    pub fn partition(&mut self, name: &str) -> Partition {
        let place = self.partitions.iter().position(|partition| partition.name == name).unwrap_or_else(|| {
            let name = name.to_owned();
            self.partitions.push(PartitionState { name, newest: BEGINNING, activity: Activity::Active });
            self.partitions.len() - 1
        });
        Partition(place as u32)
    }

    /// Takes an event in. Everything that the watermark passes by it is emitted at once. The event's values are in the
    /// order of [`Engine::columns`].
    pub fn push(&mut self, partition: Partition, event: &Event) -> Pushed {
        if self.is_ahead(event) {
            self.counters.ahead += 1;
            return Pushed::Ahead;
        }
        let pushed = self.take(event);
        match pushed {
            Pushed::Accepted => self.counters.accepted += 1,
            Pushed::Duplicate => self.counters.duplicate += 1,
            Pushed::TooLate => self.counters.too_late += 1,
            Pushed::Ahead => self.counters.ahead += 1,
            Pushed::Refused(Limit::Keys) => self.counters.refused_keys += 1,
            Pushed::Refused(Limit::Tiles) => self.counters.refused_tiles += 1,
            Pushed::Refused(Limit::Events) => self.counters.refused_events += 1,
            Pushed::Refused(Limit::Duplicates) => self.counters.refused_duplicates += 1,
        }
        // Time goes on with events that are not counted too: else a full state would never empty itself.
        let partition = &mut self.partitions[partition.0 as usize];
        if partition.activity == Activity::Idle {
            partition.activity = Activity::Active;
        }
        if event.time.0 > partition.newest {
            partition.newest = event.time.0;
            self.advance();
        }
        pushed
    }

    /// Lets an event go by that who calls turned away: time goes on, nothing is counted.
    pub fn pass_by(&mut self, partition: Partition, event: &Event) {
        if self.is_ahead(event) {
            return;
        }
        let partition = &mut self.partitions[partition.0 as usize];
        if partition.activity == Activity::Idle {
            partition.activity = Activity::Active;
        }
        if event.time.0 > partition.newest {
            partition.newest = event.time.0;
            self.advance();
        }
    }

    /// The partition has brought nothing for `idle_after`, says who calls. Its next event makes it active again.
    pub fn idle(&mut self, partition: Partition) {
        let partition = &mut self.partitions[partition.0 as usize];
        if partition.activity == Activity::Active {
            partition.activity = Activity::Idle;
            self.advance();
        }
    }

    /// The partition will bring nothing more (a file read to its end). When all have ended, every window closes, and what
    /// is pushed after that is too late: for bounded data alone.
    pub fn end(&mut self, partition: Partition) {
        self.partitions[partition.0 as usize].activity = Activity::Ended;
        self.advance();
    }

    /// What was emitted since the last call, in order of emission. Commit it together with the state: what is not taken
    /// is part of the state's bytes.
    pub fn take_emitted(&mut self) -> Vec<Window> {
        std::mem::take(&mut self.emitted)
    }

    /// Puts the features of a key at an instant into `row`, in the order of [`Engine::features`]: of what has been pushed
    /// so far, events before `at` alone. A key never seen gives the values of empty windows.
    pub fn lookup(&self, key: &Key, at: Timestamp, row: &mut Vec<Value>) -> Result<(), LookupError> {
        row.clear();
        if at.0 < self.horizon() {
            let oldest = Timestamp(self.horizon());
            return Err(LookupError::TooOld { stream: self.plan.spec.name.clone(), at, oldest });
        }
        // Far from the ends of the numbers.
        let at = at.0.clamp(BEGINNING, END);
        match self.keyed(key) {
            Some(keyed) => read::row(&self.plan, &keyed.grids, at, row),
            None => read::row(&self.plan, &vec![Tiles::default(); self.plan.grids.len()], at, row),
        }
        Ok(())
    }

    fn keyed(&self, key: &Key) -> Option<&Keyed> {
        self.index.get(key).and_then(|place| self.keys[*place as usize].as_ref())
    }

    /// Before this no event is expected; `Timestamp::MIN` before the first.
    pub fn watermark(&self) -> Timestamp {
        if self.watermark == BEGINNING { Timestamp::MIN } else { Timestamp(self.watermark) }
    }

    /// The partitions in the order in which they were named.
    pub fn watermarks(&self) -> Vec<PartitionWatermark> {
        let one = |partition: &PartitionState| PartitionWatermark {
            partition: partition.name.clone(),
            newest: (partition.newest > BEGINNING).then_some(Timestamp(partition.newest)),
            idle: partition.activity == Activity::Idle,
            ended: partition.activity == Activity::Ended,
        };
        self.partitions.iter().map(one).collect()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn sizes(&self) -> Sizes {
        let keys = self.index.len() as u64;
        Sizes { keys, tiles: self.tiles, events: self.events, ids: self.ids.len() as u64 }
    }

    /// Windows that end by then are final.
    pub(super) fn horizon(&self) -> i64 {
        self.watermark - self.plan.lateness
    }

    fn is_ahead(&self, event: &Event) -> bool {
        let time = event.time.0;
        let beyond = time > 0 && !is_writable(time);
        let ahead = |known_at: Timestamp| self.plan.spec.ahead_max.is_some_and(|max| event.time - known_at > max);
        beyond || event.known_at.is_some_and(ahead)
    }

    /// Counts the event, or says why not.
    fn take(&mut self, event: &Event) -> Pushed {
        let time = event.time.0;
        if event.id.as_ref().is_some_and(|id| self.ids.has(id)) {
            return Pushed::Duplicate;
        }
        if !is_writable(time) || self.plan.first_end(time) <= self.horizon() {
            return Pushed::TooLate;
        }
        if event.id.is_some() && self.ids.admit(time) == Known::Unsure {
            return Pushed::Refused(Limit::Duplicates);
        }
        let place = match self.room_for(event) {
            Ok(place) => place,
            Err(limit) => return Pushed::Refused(limit),
        };
        self.add(place, event);
        if let Some(id) = &event.id {
            self.ids.insert(time, id);
        }
        if time < self.watermark {
            self.counters.late += 1;
            let mut sink =
                Sink { plan: &self.plan, watermark: self.watermark, emitted: Vec::new(), counters: &mut self.counters };
            if let Some(keyed) = &mut self.keys[place as usize] {
                keyed.correct(time, &mut sink);
            }
            let emitted = sink.emitted;
            self.emitted.extend(emitted.into_iter().map(|(_, window)| window));
        }
        Pushed::Accepted
    }

    /// The place of the event's key, made where it is new; or what would be too many.
    fn room_for(&mut self, event: &Event) -> Result<u32, Limit> {
        let limits = &self.plan.spec.limits;
        let found = self.index.get(&event.key).copied();
        if found.is_none() && self.index.len() as u64 >= limits.keys {
            return Err(Limit::Keys);
        }
        let keyed = found.and_then(|place| self.keys[place as usize].as_ref());
        let (mut tiles, mut events) = (self.tiles, self.events);
        for (i, grid) in self.plan.grids.iter().enumerate() {
            let index = grid.index(event.time.0);
            tiles += u64::from(keyed.is_none_or(|keyed| keyed.grids[i].place(index).is_err()));
            events += u64::from(grid.heads && grid.end(index) > self.horizon());
        }
        if tiles > limits.tiles && tiles > self.tiles {
            return Err(Limit::Tiles);
        }
        if events > limits.events && events > self.events {
            return Err(Limit::Events);
        }
        Ok(found.unwrap_or_else(|| self.insert(Keyed::new(&self.plan, event.key.clone()))))
    }

    /// Adds a key; its `due` is the caller's to queue.
    fn insert(&mut self, keyed: Keyed) -> u32 {
        let key = keyed.key.clone();
        let place = match self.free.pop() {
            Some(place) => {
                self.keys[place as usize] = Some(keyed);
                place
            }
            None => {
                self.keys.push(Some(keyed));
                (self.keys.len() - 1) as u32
            }
        };
        self.index.insert(key, place);
        place
    }

    /// Adds the event to its key's tiles.
    fn add(&mut self, place: u32, event: &Event) {
        let (horizon, watermark) = (self.horizon(), self.watermark);
        let Some(keyed) = &mut self.keys[place as usize] else { return };
        let mut due = keyed.due;
        for (i, (tiles, grid)) in keyed.grids.iter_mut().zip(&self.plan.grids).enumerate() {
            let tile = tiles.add(grid, event);
            self.tiles += u64::from(tile.events == 1);
            // A tile's new last event may open a session again that was emitted.
            if tile.events == 1 || (grid.gap.is_some() && tile.last == event.time.0) {
                due = due.min(due_for_tile(&self.plan, i, event.time.0, watermark));
            }
            if grid.heads && grid.end(tile.index) > horizon {
                tile.keep(grid, event);
                self.events += 1;
            }
        }
        if due < keyed.due {
            keyed.due = due;
            self.queue.push(Reverse((due, place)));
        }
    }

    /// Moves the watermark to the least newest time of the active partitions, less `out_of_order`; never back.
    fn advance(&mut self) {
        let active = self.partitions.iter().filter(|partition| partition.activity == Activity::Active);
        let all_ended = self.partitions.iter().all(|partition| partition.activity == Activity::Ended);
        let watermark = match active.map(|partition| partition.newest).min() {
            Some(newest) => newest.saturating_sub(self.plan.out_of_order),
            None if all_ended => END,
            None => return,
        };
        if watermark > self.watermark {
            let from = std::mem::replace(&mut self.watermark, watermark);
            self.ids.expire(watermark);
            self.work(from);
        }
    }

    /// Emits and drops what is due after the watermark moved.
    fn work(&mut self, from: i64) {
        let horizon = self.horizon();
        let mut sink =
            Sink { plan: &self.plan, watermark: self.watermark, emitted: Vec::new(), counters: &mut self.counters };
        while let Some(Reverse((due, place))) = self.queue.peek().copied()
            && due <= self.watermark
        {
            self.queue.pop();
            let slot = &mut self.keys[place as usize];
            let Some(keyed) = slot.as_mut().filter(|keyed| keyed.due == due) else { continue };
            keyed.fire(from, &mut sink);
            let (tiles, events) = keyed.expire(&self.plan, horizon);
            self.tiles -= tiles;
            self.events -= events;
            if keyed.is_empty() {
                self.index.remove(&keyed.key);
                *slot = None;
                self.free.push(place);
            } else {
                keyed.due = keyed.next_due(&self.plan, self.watermark);
                self.queue.push(Reverse((keyed.due, place)));
            }
        }
        let mut emitted = sink.emitted;
        // Keys come in the order of the queue, which a restart changes.
        emitted.sort_by(|a, b| (a.0, a.1.window, &a.1.key).cmp(&(b.0, b.1.window, &b.1.key)));
        self.emitted.extend(emitted.into_iter().map(|(_, window)| window));
    }

    /// Puts a key that was read back in its place.
    pub(super) fn restore(&mut self, mut keyed: Keyed) {
        self.tiles += keyed.grids.iter().map(|tiles| tiles.0.len() as u64).sum::<u64>();
        self.events += keyed.grids.iter().flat_map(|tiles| &tiles.0).map(|tile| tile.kept()).sum::<u64>();
        let due = keyed.next_due(&self.plan, self.watermark);
        keyed.due = due;
        let place = self.insert(keyed);
        self.queue.push(Reverse((due, place)));
    }
}
