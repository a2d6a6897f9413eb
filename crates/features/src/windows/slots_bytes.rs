//! Partial aggregates as bytes and back.

use super::bytes::{Wrong, read_id};
use super::codec::{Reader, Writer};
use super::distinct::{self, Distinct};
use super::exact::{Exact, Number};
use super::last::Placed;
use super::plan::SlotKind;
use super::quantile::{self, Buckets, Quantiles};
use super::slot::Slot;

pub(super) fn write_slot(slot: &Slot, out: &mut Writer) {
    match slot {
        Slot::Count(count) => out.u64(*count),
        Slot::Sum { count, sum } | Slot::Decayed { count, sum } => {
            out.u64(*count);
            write_exact(sum, out);
        }
        Slot::Squares(squares) => write_exact(squares, out),
        Slot::Min(value) | Slot::Max(value) => {
            out.u8(u8::from(value.is_finite()));
            if value.is_finite() {
                out.f64(*value);
            }
        }
        Slot::Distinct(Distinct::Few(hashes)) => {
            out.u8(0);
            out.count(hashes.len());
            hashes.iter().for_each(|hash| out.u64(*hash));
        }
        Slot::Distinct(Distinct::Many(registers)) => {
            out.u8(1);
            out.raw(&registers[..]);
        }
        Slot::Quantiles(Quantiles::Few(values)) => {
            out.u8(0);
            out.count(values.len());
            values.iter().for_each(|value| out.f64(*value));
        }
        Slot::Quantiles(Quantiles::Many(buckets)) => {
            out.u8(1);
            out.u8(buckets.level);
            out.count(buckets.counts.len());
            for (bucket, count) in &buckets.counts {
                out.u32(*bucket);
                out.u64(*count);
            }
        }
        Slot::Last(kept) => {
            out.count(kept.len());
            for placed in kept {
                out.i64(placed.time);
                out.bytes(placed.id.as_bytes());
                out.value(&placed.value);
            }
        }
    }
}

pub(super) fn read_slot(kind: &SlotKind, input: &mut Reader<'_>) -> Result<Slot, Wrong> {
    Ok(match kind {
        SlotKind::Count { .. } => Slot::Count(input.tally()?),
        SlotKind::Sum { .. } => Slot::Sum { count: input.tally()?, sum: read_exact(input)? },
        SlotKind::Decayed { .. } => Slot::Decayed { count: input.tally()?, sum: read_exact(input)? },
        SlotKind::Squares { .. } => Slot::Squares(read_exact(input)?),
        SlotKind::Min { .. } => Slot::Min(read_extreme(input)?.unwrap_or(f64::INFINITY)),
        SlotKind::Max { .. } => Slot::Max(read_extreme(input)?.unwrap_or(f64::NEG_INFINITY)),
        SlotKind::Distinct { .. } => Slot::Distinct(read_distinct(input)?),
        SlotKind::Quantiles { .. } => Slot::Quantiles(read_quantiles(input)?),
        SlotKind::Last { k, .. } => Slot::Last(read_last(*k, input)?),
    })
}

fn write_exact<const N: usize>(exact: &Exact<N>, out: &mut Writer) {
    let number = exact.number().canonical();
    out.u8(u8::from(number.negative));
    out.u32(number.unit as u32);
    out.u8(number.words.len() as u8);
    number.words.iter().for_each(|word| out.u64(*word));
}

fn read_exact<const N: usize>(input: &mut Reader<'_>) -> Result<Exact<N>, Wrong> {
    let negative = match input.u8()? {
        0 => false,
        1 => true,
        _ => return Err("a sum has no sign"),
    };
    let unit = input.u32()? as i32;
    let words = (0..input.u8()?).map(|_| input.u64()).collect::<Result<_, _>>()?;
    let number = Number { negative, words, unit };
    let exact = Exact::of(&number).filter(|_| number.is_canonical());
    exact.ok_or("a sum is not in its shortest form")
}

fn read_extreme(input: &mut Reader<'_>) -> Result<Option<f64>, Wrong> {
    match input.u8()? {
        0 => Ok(None),
        1 => input.f64().map(Some),
        _ => Err("an extreme is neither there nor not"),
    }
}

fn read_distinct(input: &mut Reader<'_>) -> Result<Distinct, Wrong> {
    match input.u8()? {
        0 => {
            let hashes = (0..input.count(8)?).map(|_| input.u64()).collect::<Result<Vec<u64>, _>>()?;
            let sound = hashes.len() <= distinct::EXACT_MAX && hashes.is_sorted_by(|a, b| a < b);
            if sound { Ok(Distinct::Few(hashes)) } else { Err("values told apart are out of order") }
        }
        1 => {
            let mut registers = Box::new([0; distinct::REGISTERS]);
            for register in registers.iter_mut() {
                *register = input.u8()?;
            }
            let sound = registers.iter().all(|register| *register <= distinct::RANK_MAX);
            if sound { Ok(Distinct::Many(registers)) } else { Err("a register is out of range") }
        }
        _ => Err("values told apart are neither few nor many"),
    }
}

fn read_quantiles(input: &mut Reader<'_>) -> Result<Quantiles, Wrong> {
    match input.u8()? {
        0 => {
            let values = (0..input.count(8)?).map(|_| input.f64()).collect::<Result<Vec<f64>, _>>()?;
            let sound = values.len() <= quantile::EXACT_MAX && values.is_sorted();
            if sound { Ok(Quantiles::Few(values)) } else { Err("values are out of order") }
        }
        1 => {
            let level = input.u8()?;
            let mut counts: Vec<(u32, u64)> = Vec::new();
            for _ in 0..input.count(12)? {
                counts.push((input.u32()?, input.tally()?));
            }
            let total = counts.iter().try_fold(0u64, |total, (_, count)| total.checked_add(*count));
            let sound = level <= quantile::LEVEL_MAX
                && counts.len() <= quantile::BUCKETS_MAX
                && counts.is_sorted_by(|a, b| a.0 < b.0)
                && counts.iter().all(|(bucket, count)| *count > 0 && *bucket < quantile::buckets(level))
                && total.is_some_and(|total| total > quantile::EXACT_MAX as u64);
            if sound { Ok(Quantiles::Many(Buckets { level, counts })) } else { Err("buckets are out of order") }
        }
        _ => Err("values are neither few nor many"),
    }
}

fn read_last(k: usize, input: &mut Reader<'_>) -> Result<Vec<Placed>, Wrong> {
    let mut kept: Vec<Placed> = Vec::new();
    for _ in 0..input.count(17)? {
        let placed = Placed { time: input.instant()?, id: read_id(input)?, value: input.value()? };
        if kept.len() == k || kept.last().is_some_and(|last| last.order(&placed).is_gt()) {
            return Err("newest values are out of order");
        }
        kept.push(placed);
    }
    Ok(kept)
}
