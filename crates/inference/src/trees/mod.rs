//! Gradient-boosted trees: a thin wrapper around hessboost, so that it can be replaced.

mod quadrature;
mod shapley;

pub(crate) use shapley::Explainer;

use crate::compact::Forest;
use crate::ensemble::Ensemble;
use crate::model::{Contributions, Link, Model, ModelError, check_inputs};
use hessboost::model::{BoostedModel, ModelFormat};
use std::sync::OnceLock;
use vocabulary::inputs::{Inputs, Layout};

const MAGIC: &[u8; 8] = b"HSTREES1";

/// Up to this many rows go through our own walk, on the calling thread, which wakes no other; more go through hessboost's
/// blocks of 256 rows on several threads. Both sum the same leaves in the same order. With 300 trees of 31 leaves over 24
/// columns one row took 5 µs against 11; in batches of 256 hessboost took 1.4 µs a row against 2.5 (one thread).
const WALKED_ROWS_MAX: usize = 16;

/// The same where trees split on categories, which hessboost walks more slowly: with three such columns of 24 it took 26 µs
/// a row in batches of 256 against 6 to 8 (one thread). Beyond, several threads make up for it.
const WALKED_ROWS_MAX_CATEGORIES: usize = 4096;

pub struct TreesModel {
    booster: BoostedModel,
    link: Link,
    layout: Layout,
    /// The form on disk; kept, so that a loaded model gives back the bytes it came from.
    bytes: Vec<u8>,
    /// The same trees for our own walk, and how many rows it is given; none where they are too large for it.
    forest: Option<Forest>,
    walked_rows_max: usize,
    /// Made when the first reason is asked for.
    explainer: OnceLock<Explainer>,
}

impl TreesModel {
    pub const KIND: &'static str = "trees";

    /// Wraps a booster; all of its rounds are used. The scores are `link` of the sums of the leaves.
    pub fn new(booster: BoostedModel, link: Link, layout: Layout) -> Result<Self, ModelError> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(link.code());
        bytes.extend(booster.encode(ModelFormat::Binary)?);
        Self::assemble(booster, link, layout, bytes)
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        let damaged = |what: &str| ModelError::Damaged { kind: Self::KIND, what: what.to_owned() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("they do not begin with HSTREES1"))?;
        let (link, rest) = rest.split_first().ok_or_else(|| damaged("they end after the first word"))?;
        let link = Link::from_code(*link).ok_or_else(|| damaged("the link is unknown"))?;
        let booster = BoostedModel::decode(rest, ModelFormat::Binary)?;
        Self::assemble(booster, link, layout.clone(), bytes.to_vec())
    }

    fn assemble(booster: BoostedModel, link: Link, layout: Layout, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let wrong = |what: String| Err(ModelError::Parts { kind: Self::KIND, what });
        let several = booster.n_outputs() > 1;
        if several != (link == Link::Softmax) {
            return wrong(format!("{} outputs do not go with the link {link:?}", booster.n_outputs()));
        }
        if booster.n_features() != layout.dense.len() || !layout.slots.is_empty() {
            return wrong(format!(
                "the trees read {} columns, the layout has {} and {} slots",
                booster.n_features(),
                layout.dense.len(),
                layout.slots.len()
            ));
        }
        if booster.has_vector_leaves() || booster.linear().is_some() || booster.shrinkage().is_some() {
            return wrong("they are no plain sum of trees with one number a leaf".to_owned());
        }
        if booster.trees().iter().any(|tree| tree.linear_leaves().is_some()) {
            return wrong("their leaves are linear models".to_owned());
        }
        let forest = Forest::new(&Ensemble::of(&booster)).ok();
        let categories = booster.trees().iter().any(|tree| tree.has_categorical_splits());
        let walked_rows_max = if categories { WALKED_ROWS_MAX_CATEGORIES } else { WALKED_ROWS_MAX };
        Ok(TreesModel { booster, link, layout, bytes, forest, walked_rows_max, explainer: OnceLock::new() })
    }

    pub fn link(&self) -> Link {
        self.link
    }

    /// The ensemble itself: for importance and continued training.
    pub fn booster(&self) -> &BoostedModel {
        &self.booster
    }

    /// The trees as plain data: for compression.
    pub fn ensemble(&self) -> Ensemble {
        Ensemble::of(&self.booster)
    }

    /// The sums of the leaves before the link, row-major.
    fn sums(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        check_finite(Self::KIND, &self.layout, inputs)?;
        if let Some(forest) = self.forest.as_ref().filter(|_| inputs.rows <= self.walked_rows_max) {
            forest.sums(inputs, out);
            return Ok(());
        }
        let sums = self.booster.predict_margin_rows(&inputs.dense, ..)?;
        out.clear();
        out.extend(sums.as_slice().iter().map(|sum| f64::from(*sum)));
        Ok(())
    }
}

/// Refuses infinite numbers, which no pipeline of ours makes.
pub(crate) fn check_finite(kind: &'static str, layout: &Layout, inputs: &Inputs) -> Result<(), ModelError> {
    match inputs.dense.iter().position(|value| value.is_infinite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column) = (at / inputs.dense_width, &layout.dense[at % inputs.dense_width].name);
            Err(ModelError::Inputs { kind, what: format!("column \"{column}\" is infinite in row {row}") })
        }
    }
}

impl Model for TreesModel {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn outputs(&self) -> usize {
        self.booster.n_outputs()
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        self.sums(inputs, out)?;
        out.chunks_exact_mut(self.outputs()).for_each(|row| self.link.apply_row(row));
        Ok(())
    }

    /// Shapley values of the columns (see [`Explainer`]). The base is what is left of the model's own sum, which it makes
    /// in single precision: the trees' mean over the rows they learned from, and that rounding.
    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        let mut sums = Vec::new();
        self.sums(inputs, &mut sums)?;
        let explainer = self.explainer.get_or_init(|| Explainer::new(&self.ensemble(), self.layout.dense.len()));
        Ok(explainer.contributions(inputs, &sums))
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests;
