//! The walk itself.

use super::slots::EVERY_CATEGORY;
use super::{Accumulate, BLOCK_ROWS, Forest, Kind, LANES, Leaves, Node, Real};

impl<F: Real, S: Real> Forest<F, S> {
    /// Gives the leaves of each row to `taker`, a row's in the order of the trees.
    pub fn walk(&self, rows: &[F], taker: &mut impl Accumulate<S>) {
        let features = self.features();
        let count = rows.len().checked_div(features).unwrap_or(0);
        let width = self.slots.width();
        let mut slots = vec![F::ZERO; width * count.min(BLOCK_ROWS)];
        for (block, rows) in rows.chunks((features * BLOCK_ROWS).max(1)).enumerate() {
            let count = rows.len() / features;
            for (row, slots) in rows.chunks_exact(features).zip(slots.chunks_exact_mut(width)) {
                self.slots.fill(row, slots);
            }
            self.block(&slots[..count * width], count, block * BLOCK_ROWS, taker);
        }
    }

    /// Full groups of rows go side by side through each tree; of the rest, each row goes side by side through groups of
    /// trees.
    fn block(&self, slots: &[F], count: usize, first: usize, taker: &mut impl Accumulate<S>) {
        let width = self.slots.width();
        let grouped = count - count % LANES;
        for tree in 0..self.roots.len() {
            for (group, rows) in slots[..grouped * width].chunks_exact(LANES * width).enumerate() {
                let lanes: [&[F]; LANES] = std::array::from_fn(|lane| &rows[lane * width..(lane + 1) * width]);
                let leaves = self.leaves([self.roots[tree]; LANES], lanes, self.plain[tree]);
                for (lane, leaf) in leaves.into_iter().enumerate() {
                    self.take(tree, leaf, first + group * LANES + lane, taker);
                }
            }
        }
        for row in grouped..count {
            self.row(&slots[row * width..(row + 1) * width], first + row, taker);
        }
    }

    fn row(&self, slots: &[F], row: usize, taker: &mut impl Accumulate<S>) {
        let last = self.roots.len().saturating_sub(1);
        for tree in (0..self.roots.len()).step_by(LANES) {
            // The last group walks its last tree several times.
            let trees: [usize; LANES] = std::array::from_fn(|lane| (tree + lane).min(last));
            let plain = trees.iter().all(|tree| self.plain[*tree]);
            let leaves = self.leaves(trees.map(|tree| self.roots[tree]), [slots; LANES], plain);
            for (lane, leaf) in leaves.into_iter().enumerate().take(self.roots.len() - tree) {
                self.take(tree + lane, leaf, row, taker);
            }
        }
    }

    #[inline(always)]
    fn take(&self, tree: usize, leaf: u32, row: usize, taker: &mut impl Accumulate<S>) {
        match &self.leaves {
            Leaves::Single => taker.add(row, self.tree_outputs[tree] as usize, self.values[leaf as usize]),
            Leaves::Several { starts, entries } => {
                let range = starts[leaf as usize] as usize..starts[leaf as usize + 1] as usize;
                for (output, value) in &entries[range] {
                    taker.add(row, *output as usize, *value);
                }
            }
        }
    }

    fn leaves(&self, at: [u32; LANES], rows: [&[F]; LANES], plain: bool) -> [u32; LANES] {
        if plain {
            self.side_by_side(at, rows, |node, row| row[node.slot as usize] <= node.threshold)
        } else {
            self.side_by_side(at, rows, |node, row| self.passes(node, row))
        }
    }

    /// Steps all lanes until none moves: each then stands on its leaf.
    #[inline(always)]
    fn side_by_side(
        &self,
        mut at: [u32; LANES],
        rows: [&[F]; LANES],
        passes: impl Fn(&Node<F>, &[F]) -> bool,
    ) -> [u32; LANES] {
        loop {
            let mut moved = 0;
            for lane in 0..LANES {
                let node = &self.nodes[at[lane] as usize];
                let next = node.child + u32::from(!passes(node, rows[lane]));
                moved |= next ^ at[lane];
                at[lane] = next;
            }
            if moved == 0 {
                return at;
            }
        }
    }

    fn passes(&self, node: &Node<F>, row: &[F]) -> bool {
        let value = row[(node.slot & Kind::SLOT) as usize];
        match node.slot >> Kind::SHIFT {
            0 => value <= node.threshold,
            1 => value == node.threshold,
            2 => value == node.threshold || value.is_nan(),
            _ => {
                let set = node.threshold.to_u32() as usize;
                let words = &self.set_words[self.set_starts[set] as usize..self.set_starts[set + 1] as usize];
                let code = value.to_u32();
                let known =
                    value >= F::ZERO && words.get(code as usize / 32).is_some_and(|w| w >> (code % 32) & 1 == 1);
                known || value == F::from_f64(EVERY_CATEGORY)
            }
        }
    }
}
