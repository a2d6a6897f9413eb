//! The kernel of imported trees: flat arrays, walked for many rows or many trees at once. A row's leaves are summed in
//! the order of the trees, one after the other, so that its answer has the same bits in any batch. Knows no file format.

mod build;
mod oblivious;
mod real;
mod slots;
mod walk;

pub use build::{BuildError, Builder, Codes, Described, Missing, Test};
pub use oblivious::{NanAs, Oblivious, ObliviousTree};
pub use real::Real;

use slots::Slots;

/// What LightGBM takes for zero where zero means missing: its `kZeroThreshold`, 1e-35 in single precision.
pub const ZERO_THRESHOLD: f64 = 1.000_000_001_800_250_9e-35;

/// More nodes than this do not fit the 32-bit places of a node's children.
pub const NODES_MAX: usize = 1 << 30;

/// Rows whose slots are kept at once while all trees pass over them: 64 rows of 30 slots in double precision are 15 KB,
/// half of a first-level cache.
const BLOCK_ROWS: usize = 64;

/// Rows, or trees of one row, that are walked side by side, so that the loads of one wait while another steps. Of 4, 8
/// and 16 lanes, 16 were fastest: 10, 7 and 7 µs for one row of 500 trees of 63 leaves, 1.8, 1.2 and 1.1 ms for 256.
const LANES: usize = 16;

/// A place to which the walk goes: from `child` if the slot is at most the threshold, else from the next one.
#[derive(Clone, Copy, Debug)]
struct Node<F> {
    threshold: F,
    /// Its upper two bits are the [`Kind`].
    slot: u32,
    /// The first of two brothers; a leaf names itself.
    child: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    AtMost = 0,
    Equal = 1,
    EqualOrNan = 2,
    Member = 3,
}

impl Kind {
    const SHIFT: u32 = 30;
    const SLOT: u32 = (1 << Kind::SHIFT) - 1;
}

/// What leaves add to.
#[derive(Clone, Debug)]
enum Leaves<S> {
    /// Each to its tree's output.
    Single,
    /// For node `i`, the entries `starts[i]..starts[i + 1]`.
    Several { starts: Box<[u32]>, entries: Box<[(u32, S)]> },
}

/// Takes what the leaves of the rows give, tree by tree for each row.
pub trait Accumulate<S> {
    fn add(&mut self, row: usize, output: usize, value: S);
}

/// An ensemble that compares numbers of type `F` and sums numbers of type `S`.
#[derive(Clone, Debug)]
pub struct Forest<F, S> {
    outputs: usize,
    nodes: Box<[Node<F>]>,
    /// A leaf's value at the leaf's place.
    values: Box<[S]>,
    leaves: Leaves<S>,
    roots: Box<[u32]>,
    tree_outputs: Box<[u32]>,
    /// Of each tree, whether all its nodes compare numbers.
    plain: Box<[bool]>,
    /// The words of set `i` are `set_words[set_starts[i]..set_starts[i + 1]]`.
    set_starts: Box<[u32]>,
    set_words: Box<[u32]>,
    slots: Slots<F>,
}

impl<F: Real, S: Real> Forest<F, S> {
    pub fn features(&self) -> usize {
        self.slots.features()
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    pub fn bytes(&self) -> usize {
        let several = match &self.leaves {
            Leaves::Single => 0,
            Leaves::Several { starts, entries } => starts.len() * 4 + entries.len() * size_of::<(u32, S)>(),
        };
        self.nodes.len() * (size_of::<Node<F>>() + size_of::<S>())
            + several
            + self.roots.len() * 9
            + self.set_words.len() * 4
            + self.slots.bytes()
    }

    /// Adds the leaves of each row to `sums`, which has `outputs` numbers a row.
    pub fn add_to(&self, rows: &[F], sums: &mut [S]) {
        self.walk(rows, &mut Sums { sums, outputs: self.outputs });
    }

    /// Replaces each number of a row by one number for all that the trees cannot tell from it.
    pub fn canonical(&self, row: &mut [F]) {
        self.slots.canonical(row);
    }
}

struct Sums<'a, S> {
    sums: &'a mut [S],
    outputs: usize,
}

impl<S: Real> Accumulate<S> for Sums<'_, S> {
    fn add(&mut self, row: usize, output: usize, value: S) {
        self.sums[row * self.outputs + output] += value;
    }
}

#[cfg(test)]
mod tests;
