//! What a network looks like before it learns: encodings from the columns' quantiles, widths and sharing of embeddings
//! from the categories seen and the memory allowed, sizes of layers. Knows no weights.

use crate::error::LearnError;
use crate::fit::{Goal, Sample};
use crate::keyed::{Purpose, bits};
use inference::elementary::{cos_turns, ln};
use inference::network::tower::{Shape, Units};
use inference::network::{DIMENSION_MAX, NetworkParts, Numeric, Place, TABLE_NUMBERS_MAX, Table, slot_ids};
use vocabulary::inputs::Layout;
use vocabulary::model::{EmbeddingStorage, NetworkSpec, NumericEncoding};

/// Rows whose quantiles stand for all: their error at 65,536 rows is below half a percent of rank.
const QUANTILE_ROWS: usize = 65_536;

/// Widest embedding that is chosen without being asked for. fastai's rule goes to 600; for tables of rows and columns
/// widths above 32 rarely gain what they cost (a judgement, as in DLRM's 16 to 64).
const WIDTH_AUTO_MAX: f64 = 32.0;

/// Rows of a table below which sharing stops; then vectors get shorter.
const ROWS_MIN: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub numeric: Vec<Numeric>,
    pub tables: Vec<TablePlan>,
    /// The table of each slot.
    pub slots: Vec<usize>,
    /// Inputs that dense columns make.
    pub numeric_width: usize,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TablePlan {
    pub ids: u32,
    pub dimension: usize,
    pub place: Place,
}

/// What a slot reads whose table was pruned.
pub(super) const NOTHING: TablePlan = TablePlan { ids: 0, dimension: 0, place: Place::Hashed { rows: 1 } };

impl Plan {
    /// That of a network that there is.
    pub fn of(parts: &NetworkParts) -> Plan {
        let table =
            |table: &Table| TablePlan { ids: table.ids, dimension: table.dimension as usize, place: table.place };
        let mut tables: Vec<TablePlan> = parts.tables.iter().map(table).collect();
        let nothing = tables.len();
        if parts.slots.contains(&None) {
            tables.push(NOTHING);
        }
        Plan {
            numeric: parts.numeric.clone(),
            tables,
            slots: parts.slots.iter().map(|table| table.map_or(nothing, |table| table as usize)).collect(),
            numeric_width: parts.numeric.iter().map(Numeric::width).sum(),
            shape: parts.shape(),
        }
    }
}

impl TablePlan {
    pub fn rows(&self) -> usize {
        self.place.rows(self.ids)
    }

    fn numbers(&self) -> usize {
        self.rows().saturating_mul(self.dimension)
    }
}

pub(super) fn plan(
    spec: &NetworkSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    seed: u64,
) -> Result<Plan, LearnError> {
    let numeric: Vec<Numeric> = (0..layout.dense.len()).map(|column| encoding(spec, sample, column, seed)).collect();
    let numeric_width = numeric.iter().map(Numeric::width).sum();
    let (mut tables, slots) = tables(spec, layout, sample)?;
    fit_into(&mut tables, limit(spec));
    let inputs = numeric_width + slots.iter().map(|table| tables[*table].dimension).sum::<usize>();
    let mut below = inputs;
    let mut hidden = Vec::with_capacity(spec.hidden.len());
    for units in &spec.hidden {
        let count = *units as usize;
        hidden.push(Units { count, residual: spec.residual && count == below });
        below = count;
    }
    let shape = Shape { inputs, cross: spec.cross_layers as usize, hidden, outputs: goal.outputs };
    Ok(Plan { numeric, tables, slots, numeric_width, shape })
}

/// Numbers that all embeddings may have.
pub(super) fn limit(spec: &NetworkSpec) -> usize {
    let bytes = match spec.embedding_storage {
        EmbeddingStorage::F32 => 4.0,
        EmbeddingStorage::Bf16 => 2.0,
    };
    ((spec.embedding_mb * 1e6 / bytes) as usize).min(TABLE_NUMBERS_MAX)
}

