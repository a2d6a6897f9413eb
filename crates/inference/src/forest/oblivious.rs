//! Trees that ask the same question on each level (CatBoost's): the answers, as bits, are the leaf's place.

use super::{BuildError, NODES_MAX, Real};

/// Deeper trees would have more leaves than any file holds; CatBoost itself stops at 16.
const DEPTH_MAX: usize = 30;

/// How many rows go through one tree together.
const BLOCK_ROWS: usize = 64;

/// One tree: `splits[i]` is bit `i` of the leaf, set where the feature is above the border.
#[derive(Clone, Debug, PartialEq)]
pub struct ObliviousTree {
    pub splits: Vec<(usize, f32)>,
    /// For each leaf, one value an output.
    pub values: Vec<f64>,
}

/// What takes the place of NaN, for each feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanAs {
    /// Above no border.
    Lowest,
    /// Above all borders.
    Highest,
}

#[derive(Clone, Debug)]
pub struct Oblivious {
    outputs: usize,
    nans: Box<[NanAs]>,
    /// Tree by tree.
    splits: Box<[(u32, f32)]>,
    values: Box<[f64]>,
    /// For each tree, the ends of its splits and of its values.
    ends: Box<[(u32, u32)]>,
    /// For each feature, the borders of all trees.
    borders: Box<[Box<[f32]>]>,
}

impl Oblivious {
    pub fn new(nans: Vec<NanAs>, outputs: usize, trees: Vec<ObliviousTree>) -> Result<Oblivious, BuildError> {
        let features = nans.len();
        let (mut splits, mut values, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut borders = vec![Vec::new(); features];
        for (tree, ObliviousTree { splits: its_splits, values: its_values }) in trees.into_iter().enumerate() {
            if its_splits.len() > DEPTH_MAX || its_values.len() != outputs << its_splits.len() {
                return Err(BuildError::Empty { tree });
            }
            for (node, (feature, border)) in its_splits.into_iter().enumerate() {
                match borders.get_mut(feature) {
                    Some(list) => list.push(border),
                    None => return Err(BuildError::Feature { tree, node, feature, features }),
                }
                splits.push((feature as u32, border));
            }
            values.extend(its_values);
            if values.len() > NODES_MAX {
                return Err(BuildError::Size);
            }
            ends.push((splits.len() as u32, values.len() as u32));
        }
        for list in &mut borders {
            list.retain(|border| !border.is_nan());
            list.iter_mut().for_each(|border| *border += 0.0);
            list.sort_by(f32::total_cmp);
            list.dedup();
        }
        Ok(Oblivious {
            outputs,
            nans: nans.into_boxed_slice(),
            splits: splits.into_boxed_slice(),
            values: values.into_boxed_slice(),
            ends: ends.into_boxed_slice(),
            borders: borders.into_iter().map(Vec::into_boxed_slice).collect(),
        })
    }

    pub fn features(&self) -> usize {
        self.nans.len()
    }

    pub fn bytes(&self) -> usize {
        let borders: usize = self.borders.iter().map(|list| list.len() * 4).sum();
        self.splits.len() * 8 + self.values.len() * 8 + self.ends.len() * 8 + borders
    }

    /// Adds the leaves of each row to `sums`, which has `outputs` numbers a row, in the order of the trees.
    pub fn add_to(&self, rows: &[f32], sums: &mut [f64]) {
        let features = self.features();
        if features == 0 {
            return;
        }
        // Columns, so that one split is compared with many rows in a vector register.
        let mut columns = vec![0f32; features * BLOCK_ROWS];
        for (rows, sums) in rows.chunks(features * BLOCK_ROWS).zip(sums.chunks_mut(self.outputs * BLOCK_ROWS)) {
            if rows.len() == features {
                self.one(rows, &mut columns[..features], sums);
                continue;
            }
            for (at, row) in rows.chunks_exact(features).enumerate() {
                for (feature, value) in row.iter().enumerate() {
                    columns[feature * BLOCK_ROWS + at] = self.number(feature, *value);
                }
            }
            self.block(&columns, rows.len() / features, sums);
        }
    }

    fn number(&self, feature: usize, value: f32) -> f32 {
        match self.nans[feature] {
            NanAs::Highest if value.is_nan() => f32::INFINITY,
            NanAs::Lowest if value.is_nan() => f32::NEG_INFINITY,
            _ => value,
        }
    }

    fn one(&self, row: &[f32], numbers: &mut [f32], sums: &mut [f64]) {
        for (feature, (number, value)) in numbers.iter_mut().zip(row).enumerate() {
            *number = self.number(feature, *value);
        }
        let (mut split, mut value) = (0, 0);
        for (split_end, value_end) in &self.ends {
            let (split_end, value_end) = (*split_end as usize, *value_end as usize);
            let mut leaf = 0;
            for (bit, (feature, border)) in self.splits[split..split_end].iter().enumerate() {
                leaf |= usize::from(numbers[*feature as usize] > *border) << bit;
            }
            let values = &self.values[value..value_end];
            for (sum, value) in sums.iter_mut().zip(&values[leaf * self.outputs..(leaf + 1) * self.outputs]) {
                *sum += value;
            }
            (split, value) = (split_end, value_end);
        }
    }

    fn block(&self, columns: &[f32], count: usize, sums: &mut [f64]) {
        let (mut split, mut value) = (0, 0);
        for (split_end, value_end) in &self.ends {
            let (split_end, value_end) = (*split_end as usize, *value_end as usize);
            let mut leaves = [0u32; BLOCK_ROWS];
            for (bit, (feature, border)) in self.splits[split..split_end].iter().enumerate() {
                let column = &columns[*feature as usize * BLOCK_ROWS..][..BLOCK_ROWS];
                for (leaf, number) in leaves.iter_mut().zip(column) {
                    *leaf |= u32::from(*number > *border) << bit;
                }
            }
            let values = &self.values[value..value_end];
            for (sums, leaf) in sums.chunks_exact_mut(self.outputs).zip(&leaves[..count]) {
                let first = *leaf as usize * self.outputs;
                for (sum, value) in sums.iter_mut().zip(&values[first..first + self.outputs]) {
                    *sum += value;
                }
            }
            (split, value) = (split_end, value_end);
        }
    }

    /// Replaces each number by one number for all that the borders cannot tell from it.
    pub fn canonical(&self, row: &mut [f32]) {
        for (feature, value) in row.iter_mut().enumerate() {
            let borders = &self.borders[feature];
            let number = self.number(feature, *value);
            let place = borders.partition_point(|border| *border < number);
            *value = match borders.last() {
                None => 0.0,
                Some(last) => borders.get(place).copied().unwrap_or_else(|| Real::next_up(*last)),
            };
        }
    }
}
