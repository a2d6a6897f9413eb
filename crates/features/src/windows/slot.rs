//! Partial aggregates: what a tile keeps of its events. Each is a function of the set of values it was given.

use super::decay;
use super::distinct::{self, Distinct};
use super::event::Value;
use super::exact::{Exact, spread};
use super::key::Key;
use super::last::{Placed, keep};
use super::plan::{Reading, SlotKind};
use super::quantile::{self, Quantiles};

/// Sums of values need 53 bits and room for their range, of squares twice that.
pub(super) type Sum = Exact<3>;
pub(super) type Squares = Exact<4>;

#[derive(Clone, Debug)]
pub(super) enum Slot {
    Count(u64),
    Sum {
        count: u64,
        sum: Sum,
    },
    Squares(Squares),
    /// Infinite before the first value.
    Min(f64),
    Max(f64),
    Distinct(Distinct),
    Quantiles(Quantiles),
    Last(Vec<Placed>),
    /// Values weighted by their age at the tile's end.
    Decayed {
        count: u64,
        sum: Sum,
    },
}

/// What a slot sees of an event.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) time: i64,
    pub(super) id: Option<&'a Key>,
    /// The tile's end.
    pub(super) end: i64,
}

impl Slot {
    pub(super) fn new(kind: &SlotKind) -> Slot {
        match kind {
            SlotKind::Count { .. } => Slot::Count(0),
            SlotKind::Sum { .. } => Slot::Sum { count: 0, sum: Sum::default() },
            SlotKind::Squares { .. } => Slot::Squares(Squares::default()),
            SlotKind::Min { .. } => Slot::Min(f64::INFINITY),
            SlotKind::Max { .. } => Slot::Max(f64::NEG_INFINITY),
            SlotKind::Distinct { .. } => Slot::Distinct(Distinct::default()),
            SlotKind::Quantiles { .. } => Slot::Quantiles(Quantiles::default()),
            SlotKind::Last { .. } => Slot::Last(Vec::new()),
            SlotKind::Decayed { .. } => Slot::Decayed { count: 0, sum: Sum::default() },
        }
    }

    /// Takes a value in; null changes nothing.
    #[inline]
    pub(super) fn add(&mut self, kind: &SlotKind, value: &Value, seen: Seen<'_>) {
        match (self, value) {
            (_, Value::Null) => {}
            (Slot::Count(count), _) => *count += 1,
            (Slot::Distinct(distinct), value) => distinct.add(value),
            (Slot::Last(kept), value) => {
                let SlotKind::Last { k, .. } = kind else { return };
                // Most events are newer than what is kept, but an older one need not be copied to be turned away.
                if kept.len() < *k || kept.last().is_none_or(|last| last.time <= seen.time) {
                    let id = seen.id.cloned().unwrap_or_default();
                    keep(kept, *k, &Placed { time: seen.time, id, value: value.clone() });
                }
            }
            (slot, Value::Number(number)) => slot.add_number(kind, *number, seen),
            // Texts have no arithmetic; the declaration is checked.
            (_, Value::Text(_)) => {}
        }
    }

    #[inline]
    fn add_number(&mut self, kind: &SlotKind, number: f64, seen: Seen<'_>) {
        match self {
            Slot::Sum { count, sum } => {
                *count += 1;
                sum.add(number);
            }
            Slot::Squares(squares) => squares.add_square(number),
            Slot::Min(least) => *least = least.min(number),
            Slot::Max(greatest) => *greatest = greatest.max(number),
            Slot::Quantiles(quantiles) => quantiles.add(number),
            Slot::Decayed { count, sum } => {
                let SlotKind::Decayed { half_life, .. } = kind else { return };
                *count += 1;
                sum.add(number * decay::weight(seen.end - seen.time, *half_life));
            }
            Slot::Count(_) | Slot::Distinct(_) | Slot::Last(_) => {}
        }
    }

    /// Takes in what another tile kept; not for `Decayed`, whose tiles have different ends, and not for what is read from
    /// all tiles at once.
    fn merge(&mut self, other: &Slot, k: usize) {
        match (self, other) {
            (Slot::Count(ours), Slot::Count(theirs)) => *ours += theirs,
            (Slot::Sum { count, sum }, Slot::Sum { count: their_count, sum: theirs }) => {
                *count += their_count;
                sum.merge(theirs);
            }
            (Slot::Squares(ours), Slot::Squares(theirs)) => ours.merge(theirs),
            (Slot::Min(ours), Slot::Min(theirs)) => *ours = ours.min(*theirs),
            (Slot::Max(ours), Slot::Max(theirs)) => *ours = ours.max(*theirs),
            (Slot::Last(ours), Slot::Last(theirs)) => theirs.iter().for_each(|placed| keep(ours, k, placed)),
            (ours, theirs) => unreachable!("slots of a place are alike: {ours:?} and {theirs:?}"),
        }
    }
}

