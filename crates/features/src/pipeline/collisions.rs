//! How often different values share a slot.

use super::step::{Op, Program};
use super::transform::{category, local, number, part_hash};
use crate::columns::Values;
use crate::hash::slot;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use vocabulary::inputs::Layout;

/// How often different values share a slot. Values are told apart by their 64-bit hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CollisionReport {
    pub table_bits: u8,
    /// Slots of the table.
    pub slots: u64,
    /// Slots that at least one value has.
    pub slots_used: u64,
    /// Different values over all slot columns.
    pub values: u64,
    /// Values that share their slot with another.
    pub colliding_values: u64,
    /// `colliding_values / values`, or 0 without values.
    pub share: f64,
    /// The share that an ideal hash would have: `1 - (1 - 1/slots)^(values - 1)`.
    pub expected_share: f64,
    /// By slot column: different values, and how many share their slot.
    pub columns: BTreeMap<String, ColumnCollisions>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnCollisions {
    pub values: u64,
    pub colliding_values: u64,
}

pub(super) fn report(program: &Program, layout: &Layout, columns: &[Values<'_>], rows: usize) -> CollisionReport {
    let mut values: Vec<HashSet<u64>> = vec![HashSet::new(); program.slot_width];
    for op in &program.ops {
        for row in 0..rows {
            note(op, columns, row, &mut values);
        }
    }
    if program.slot_width == 0 {
        return CollisionReport::default();
    }
    let bits = program.table_bits;
    let mut tenants: HashMap<u32, u32> = HashMap::new();
    for hash in values.iter().flatten() {
        *tenants.entry(slot(*hash, bits)).or_default() += 1;
    }
    let mut report = CollisionReport {
        table_bits: bits,
        slots: 1 << bits,
        slots_used: tenants.len() as u64,
        ..CollisionReport::default()
    };
    for (name, hashes) in layout.slots.iter().zip(&values) {
        let colliding_values = hashes.iter().filter(|hash| tenants[&slot(**hash, bits)] > 1).count() as u64;
        let column = ColumnCollisions { values: hashes.len() as u64, colliding_values };
        report.values += column.values;
        report.colliding_values += colliding_values;
        report.columns.insert(name.clone(), column);
    }
    if report.values > 0 {
        report.share = report.colliding_values as f64 / report.values as f64;
        report.expected_share = 1.0 - (1.0 - 1.0 / report.slots as f64).powf((report.values - 1) as f64);
    }
    report
}

/// Adds the hashes of a row's values, each under its slot column.
fn note(op: &Op, columns: &[Values<'_>], row: usize, values: &mut [HashSet<u64>]) {
    match op {
        Op::Scaled { from, bins, slot, .. } => {
            values[*slot].insert(bins.hash(number(columns, *from, row)));
        }
        Op::Category { columns: places, prefix, slot } => {
            values[*slot].insert(category(columns, places, *prefix, row).finish());
        }
        Op::SlotParts { column, zone, parts, slot } => {
            let local = local(columns[*column].micros(row), *zone);
            for (place, (part, prefix)) in parts.iter().enumerate() {
                values[*slot + place].insert(part_hash(local.as_ref(), *part, *prefix).finish());
            }
        }
        Op::Number { .. } | Op::Codes { .. } | Op::Means { .. } | Op::DenseParts { .. } => {}
    }
}
