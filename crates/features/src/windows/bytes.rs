//! The state as bytes and back. The form carries a version and a check; what is read is checked again in every part, so
//! that no bytes make a state that the engine could not have come to.
//!
//! Equal states have equal bytes: keys, identifiers and windows are in order, exact sums in their shortest form.

use super::codec::{Reader, Writer};
use super::engine::{Activity, Engine, PartitionState};
use super::event::Value;
use super::key::Key;
use super::keyed::{Fired, Keyed};
use super::outcome::{Counters, Emission, Window};
use super::plan::{Grid, Plan};
use super::slots_bytes::{read_slot, write_slot};
use super::tile::{Tile, Whole};
use super::tiles::Tiles;
use crate::FeatureError;
use crate::hash::{Purpose, SlotHash};
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

const MAGIC: &[u8; 6] = b"HSWIN\n";
const VERSION: u16 = 1;

/// What is wrong with the bytes, in a few words.
pub(super) type Wrong = &'static str;

fn check(bytes: &[u8]) -> u64 {
    SlotHash::prefix(VERSION.into(), Purpose::Distinct, &[]).bytes(bytes).finish()
}

impl Engine {
    /// The whole state, in a form that carries a version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.raw(MAGIC);
        out.u16(VERSION);
        out.u64(self.plan.digest);
        out.i64(self.watermark);
        write_counters(&self.counters, &mut out);
        out.count(self.partitions.len());
        for partition in &self.partitions {
            out.bytes(partition.name.as_bytes());
            out.i64(partition.newest);
            out.u8(partition.activity as u8);
        }
        out.i64(self.ids.floor);
        out.count(self.ids.len());
        for (time, id) in self.ids.sorted() {
            out.i64(time);
            out.bytes(&id);
        }
        let mut keys: Vec<&Keyed> = self.keys.iter().flatten().collect();
        keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        out.count(keys.len());
        keys.iter().for_each(|keyed| write_keyed(&self.plan, keyed, self.horizon(), &mut out));
        out.count(self.emitted.len());
        self.emitted.iter().for_each(|window| write_window(window, &mut out));
        let check = check(&out.0);
        out.u64(check);
        out.0
    }

    /// Fails where the bytes are damaged, of another version, or of a stream with another declaration of its windows.
    pub fn from_bytes(spec: &StreamSpec, bytes: &[u8]) -> Result<Engine, FeatureError> {
        let mut engine = Engine::new(spec)?;
        let wrong = |what: &str| FeatureError::Declaration(format!("state of stream \"{}\": {what}", spec.name));
        let body = bytes.split_last_chunk::<8>();
        let rest = body
            .and_then(|(body, _)| body.strip_prefix(MAGIC))
            .ok_or_else(|| wrong("it is not the state of a stream; remove it to begin anew from the source"))?;
        let mut input = Reader(rest);
        match input.u16() {
            Ok(VERSION) => {}
            Ok(other) => {
                return Err(wrong(&format!(
                    "it has version {other}, this program reads version {VERSION}; begin anew from the source"
                )));
            }
            Err(what) => return Err(wrong(what)),
        }
        if body.is_none_or(|(body, sum)| check(body) != u64::from_le_bytes(*sum)) {
            return Err(wrong("it is damaged; take an earlier checkpoint"));
        }
        if input.u64().map_err(wrong)? != engine.plan.digest {
            return Err(wrong(
                "it was made with another declaration; take the declaration back, or begin anew from the source",
            ));
        }
        read_state(&mut engine, &mut input).map_err(|what| wrong(&format!("{what}; take an earlier checkpoint")))?;
        Ok(engine)
    }
}