/// A column of few values, or none, stays as it is.
fn encoding(spec: &NetworkSpec, sample: &Sample, column: usize, seed: u64) -> Numeric {
    let inputs = &sample.inputs;
    let every = inputs.rows.div_ceil(QUANTILE_ROWS).max(1);
    let values = inputs.dense.iter().skip(column).step_by(inputs.dense_width.max(1) * every);
    let mut values: Vec<f32> = values.copied().filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup_by(|a, b| a == b);
    if distinct.len() <= 2 {
        return Numeric::Plain;
    }
    match spec.numeric {
        NumericEncoding::Plain => Numeric::Plain,
        NumericEncoding::PiecewiseLinear => edges(spec.bins as usize, &values, &distinct),
        NumericEncoding::Periodic => Numeric::Periodic {
            frequencies: (0..u64::from(spec.frequencies))
                .map(|at| (spec.frequency_scale * normal(seed, column as u64, at)) as f32)
                .collect(),
        },
    }
}

/// Edges at quantiles. A value that many rows share takes one interval, however many quantiles fall on it, and the others
/// are for the rest: a column that is mostly zero would have none for what is not.
fn edges(bins: usize, sorted: &[f32], distinct: &[f32]) -> Numeric {
    let mut edges = vec![distinct[0]];
    let (mut rows, mut taken) = (sorted.len(), 0);
    let groups = sorted.chunk_by(|a, b| a == b).map(<[f32]>::len);
    for (count, next) in groups.zip(&distinct[1..]) {
        taken += count;
        let left = bins - (edges.len() - 1);
        if left > 1 && taken * left >= rows {
            edges.push(*next);
            rows -= taken;
            taken = 0;
        }
    }
    edges.push(distinct[distinct.len() - 1]);
    // Neighbours so close that 1 / width is no ordinary number would make infinite inputs.
    edges.dedup_by(|next, last| next <= last || !(1.0 / (*next - *last)).is_normal());
    if edges.len() < 2 { Numeric::Plain } else { Numeric::PiecewiseLinear { edges } }
}

/// A number of the standard normal distribution (Box and Muller 1958).
fn normal(seed: u64, column: u64, at: u64) -> f64 {
    let uniform =
        |which: u64| (bits(seed, Purpose::Frequencies, column, 2 * at + which) >> 11) as f64 / (1u64 << 53) as f64;
    (-2.0 * ln(1.0 - uniform(0))).sqrt() * cos_turns(uniform(1))
}

/// One table for each slot, or one for all.
fn tables(spec: &NetworkSpec, layout: &Layout, sample: &Sample) -> Result<(Vec<TablePlan>, Vec<usize>), LearnError> {
    let seen = (0..layout.slots.len()).map(|slot| seen(sample, slot, slot_ids(layout, slot)?));
    let seen: Vec<(u32, usize)> = seen.collect::<Result<_, LearnError>>()?;
    let table = |(ids, seen): (u32, usize)| TablePlan { ids, dimension: width(spec, seen), place: Place::Direct };
    if layout.tables.is_empty() {
        // The width that the slot with most categories wants.
        let most = seen.iter().copied().max_by_key(|(_, seen)| *seen);
        Ok((most.map(table).into_iter().collect(), vec![0; seen.len()]))
    } else {
        Ok((seen.iter().copied().map(table).collect(), (0..seen.len()).collect()))
    }
}

/// Ids of a slot, and how many different ones the sample has.
fn seen(sample: &Sample, slot: usize, ids: u32) -> Result<(u32, usize), LearnError> {
    let mut seen = vec![false; ids as usize];
    let inputs = &sample.inputs;
    for id in inputs.slots.iter().skip(slot).step_by(inputs.slot_width.max(1)) {
        let Some(seen) = seen.get_mut(*id as usize) else {
            let what = format!("slot {slot} is {id}, its table is for {ids} ids");
            return Err(inference::ModelError::Inputs { kind: "network", what }.into());
        };
        *seen = true;
    }
    Ok((ids, seen.iter().filter(|seen| **seen).count()))
}

/// min(1.6 n^0.56, 32): fastai's rule (`emb_sz_rule`, Howard et al.), which was fitted to what worked.
fn width(spec: &NetworkSpec, seen: usize) -> usize {
    if let Some(width) = spec.embedding_width {
        return (width as usize).min(DIMENSION_MAX);
    }
    let rule = 1.6 * inference::elementary::exp(0.56 * ln(seen.max(1) as f64));
    rule.min(WIDTH_AUTO_MAX).round().max(1.0) as usize
}

