//! Compact trees: shared tables of thresholds, a node in two or three bytes on disk and eight in memory. Reads nothing of
//! the library that grew the trees.

mod bits;
mod code;
mod quantize;
mod walk;

pub use quantize::{LeafBits, Quantization, Quantized};

use crate::ensemble::Ensemble;
use crate::model::{Contributions, Link, Model, ModelError, check_inputs};
use crate::trees::{Explainer, check_finite};
use code::Leaves;
use std::sync::OnceLock;
use vocabulary::inputs::{Inputs, Layout};
pub(crate) use walk::Forest;

/// Trees in the compact form.
pub struct CompactTreesModel {
    forest: Forest,
    link: Link,
    layout: Layout,
    bytes: Vec<u8>,
    /// Made when the first reason is asked for.
    explainer: OnceLock<Explainer>,
}

impl CompactTreesModel {
    pub const KIND: &'static str = "compact_trees";

    /// Keeps every threshold and leaf: the answers have the very bits of the ensemble's. Only the shares that reasons
    /// need are rounded, to 1/256.
    pub fn exact(ensemble: &Ensemble, link: Link, layout: &Layout) -> Result<Self, ModelError> {
        Self::from_bytes(&code::encode(ensemble, link, Leaves::Single)?, layout)
    }

    /// Rounds thresholds and leaves; the second says what that did to them.
    pub fn quantized(
        ensemble: &Ensemble,
        link: Link,
        layout: &Layout,
        how: Quantization,
    ) -> Result<(Self, Quantized), ModelError> {
        let (rounded, report) = quantize::rounded(ensemble, how);
        let leaves = match how.leaves {
            LeafBits::Sixteen => Leaves::Fixed(16),
            LeafBits::Eight => Leaves::Fixed(8),
        };
        Ok((Self::from_bytes(&code::encode(&rounded, link, leaves)?, layout)?, report))
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        let damaged = |what: &str| ModelError::Damaged { kind: Self::KIND, what: what.to_owned() };
        let (ensemble, link) = code::decode(bytes).map_err(damaged)?;
        let wrong = |what: String| Err(ModelError::Parts { kind: Self::KIND, what });
        if (ensemble.outputs() > 1) != (link == Link::Softmax) {
            return wrong(format!("{} outputs do not go with the link {link:?}", ensemble.outputs()));
        }
        if !layout.slots.is_empty() || ensemble.width() > layout.dense.len() {
            return wrong(format!(
                "the trees read {} columns, the layout has {} and {} slots",
                ensemble.width(),
                layout.dense.len(),
                layout.slots.len()
            ));
        }
        let forest = Forest::new(&ensemble).map_err(|what| ModelError::Parts { kind: Self::KIND, what })?;
        let (layout, bytes) = (layout.clone(), bytes.to_vec());
        Ok(CompactTreesModel { forest, link, layout, bytes, explainer: OnceLock::new() })
    }

    pub fn link(&self) -> Link {
        self.link
    }

    /// The trees as plain data, as they answer: after rounding.
    pub fn ensemble(&self) -> Result<Ensemble, ModelError> {
        let damaged = |what: &str| ModelError::Damaged { kind: Self::KIND, what: what.to_owned() };
        Ok(code::decode(&self.bytes).map_err(damaged)?.0)
    }

    fn sums(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        check_finite(Self::KIND, &self.layout, inputs)?;
        self.forest.sums(inputs, out);
        Ok(())
    }
}

impl Model for CompactTreesModel {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn outputs(&self) -> usize {
        self.forest.outputs()
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        self.sums(inputs, out)?;
        out.chunks_exact_mut(self.outputs()).for_each(|row| self.link.apply_row(row));
        Ok(())
    }

    /// As those of [`TreesModel`](crate::TreesModel), with the shares of rows that the compact form keeps.
    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        let mut sums = Vec::new();
        self.sums(inputs, &mut sums)?;
        let explainer = match self.explainer.get() {
            Some(explainer) => explainer,
            None => {
                let explainer = Explainer::new(&self.ensemble()?, self.layout.dense.len());
                self.explainer.get_or_init(|| explainer)
            }
        };
        Ok(explainer.contributions(inputs, &sums))
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests;
