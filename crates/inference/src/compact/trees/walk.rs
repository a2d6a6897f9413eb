//! The walk of compact trees: nodes of eight bytes, brothers side by side, sixteen rows or sixteen trees of one row
//! stepped together without branches. Leaves are added in single precision in the order of the trees, whatever the batch.

#![expect(unsafe_code, reason = "a step is five instructions; places are checked once, when the forest is made")]

use crate::ensemble::{Ensemble, Node as Plain, Split, Test, Tree};
use std::collections::HashMap;
use vocabulary::inputs::Inputs;

/// Rows, or trees of one row, that are stepped together, so that the loads of one wait while another steps.
const LANES: usize = 16;

/// Rows whose slots are kept at once while all trees pass over them: 64 rows of 60 slots are 15 KB.
const BLOCK_ROWS: usize = 64;

/// A row that passes a split goes to the node before `other`, one that fails to `other`. Every row fails at a leaf, whose
/// slot 0 holds the largest number and whose `other` is itself.
#[derive(Clone, Copy)]
#[repr(C)]
struct Node {
    /// The threshold's [`key`], a mask of categories, the place of a large set, or a leaf's value.
    word: u32,
    /// A multiple of [`LANES`], so that the lower bits are free for [`MEMBER`] and [`LARGE`].
    slot: u16,
    /// Within the tree.
    other: u16,
}

/// The word is a mask of the categories 0 to 31.
const MEMBER: u16 = 1;
/// The word is the place of a set of categories.
const LARGE: u16 = 2;
const SLOTS_MAX: usize = u16::MAX as usize / LANES;

/// What a missing value is where it goes left, and where it goes right: below and above every threshold.
const LEFT: u32 = 0;
const RIGHT: u32 = u32::MAX;

/// In the slots that masks are asked for: a missing value that goes left, and what no mask holds.
const MASK_LEFT: u32 = 32;
const MASK_RIGHT: u32 = 63;

/// In the slots that large sets are asked for, a missing value that goes left.
const SET_LEFT: u32 = u32::MAX - 1;

/// What a tree's splits ask for: the walk of the higher kinds costs more.
const PLAIN: u8 = 0;
const MASKS: u8 = 1;
const SETS: u8 = 2;

/// One form of a column in a row's slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    feature: u32,
    /// [`PLAIN`], [`MASKS`] or [`SETS`]: who reads it.
    kind: u8,
    missing_left: bool,
}

impl Slot {
    fn form(self, value: f32) -> u32 {
        match (self.kind, self.missing_left) {
            (PLAIN, left) if value.is_nan() => {
                if left {
                    LEFT
                } else {
                    RIGHT
                }
            }
            (PLAIN, _) => key(value),
            (MASKS, left) if value.is_nan() => {
                if left {
                    MASK_LEFT
                } else {
                    MASK_RIGHT
                }
            }
            // As in learning: towards zero, and below zero is 0.
            (MASKS, _) => {
                if value < 32.0 {
                    value as u32
                } else {
                    MASK_RIGHT
                }
            }
            (_, left) if value.is_nan() => {
                if left {
                    SET_LEFT
                } else {
                    RIGHT
                }
            }
            (_, _) => (value as u32).min(SET_LEFT - 1),
        }
    }
}

