//! From a trained network to the one that a fit begins with: grown to the declared sizes with the same answers, then
//! shrunk and perturbed if asked. Knows no version and no pipeline.

use super::grow::{Grower, add_cross, extend_table};
use super::learner::initial;
use super::plan::{Plan, TablePlan, limit, plan};
use crate::error::LearnError;
use crate::fit::{Goal, Sample};

use inference::network::{NetworkParts, Numeric, Place, Table};
use vocabulary::inputs::Layout;
use vocabulary::model::{NetworkSpec, NumericEncoding};

/// What a fit begins with in place of random numbers.
pub(crate) struct Start<'a> {
    pub parts: &'a NetworkParts,
    /// By which it was trained.
    pub spec: &'a NetworkSpec,
    /// For each slot and each row of its table, the row that the same values had in the start's own layout.
    pub origins: &'a [Vec<u32>],
    /// Share of each number that is kept; the rest is what a fit from the beginning would begin with (Ash and Adams, "On
    /// Warm-Starting Neural Network Training", NeurIPS 2020, with the noise of an initialisation). 1 keeps all.
    pub shrink: f64,
}

impl Start<'_> {
    /// The network to begin with. Fails where the declared one is smaller in some part.
    pub(super) fn grown(
        &self,
        spec: &NetworkSpec,
        goal: Goal,
        layout: &Layout,
        sample: &Sample,
        seed: u64,
    ) -> Result<NetworkParts, LearnError> {
        let mut parts = self.parts.clone();
        let grower = Grower { seed };
        self.extend_tables(&mut parts);
        let residual = parts.hidden.first().is_some_and(|layer| layer.residual);
        if !residual {
            self.grow_inputs(&mut parts, &grower, spec, &plan(spec, goal, layout, sample, seed)?)?;
        }
        if (spec.cross_layers as usize) < parts.cross.len() {
            return smaller("cross_layers", parts.cross.len());
        }
        add_cross(&mut parts, spec.cross_layers as usize);
        grow_hidden(&mut parts, &grower, spec)?;
        check_memory(&parts, spec)?;
        if self.shrink < 1.0 {
            perturb(&mut parts, self.shrink, goal, sample, seed);
        }
        Ok(parts)
    }

    fn extend_tables(&self, parts: &mut NetworkParts) {
        for (slot, origins) in self.origins.iter().enumerate() {
            let Some(table) = parts.slots[slot] else { continue };
            let table = &mut parts.tables[table as usize];
            if table.place == Place::Direct && origins.len() > table.ids as usize {
                extend_table(table, origins);
            }
        }
    }

    /// Widths of embeddings, intervals, and what sparse groups had removed.
    fn grow_inputs(
        &self,
        parts: &mut NetworkParts,
        grower: &Grower,
        spec: &NetworkSpec,
        planned: &Plan,
    ) -> Result<(), LearnError> {
        let finer = spec.numeric == NumericEncoding::PiecewiseLinear && spec.bins > self.spec.bins;
        for (column, planned) in planned.numeric.iter().enumerate() {
            match (&parts.numeric[column], planned) {
                (Numeric::Unused, _) => grower.read_column(parts, column, planned.clone()),
                (Numeric::PiecewiseLinear { .. }, Numeric::PiecewiseLinear { edges }) if finer => {
                    grower.split_intervals(parts, column, edges, spec.bins as usize);
                }
                _ => {}
            }
        }
        for (slot, table) in planned.slots.iter().enumerate() {
            if parts.slots[slot].is_none() {
                let TablePlan { ids, dimension, place } = planned.tables[*table];
                let mut table = Table { ids, dimension: dimension as u32, place, weights: Vec::new() };
                table.weights = vec![0.0; place.rows(ids) * dimension];
                if let Place::QuotientRemainder { remainders } = place {
                    table.weights[remainders as usize * dimension..].fill(1.0);
                }
                grower.read_slot(parts, slot, table);
            }
        }
        let Some(wanted) = spec.embedding_width else { return Ok(()) };
        for table in 0..parts.tables.len() {
            let dimension = parts.tables[table].dimension;
            // Another width than was declared then came from too little memory.
            if dimension > wanted && self.spec.embedding_width == Some(dimension) {
                return smaller("embedding_width", dimension as usize);
            }
            if self.spec.embedding_width != Some(wanted) {
                grower.widen_table(parts, table, wanted as usize);
            }
        }
        Ok(())
    }
}

fn smaller<T>(parameter: &str, least: impl std::fmt::Display) -> Result<T, LearnError> {
    let what = format!("it is larger than learner.network.{parameter} says; declare at least {least}");
    Err(LearnError::Start { what })
}