/// Makes the largest table share more, again and again, until all have no more than `numbers`. Ids first share rows of
/// quotients and remainders, which still tells all of them apart; where that saves nothing more (at about the square root
/// of their number) in any table, ids of the largest share rows by hash; at last vectors get shorter. Small tables stay
/// as they are: their categories are frequent ones.
fn fit_into(tables: &mut [TablePlan], numbers: usize) {
    while tables.iter().map(TablePlan::numbers).fold(0, usize::saturating_add) > numbers {
        let largest = |choice: fn(TablePlan) -> Option<TablePlan>| {
            let smaller = tables.iter().enumerate().filter_map(|(at, table)| Some((at, choice(*table)?)));
            smaller.rev().max_by_key(|(at, _)| tables[*at].numbers())
        };
        let next = largest(composed).or_else(|| largest(hashed)).or_else(|| largest(shorter));
        let Some((at, smaller)) = next else { return };
        tables[at] = smaller;
    }
}

fn composed(table: TablePlan) -> Option<TablePlan> {
    let remainders = match table.place {
        Place::Direct => table.ids.div_ceil(2),
        Place::QuotientRemainder { remainders } => remainders.div_ceil(2),
        Place::Hashed { .. } => return None,
    };
    let smaller = TablePlan { place: Place::QuotientRemainder { remainders }, ..table };
    (table.rows() > ROWS_MIN && smaller.rows() < table.rows()).then_some(smaller)
}

fn hashed(table: TablePlan) -> Option<TablePlan> {
    let rows = (table.rows() / 2).max(ROWS_MIN);
    (rows < table.rows()).then_some(TablePlan { place: Place::Hashed { rows: rows as u32 }, ..table })
}

fn shorter(table: TablePlan) -> Option<TablePlan> {
    (table.dimension > 1).then_some(TablePlan { dimension: table.dimension / 2, ..table })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_share_only_as_much_as_memory_asks() {
        let direct = |ids, dimension| TablePlan { ids, dimension, place: Place::Direct };
        let fitted = |numbers: usize| {
            let mut tables = [direct(1_000_000, 32), direct(5_000, 32), direct(20, 8)];
            fit_into(&mut tables, numbers);
            assert!(tables.iter().map(TablePlan::numbers).sum::<usize>() <= numbers, "{numbers}: {tables:?}");
            tables
        };
        assert_eq!(fitted(33_000_000), [direct(1_000_000, 32), direct(5_000, 32), direct(20, 8)]);
        let half = fitted(20_000_000);
        assert_eq!(half[0].place, Place::QuotientRemainder { remainders: 500_000 });
        assert_eq!(half[1..], [direct(5_000, 32), direct(20, 8)]);
        let tight = fitted(100_000);
        assert!(tight[..2].iter().all(|table| matches!(table.place, Place::QuotientRemainder { .. })), "{tight:?}");
        assert_eq!(tight[2], direct(20, 8));
        let tiny = fitted(2_500);
        assert!(matches!(tiny[0].place, Place::Hashed { .. }), "{tiny:?}");
    }

    #[test]
    fn widths_follow_the_number_of_categories() {
        let spec = NetworkSpec::default();
        assert_eq!([1, 2, 10, 100, 1000].map(|seen| width(&spec, seen)), [2, 2, 6, 21, 32]);
        assert_eq!(width(&NetworkSpec { embedding_width: Some(5), ..spec }, 1000), 5);
    }

    #[test]
    fn edges_lie_at_quantiles_and_a_value_of_many_rows_takes_one_interval() {
        let edges_of = |values: &[f32]| {
            let mut distinct = values.to_vec();
            distinct.dedup();
            match edges(4, values, &distinct) {
                Numeric::PiecewiseLinear { edges } => edges,
                other => panic!("{other:?}"),
            }
        };
        let even: Vec<f32> = (0..=1000).map(|at| at as f32).collect();
        assert_eq!(edges_of(&even), [0.0, 251.0, 501.0, 751.0, 1000.0]);
        let mostly_zero: Vec<f32> = (0..1000).map(|at| if at < 910 { 0.0 } else { (at - 900) as f32 }).collect();
        assert_eq!(edges_of(&mostly_zero), [0.0, 10.0, 40.0, 70.0, 99.0]);
        assert_eq!(edges_of(&[1.0, 2.0, 5.0]), [1.0, 2.0, 5.0]);
    }
}