/// A tile's slots and its end.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) events: u64,
    pub(super) slots: &'a [Slot],
    pub(super) end: i64,
}

/// The value of an aggregate over tiles; `at` is the instant to which values decay. `Last` gives `k` values, all others
/// one.
pub(super) fn read<'a>(
    reading: &Reading,
    parts: impl Iterator<Item = Part<'a>> + Clone,
    at: i64,
    values: &mut Vec<Value>,
) {
    let value = match *reading {
        Reading::Events => Some(parts.map(|part| part.events).sum::<u64>() as f64),
        Reading::Count { slot } => match merged(parts, slot, 0) {
            Some(Slot::Count(count)) => Some(count as f64),
            _ => Some(0.0),
        },
        Reading::Sum { slot } => sums(parts, slot).map(|(_, sum)| sum.round()),
        Reading::Mean { slot } => sums(parts, slot).map(|(count, sum)| mean(count, &sum)),
        Reading::Variance { sum, squares } => variance(sums(parts.clone(), sum), merged(parts, squares, 0)),
        Reading::Least { slot } | Reading::Greatest { slot } => match merged(parts, slot, 0) {
            Some(Slot::Min(value) | Slot::Max(value)) => Some(value),
            _ => None,
        },
        Reading::Distinct { slot } => Some(distinct::count(parts.filter_map(|part| match &part.slots[slot] {
            Slot::Distinct(distinct) => Some(distinct),
            _ => None,
        }))),
        Reading::Quantile { slot, q } => {
            let of_slot = parts.filter_map(|part| match &part.slots[slot] {
                Slot::Quantiles(quantiles) => Some(quantiles),
                _ => None,
            });
            quantile::at(of_slot, q)
        }
        Reading::Last { slot, k } => {
            let kept = match merged(parts, slot, k) {
                Some(Slot::Last(kept)) => kept,
                _ => Vec::new(),
            };
            let mut kept = kept.into_iter().map(|placed| placed.value);
            values.extend((0..k).map(|_| kept.next().unwrap_or_default()));
            return;
        }
        Reading::Decayed { slot, half_life } => decayed(parts, slot, half_life, at),
    };
    values.push(value.map_or(Value::Null, Value::number));
}

fn merged<'a>(mut parts: impl Iterator<Item = Part<'a>>, slot: usize, k: usize) -> Option<Slot> {
    let mut whole = parts.next()?.slots[slot].clone();
    if let Slot::Last(kept) = &mut whole {
        kept.truncate(k);
    }
    parts.for_each(|part| whole.merge(&part.slots[slot], k));
    Some(whole)
}

/// Count and exact sum; none without values.
fn sums<'a>(parts: impl Iterator<Item = Part<'a>>, slot: usize) -> Option<(u64, Sum)> {
    match merged(parts, slot, 0) {
        Some(Slot::Sum { count, sum }) if count > 0 => Some((count, sum)),
        _ => None,
    }
}

fn mean(count: u64, sum: &Sum) -> f64 {
    let rounded = sum.round();
    if rounded.is_finite() {
        return rounded / count as f64;
    }
    // The sum is beyond the floats, the mean is not.
    let mut number = sum.number();
    number.unit -= 64;
    Sum::of(&number.canonical()).map_or(f64::NAN, |sum| sum.round() / count as f64 * 2f64.powi(64))
}

fn variance(sums: Option<(u64, Sum)>, squares: Option<Slot>) -> Option<f64> {
    let (count, sum) = sums.filter(|(count, _)| *count > 1)?;
    let Some(Slot::Squares(squares)) = squares else { return None };
    let pairs = u128::from(count) * u128::from(count - 1);
    Some(spread(count, &sum.number(), &squares.number()) / pairs as f64)
}

/// Each tile's sum, brought from its end to `at`, and these summed exactly.
fn decayed<'a>(parts: impl Iterator<Item = Part<'a>>, slot: usize, half_life: i64, at: i64) -> Option<f64> {
    let (mut values, mut whole) = (0, Sum::default());
    for part in parts {
        if let Slot::Decayed { count, sum } = &part.slots[slot] {
            values += count;
            let term = sum.round() * decay::weight(at - part.end, half_life);
            if !term.is_finite() {
                return None;
            }
            whole.add(term);
        }
    }
    (values > 0).then(|| whole.round())
}