/// A number that is ordered as the floating-point numbers are, finite ones between [`LEFT`] and [`RIGHT`].
fn key(value: f32) -> u32 {
    // Minus zero becomes zero.
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

struct Shape {
    first: u32,
    depth: u32,
    output: u32,
    kind: u8,
}

pub(crate) struct Forest {
    base: Box<[f32]>,
    nodes: Box<[Node]>,
    trees: Box<[Shape]>,
    /// Places of the trees, those of like kind and depth beside each other.
    order: Box<[u32]>,
    /// For slots 1 and up.
    slots: Box<[Slot]>,
    /// Categories, ascending: lists, since the largest code may be a million times as large as the set.
    sets: Box<[Box<[u32]>]>,
}

impl Forest {
    pub(crate) fn new(ensemble: &Ensemble) -> Result<Forest, String> {
        let mut making = Making::default();
        for tree in &ensemble.trees {
            making.tree(tree)?;
        }
        let Making { nodes, trees, slots, sets, .. } = making;
        let mut order: Vec<u32> = (0..trees.len() as u32).collect();
        order.sort_by_key(|tree| (trees[*tree as usize].kind, trees[*tree as usize].depth));
        Ok(Forest {
            base: ensemble.base.clone().into(),
            nodes: nodes.into(),
            trees: trees.into(),
            order: order.into(),
            slots: slots.into(),
            sets: sets.into(),
        })
    }

    pub(crate) fn outputs(&self) -> usize {
        self.base.len()
    }

    /// Replaces `out` by the sums of each row.
    pub(crate) fn sums(&self, inputs: &Inputs, out: &mut Vec<f64>) {
        let (outputs, width) = (self.outputs(), self.slots.len() + 1);
        out.clear();
        out.reserve(inputs.rows * outputs);
        let grouped = inputs.rows - inputs.rows % LANES;
        let mut sums: Vec<f32> = Vec::with_capacity(inputs.rows.min(BLOCK_ROWS) * outputs);
        // Slot by slot, the rows of a group side by side.
        let mut groups = vec![RIGHT; grouped.min(BLOCK_ROWS) * width];
        for first in (0..grouped).step_by(BLOCK_ROWS) {
            let count = (grouped - first).min(BLOCK_ROWS);
            for (row, place) in (first..first + count).zip(0..) {
                let group = &mut groups[place / LANES * LANES * width..];
                self.fill(inputs.dense_row(row), &mut group[place % LANES..], LANES);
            }
            sums.clear();
            (0..count).for_each(|_| sums.extend(&self.base));
            self.groups(&groups[..count * width], width, &mut sums);
            out.extend(sums.iter().map(|sum| f64::from(*sum)));
        }
        if grouped < inputs.rows {
            let mut slots = vec![RIGHT; width];
            let mut leaves = vec![0.0; self.trees.len()];
            for row in grouped..inputs.rows {
                self.fill(inputs.dense_row(row), &mut slots, 1);
                sums.clear();
                sums.extend(&self.base);
                self.single(&slots, &mut leaves, &mut sums);
                out.extend(sums.iter().map(|sum| f64::from(*sum)));
            }
        }
    }

    /// What the nodes compare with; slot 0 stays as it is.
    fn fill(&self, row: &[f32], slots: &mut [u32], stride: usize) {
        for (slot, out) in self.slots.iter().zip(slots.iter_mut().step_by(stride).skip(1)) {
            *out = slot.form(row[slot.feature as usize]);
        }
    }

    /// Groups of rows, tree by tree.
    fn groups(&self, slots: &[u32], width: usize, sums: &mut [f32]) {
        let outputs = self.outputs();
        for tree in &self.trees {
            let output = tree.output as usize;
            let groups = slots.chunks_exact(LANES * width).zip(sums.chunks_exact_mut(LANES * outputs));
            for (slots, sums) in groups {
                let values = match tree.kind {
                    PLAIN => self.group::<PLAIN>(tree, slots),
                    MASKS => self.group::<MASKS>(tree, slots),
                    _ => self.group::<SETS>(tree, slots),
                };
                for (lane, value) in values.into_iter().enumerate() {
                    sums[lane * outputs + output] += value;
                }
            }
        }
    }

    /// One row, group by group of the trees.
    fn single(&self, slots: &[u32], leaves: &mut [f32], sums: &mut [f32]) {
        for group in self.order.chunks(LANES) {
            // The last group walks its last tree several times. The order is by kind and then by depth, so that a
            // group's kind is that of its last.
            let trees: [u32; LANES] = std::array::from_fn(|lane| group[lane.min(group.len() - 1)]);
            let shapes = trees.map(|tree| &self.trees[tree as usize]);
            let values = match shapes[LANES - 1].kind {
                PLAIN => self.row::<PLAIN>(shapes, slots),
                MASKS => self.row::<MASKS>(shapes, slots),
                _ => self.row::<SETS>(shapes, slots),
            };
            for (tree, value) in trees.into_iter().zip(values) {
                leaves[tree as usize] = value;
            }
        }
        for (tree, value) in self.trees.iter().zip(leaves) {
            sums[tree.output as usize] += *value;
        }
    }

    /// The leaves of a group of rows in one tree: all step as often as the deepest leaf needs, and one that stands on a
    /// leaf stays there.
    fn group<const KIND: u8>(&self, tree: &Shape, slots: &[u32]) -> [f32; LANES] {
        let nodes = &self.nodes[tree.first as usize..];
        let mut at = [0u32; LANES];
        for _ in 0..tree.depth {
            for (lane, at) in at.iter_mut().enumerate() {
                // SAFETY: a walk begins at the root, and `Making::tree` leads from each node to others of its tree.
                let node = unsafe { *nodes.get_unchecked(*at as usize) };
                // SAFETY: a group has `LANES` words for each of `slots.len() + 1` slots, and `Making::slot` gives out no
                // higher place.
                let value = unsafe { *slots.get_unchecked((node.slot & Self::places(KIND)) as usize + lane) };
                *at = u32::from(node.other) - u32::from(self.passes::<KIND>(node, value));
            }
        }
        at.map(|place| f32::from_bits(nodes[place as usize].word))
    }

    /// The leaves of one row in a group of trees.
    fn row<const KIND: u8>(&self, trees: [&Shape; LANES], slots: &[u32]) -> [f32; LANES] {
        let first = trees.map(|tree| tree.first);
        let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
        let mut at = first;
        for _ in 0..depth {
            for (at, first) in at.iter_mut().zip(first) {
                // SAFETY: as in `group`.
                let node = unsafe { *self.nodes.get_unchecked(*at as usize) };
                // SAFETY: a row has a word for each of `slots.len() + 1` slots.
                let value = unsafe { *slots.get_unchecked(node.slot as usize / LANES) };
                *at = first + u32::from(node.other) - u32::from(self.passes::<KIND>(node, value));
            }
        }
        at.map(|place| f32::from_bits(self.nodes[place as usize].word))
    }

    const fn places(kind: u8) -> u16 {
        if kind == PLAIN { u16::MAX } else { !(LANES as u16 - 1) }
    }

    #[inline(always)]
    fn passes<const KIND: u8>(&self, node: Node, value: u32) -> bool {
        let below = value < node.word;
        if KIND == PLAIN {
            return below;
        }
        let mask = u64::from(node.word) | 1 << MASK_LEFT;
        let member = mask >> (value & 63) & 1 == 1;
        if KIND == SETS && node.slot & LARGE != 0 {
            return value == SET_LEFT || self.sets[node.word as usize].binary_search(&value).is_ok();
        }
        // Without a branch: both were computed.
        let by_mask = node.slot & MEMBER != 0;
        (by_mask & member) | (!by_mask & below)
    }
}

/// A forest in the making.
#[derive(Default)]
struct Making {
    nodes: Vec<Node>,
    trees: Vec<Shape>,
    slots: Vec<Slot>,
    places: HashMap<Slot, usize>,
    sets: Vec<Box<[u32]>>,
}

impl Making {
    /// Adds a tree, level by level.
    fn tree(&mut self, tree: &Tree) -> Result<(), String> {
        if tree.nodes.len() > usize::from(u16::MAX) {
            return Err(format!("a tree has {} nodes; {} fit the compact form", tree.nodes.len(), u16::MAX));
        }
        let first = self.nodes.len() as u32;
        let mut kind = PLAIN;
        let mut level = vec![0usize];
        let (mut done, mut depth) = (0usize, 0);
        loop {
            let mut next = Vec::new();
            for place in &level {
                let child = done + level.len() + next.len();
                let here = self.nodes.len() - first as usize;
                match &tree.nodes[*place] {
                    Plain::Leaf(value) => {
                        self.nodes.push(Node { word: value.to_bits(), slot: 0, other: here as u16 });
                    }
                    Plain::Split(split) => {
                        let (word, slot, of_split) = self.split(split)?;
                        kind = kind.max(of_split);
                        self.nodes.push(Node { word, slot, other: child as u16 + 1 });
                        next.extend([place + 1, split.right as usize]);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            done += level.len();
            depth += 1;
            level = next;
        }
        self.trees.push(Shape { first, depth, output: tree.output as u32, kind });
        Ok(())
    }

    /// Word, slot with its lower bits, and the kind that the split asks for.
    fn split(&mut self, split: &Split) -> Result<(u32, u16, u8), String> {
        match &split.test {
            Test::Below(threshold) => Ok((key(*threshold), self.slot(split, PLAIN)?, PLAIN)),
            Test::Member(categories) if categories.last().is_none_or(|last| *last < 32) => {
                let mask = categories.iter().fold(0, |mask, category| mask | 1 << category);
                Ok((mask, self.slot(split, MASKS)? | MEMBER, MASKS))
            }
            Test::Member(categories) => {
                self.sets.push(categories.as_slice().into());
                Ok(((self.sets.len() - 1) as u32, self.slot(split, SETS)? | LARGE, SETS))
            }
        }
    }

    /// The place of the form in which the split reads its column, times [`LANES`].
    fn slot(&mut self, split: &Split, kind: u8) -> Result<u16, String> {
        let slot = Slot { feature: split.feature, kind, missing_left: split.missing_left };
        let next = self.slots.len() + 1;
        let place = *self.places.entry(slot).or_insert(next);
        if place > SLOTS_MAX {
            return Err(format!("the trees read more than {SLOTS_MAX} columns and forms of columns"));
        }
        if place == next {
            self.slots.push(slot);
        }
        Ok((place * LANES) as u16)
    }
}