/// Deepens where layers are missing, then widens.
fn grow_hidden(parts: &mut NetworkParts, grower: &Grower, spec: &NetworkSpec) -> Result<(), LearnError> {
    let sizes: Vec<usize> = parts.hidden.iter().map(|layer| layer.dense.outputs as usize).collect();
    let wanted: Vec<usize> = spec.hidden.iter().map(|units| *units as usize).collect();
    let residual: Vec<bool> = parts.hidden.iter().map(|layer| layer.residual).collect();
    let Some(places) = places(&sizes, &residual, &wanted, 0, 0) else {
        let what = format!(
            "its hidden layers {sizes:?} do not grow into learner.network.hidden = {wanted:?}; declare layers at least as \
             wide in its order, with new ones above the first, each at least as wide as its layer below"
        );
        return Err(LearnError::Start { what });
    };
    for (layer, wanted_units) in wanted.iter().enumerate() {
        if !places.contains(&layer) {
            let first_adds = parts.hidden[0].residual;
            if first_adds {
                let what =
                    "its first layer is residual, and none can be put upon it; declare as many layers".to_owned();
                return Err(LearnError::Start { what });
            }
            grower.deepen(parts, layer - 1, spec.residual && *wanted_units == wanted[layer - 1]);
        }
    }
    for (layer, units) in wanted.iter().enumerate() {
        if !parts.hidden[layer].residual {
            grower.widen(parts, layer, *units);
        }
    }
    let sizes: Vec<usize> = parts.hidden.iter().map(|layer| layer.dense.outputs as usize).collect();
    if sizes != wanted {
        let what = format!("its residual layers are as wide as those below them, which {wanted:?} are not");
        return Err(LearnError::Start { what });
    }
    Ok(())
}

/// Where each layer stands among the wanted ones, so that the fewest units are added; the lower place of equal ones. The
/// first stays the first: what a layer below it could pass on is not rectified. `from` is the place of the first of
/// `wanted`, and `below` the size of the layer below it, which those that are new have at first.
fn places(sizes: &[usize], residual: &[bool], wanted: &[usize], from: usize, below: usize) -> Option<Vec<usize>> {
    let Some((size, rest)) = sizes.split_first() else {
        let fits = if from == 0 { wanted.is_empty() } else { wanted.iter().all(|units| *units >= below) };
        return fits.then(Vec::new);
    };
    let cost =
        |places: &[usize]| places.iter().zip(sizes).map(|(place, size)| wanted[place - from] - size).sum::<usize>();
    let mut best: Option<Vec<usize>> = None;
    for (place, units) in wanted.iter().enumerate() {
        // A new layer below the first, or between a residual one and the one that it adds.
        let parted = place > 0 && (from == 0 || residual[0]);
        if parted || wanted[..place].iter().any(|units| *units < below) {
            break;
        }
        if units < size {
            continue;
        }
        let above = places(rest, &residual[1..], &wanted[place + 1..], from + place + 1, *size);
        let all = above.map(|above| [vec![from + place], above].concat());
        if let Some(all) = all.filter(|all| best.as_ref().is_none_or(|best| cost(all) < cost(best))) {
            best = Some(all);
        }
    }
    best
}

fn check_memory(parts: &NetworkParts, spec: &NetworkSpec) -> Result<(), LearnError> {
    let numbers: usize = parts.tables.iter().map(|table| table.weights.len()).sum();
    if numbers > limit(spec) {
        let what = format!(
            "its embeddings grow to {numbers} numbers, and learner.network.embedding_mb is for {}; raise it, or lower \
             features.vocabulary.rows",
            limit(spec)
        );
        return Err(LearnError::Start { what });
    }
    Ok(())
}

/// Draws all numbers towards those that a fit from the beginning would begin with.
fn perturb(parts: &mut NetworkParts, kept: f64, goal: Goal, sample: &Sample, seed: u64) {
    let plan = Plan::of(parts);
    let fresh = initial(&plan, goal, sample, seed);
    let toward =
        |weight: &mut f32, fresh: f32| *weight = (kept * f64::from(*weight) + (1.0 - kept) * f64::from(fresh)) as f32;
    let layers = parts.cross.iter_mut().chain(parts.hidden.iter_mut().map(|layer| &mut layer.dense));
    for (dense, place) in layers.chain([&mut parts.output]).zip(plan.shape.places()) {
        dense.weights.iter_mut().zip(&fresh[place.weights]).for_each(|(weight, fresh)| toward(weight, *fresh));
        dense.bias.iter_mut().zip(&fresh[place.bias]).for_each(|(bias, fresh)| toward(bias, *fresh));
    }
    for table in &mut parts.tables {
        let ones_from = match table.place {
            Place::QuotientRemainder { remainders } => remainders as usize * table.dimension as usize,
            _ => table.weights.len(),
        };
        let (zeros, ones) = table.weights.split_at_mut(ones_from);
        zeros.iter_mut().for_each(|weight| toward(weight, 0.0));
        ones.iter_mut().for_each(|weight| toward(weight, 1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_find_the_places_that_add_the_fewest_units() {
        let found = |sizes: &[usize], wanted: &[usize]| places(sizes, &vec![false; sizes.len()], wanted, 0, 0);
        assert_eq!(found(&[64], &[128]), Some(vec![0]));
        assert_eq!(found(&[128, 64], &[128, 64, 64]), Some(vec![0, 1]));
        assert_eq!(found(&[128, 64], &[128, 128, 64]), Some(vec![0, 2]));
        assert_eq!(found(&[8, 8, 4], &[8, 8, 8, 4]), Some(vec![0, 1, 3]));
        assert_eq!(found(&[], &[]), Some(vec![]));
        for (sizes, wanted) in
            [(&[64, 32][..], &[64][..]), (&[64], &[32]), (&[64], &[32, 64]), (&[], &[8]), (&[48], &[48, 24])]
        {
            assert_eq!(found(sizes, wanted), None, "{sizes:?} {wanted:?}");
        }
        // A residual layer is not parted from the one below it.
        assert_eq!(places(&[8, 8], &[false, true], &[8, 8, 8], 0, 0), Some(vec![0, 1]));
        assert_eq!(places(&[8, 8, 4], &[false, true, false], &[8, 8, 8, 4], 0, 0), Some(vec![0, 1, 3]));
    }
}