fn read_state(engine: &mut Engine, input: &mut Reader<'_>) -> Result<(), Wrong> {
    engine.watermark = input.instant()?;
    engine.counters = read_counters(input)?;
    for _ in 0..input.count(13)? {
        let name = String::from_utf8(input.bytes()?.to_vec()).map_err(|_| "a partition's name is no text")?;
        let newest = input.instant()?;
        let activity = match input.u8()? {
            0 => Activity::Active,
            1 => Activity::Idle,
            2 => Activity::Ended,
            _ => return Err("a partition is neither active nor idle nor ended"),
        };
        if engine.partitions.iter().any(|partition| partition.name == name) {
            return Err("a partition occurs twice");
        }
        engine.partitions.push(PartitionState { name, newest, activity });
    }
    engine.ids.floor = input.instant()?;
    let mut before = None;
    for _ in 0..input.count(12)? {
        let (time, bytes) = (input.instant()?, input.bytes()?);
        let id = Key::from_bytes(bytes).ok_or("an identifier is not one")?;
        if before.replace((time, bytes)).is_some_and(|before| before >= (time, bytes)) || engine.ids.has(&id) {
            return Err("identifiers are out of order");
        }
        engine.ids.insert(time, &id);
    }
    for _ in 0..input.count(8)? {
        let keyed = read_keyed(&engine.plan, input)?;
        if engine.index.contains_key(&keyed.key) {
            return Err("a key occurs twice");
        }
        engine.restore(keyed);
    }
    for _ in 0..input.count(34)? {
        let window = read_window(&engine.plan, input)?;
        engine.emitted.push(window);
    }
    input.end()
}

fn counters(counters: &Counters) -> [u64; 12] {
    [
        counters.accepted,
        counters.late,
        counters.duplicate,
        counters.too_late,
        counters.ahead,
        counters.refused_keys,
        counters.refused_tiles,
        counters.refused_events,
        counters.refused_duplicates,
        counters.closed,
        counters.corrected,
        counters.withdrawn,
    ]
}

fn write_counters(of: &Counters, out: &mut Writer) {
    counters(of).into_iter().for_each(|count| out.u64(count));
}

fn read_counters(input: &mut Reader<'_>) -> Result<Counters, Wrong> {
    Ok(Counters {
        accepted: input.tally()?,
        late: input.tally()?,
        duplicate: input.tally()?,
        too_late: input.tally()?,
        ahead: input.tally()?,
        refused_keys: input.tally()?,
        refused_tiles: input.tally()?,
        refused_events: input.tally()?,
        refused_duplicates: input.tally()?,
        closed: input.tally()?,
        corrected: input.tally()?,
        withdrawn: input.tally()?,
    })
}

fn write_keyed(plan: &Plan, keyed: &Keyed, horizon: i64, out: &mut Writer) {
    out.bytes(keyed.key.as_bytes());
    let mut fired: Vec<&Fired> =
        keyed.fired.iter().filter(|fired| Keyed::may_fire_again(plan, &keyed.grids, fired, horizon)).collect();
    fired.sort_unstable_by_key(|fired| (fired.window, fired.start));
    out.count(fired.len());
    for fired in fired {
        out.u32(fired.window);
        out.i64(fired.start);
        out.i64(fired.end);
        out.u32(fired.panes);
    }
    for tiles in &keyed.grids {
        out.count(tiles.0.len());
        tiles.0.iter().for_each(|tile| write_tile(tile, out));
    }
}

fn read_keyed(plan: &Plan, input: &mut Reader<'_>) -> Result<Keyed, Wrong> {
    let key = Key::from_bytes(input.bytes()?).ok_or("a key is not one")?;
    let mut keyed = Keyed::new(plan, key);
    for _ in 0..input.count(24)? {
        let fired = Fired { window: input.u32()?, start: input.instant()?, end: input.instant()?, panes: input.u32()? };
        let ordered = keyed.fired.last().is_none_or(|last| (last.window, last.start) < (fired.window, fired.start));
        if !ordered
            || fired.window as usize >= plan.windows.len()
            || !(1..u32::MAX / 2).contains(&fired.panes)
            || fired.start >= fired.end
        {
            return Err("a window that was emitted is not one");
        }
        keyed.fired.push(fired);
    }
    for (tiles, grid) in keyed.grids.iter_mut().zip(&plan.grids) {
        *tiles = read_tiles(grid, input)?;
    }
    if keyed.is_empty() {
        return Err("a key has no tiles");
    }
    Ok(keyed)
}

