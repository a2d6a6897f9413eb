//! How often different values share a slot.

use super::program::{Op, Program};
use super::transform::{category, local, number, part_hash};
use crate::columns::Values;
use crate::hash::slot;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use vocabulary::inputs::Layout;

/// How often different values share a slot. Values are told apart by their 64-bit hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CollisionReport {
    pub table_bits: u8,
    /// Slots of the table, or of all tables.
    pub slots: u64,
    /// Slots that at least one value has.
    pub slots_used: u64,
    /// Different values over all slot columns.
    pub values: u64,
    /// Values that share their slot with another.
    pub colliding_values: u64,
    /// `colliding_values / values`, or 0 without values.
    pub share: f64,
    /// The share that an ideal hash would have: `1 - (1 - 1/slots)^(values - 1)`. 0 where each slot column has its own
    /// table: known values have a row each there.
    pub expected_share: f64,
    /// By slot column: different values, and how many share their slot. Texts and lists, whose slots are dense columns
    /// of their own, stand here and not in the sums above.
    pub columns: BTreeMap<String, ColumnCollisions>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnCollisions {
    pub values: u64,
    pub colliding_values: u64,
}

pub(super) fn report(program: &Program, layout: &Layout, columns: &[Values<'_>], rows: usize) -> CollisionReport {
    let mut seen: Vec<HashMap<u64, u32>> = vec![HashMap::new(); program.slot_width];
    let mut buffer = String::new();
    for op in &program.ops {
        for row in 0..rows {
            note(op, program.table_bits, columns, row, &mut buffer, &mut seen);
        }
    }
    if program.slot_width == 0 {
        return CollisionReport { columns: bags(program, layout, columns, rows), ..CollisionReport::default() };
    }
    let shared = layout.tables.is_empty();
    let table = |column: usize| if shared { 0 } else { column };
    let mut tenants: HashMap<(usize, u32), u32> = HashMap::new();
    for (column, values) in seen.iter().enumerate() {
        values.values().for_each(|slot| *tenants.entry((table(column), *slot)).or_default() += 1);
    }
    let mut report = CollisionReport {
        table_bits: program.table_bits,
        slots: if shared { 1 << program.table_bits } else { layout.tables.iter().map(|rows| u64::from(*rows)).sum() },
        slots_used: tenants.len() as u64,
        columns: bags(program, layout, columns, rows),
        ..CollisionReport::default()
    };
    for (place, (name, values)) in layout.slots.iter().zip(&seen).enumerate() {
        let colliding_values = values.values().filter(|slot| tenants[&(table(place), **slot)] > 1).count() as u64;
        let column = ColumnCollisions { values: values.len() as u64, colliding_values };
        report.values += column.values;
        report.colliding_values += colliding_values;
        report.columns.insert(name.clone(), column);
    }
    if report.values > 0 {
        report.share = report.colliding_values as f64 / report.values as f64;
    }
    if shared && report.values > 0 {
        report.expected_share = 1.0 - (1.0 - 1.0 / report.slots as f64).powf((report.values - 1) as f64);
    }
    report
}

/// The contents of texts and lists, each in its own slots.
fn bags(program: &Program, layout: &Layout, columns: &[Values<'_>], rows: usize) -> BTreeMap<String, ColumnCollisions> {
    let of = |op: &Op| {
        let Op::Bag { bag, dense } = op else { return None };
        let mut slots: HashMap<u64, u32> = HashMap::new();
        (0..rows).for_each(|row| {
            bag.contents(columns, row, &mut |hash, slot| {
                slots.insert(hash, slot);
            });
        });
        let mut tenants: HashMap<u32, u64> = HashMap::new();
        slots.values().for_each(|slot| *tenants.entry(*slot).or_default() += 1);
        let colliding_values = slots.values().filter(|slot| tenants[slot] > 1).count() as u64;
        let name = layout.dense[*dense].name.trim_end_matches(":0").to_owned();
        Some((name, ColumnCollisions { values: slots.len() as u64, colliding_values }))
    };
    program.ops.iter().filter_map(of).collect()
}

/// Adds the hash of a row's value and its slot under each slot column.
fn note(op: &Op, bits: u8, columns: &[Values<'_>], row: usize, buffer: &mut String, seen: &mut [HashMap<u64, u32>]) {
    match op {
        Op::Scaled { from, bins, slot: at, .. } => {
            let hash = bins.hash(number(columns, *from, row));
            seen[*at].insert(hash, slot(hash, bits));
        }
        Op::Category { columns: places, prefix, slot: at } => {
            let hash = category(columns, places, *prefix, row).finish();
            seen[*at].insert(hash, slot(hash, bits));
        }
        Op::Vocabulary { table, slot: at } => {
            seen[*at].insert(table.hash(columns, row), table.row(columns, row, buffer));
        }
        Op::SlotParts { column, zone, parts, slot: at } => {
            let local = local(columns[*column].micros(row), *zone);
            for (place, (part, prefix)) in parts.iter().enumerate() {
                let hash = part_hash(local.as_ref(), *part, *prefix).finish();
                seen[*at + place].insert(hash, slot(hash, bits));
            }
        }
        // The parts of instants have a row each.
        Op::Calendar { .. } => {}
        Op::Number { .. }
        | Op::Standard { .. }
        | Op::Projection { .. }
        | Op::Codes { .. }
        | Op::Means { .. }
        | Op::Cyclic { .. }
        | Op::Recency { .. }
        | Op::Bag { .. }
        | Op::DenseParts { .. } => {}
    }
}