fn read_tiles(grid: &Grid, input: &mut Reader<'_>) -> Result<Tiles, Wrong> {
    let mut tiles = Tiles::default();
    for _ in 0..input.count(33)? {
        let tile = read_tile(grid, input)?;
        if tiles.0.back().is_some_and(|last| last.index >= tile.index) {
            return Err("tiles are out of order");
        }
        if tiles.0.back().is_some_and(|last| last.whole.is_some() && tile.whole.is_none()) {
            return Err("a newer tile is not whole");
        }
        tiles.0.push_back(tile);
    }
    Ok(tiles)
}

fn write_tile(tile: &Tile, out: &mut Writer) {
    out.i64(tile.index);
    out.u64(tile.events);
    out.i64(tile.first);
    out.i64(tile.last);
    tile.slots.iter().for_each(|slot| write_slot(slot, out));
    out.u8(u8::from(tile.whole.is_some()));
    let Some(whole) = &tile.whole else { return };
    out.count(whole.times.len());
    whole.times.iter().for_each(|time| out.i64(*time));
    whole.ids.iter().for_each(|id| out.bytes(id.as_bytes()));
    whole.cells.iter().for_each(|value| out.value(value));
}

fn read_tile(grid: &Grid, input: &mut Reader<'_>) -> Result<Tile, Wrong> {
    let (index, events, first, last) = (input.i64()?, input.tally()?, input.instant()?, input.instant()?);
    if events == 0 || first > last || grid.index(first) != index || grid.index(last) != index {
        return Err("a tile's events are outside of it");
    }
    let slots = grid.slots.iter().map(|kind| read_slot(kind, input)).collect::<Result<_, _>>()?;
    let whole = match input.u8()? {
        0 => None,
        1 if grid.heads => Some(Box::new(read_whole(grid, index, input)?)),
        _ => return Err("a tile is neither whole nor not"),
    };
    if whole.as_ref().is_some_and(|whole| whole.times.len() as u64 != events) {
        return Err("a tile lacks events");
    }
    Ok(Tile { index, events, first, last, slots, whole })
}

fn read_whole(grid: &Grid, index: i64, input: &mut Reader<'_>) -> Result<Whole, Wrong> {
    let mut whole = Whole::default();
    let events = input.count(8)?;
    for _ in 0..events {
        let time = input.i64()?;
        if !(grid.start(index)..grid.end(index)).contains(&time) {
            return Err("an event is outside of its tile");
        }
        whole.times.push(time);
    }
    if grid.ids {
        for _ in 0..events {
            whole.ids.push(read_id(input)?);
        }
    }
    for _ in 0..events * grid.columns.len() {
        whole.cells.push(input.value()?);
    }
    Ok(whole)
}

/// An identifier; empty where the event has none.
pub(super) fn read_id(input: &mut Reader<'_>) -> Result<Key, Wrong> {
    Key::from_bytes(input.bytes()?).ok_or("an identifier is not one")
}

fn write_window(window: &Window, out: &mut Writer) {
    out.u32(window.window as u32);
    out.bytes(window.key.as_bytes());
    out.i64(window.start.0);
    out.i64(window.end.0);
    out.u32(window.pane);
    out.u8(window.emission as u8);
    out.count(window.values.len());
    window.values.iter().for_each(|value| out.value(value));
}

fn read_window(plan: &Plan, input: &mut Reader<'_>) -> Result<Window, Wrong> {
    let window = input.u32()? as usize;
    let key = Key::from_bytes(input.bytes()?).ok_or("a key is not one")?;
    let (start, end, pane) = (input.instant()?, input.instant()?, input.u32()?);
    let emission = match input.u8()? {
        0 => Emission::Closed,
        1 => Emission::Corrected,
        2 => Emission::Withdrawn,
        _ => return Err("an emission is of no kind"),
    };
    if window >= plan.windows.len() || start >= end {
        return Err("a window to be emitted is not one");
    }
    let values = (0..input.count(1)?).map(|_| input.value()).collect::<Result<Vec<Value>, _>>()?;
    Ok(Window { window, key, start: Timestamp(start), end: Timestamp(end), pane, emission, values })
}
