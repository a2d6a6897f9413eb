//! Randomness that depends on what it is for and nothing else: never on threads, arrival or earlier draws.

#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Split = 1,
    RowOrder = 2,
    /// Rows that a pipeline is fitted on, where not all fit into memory.
    Sample = 20,
    /// Validation rows that choose, where not all fit into memory.
    ValidationSample = 21,
    /// Test rows that judge, where there are too many.
    TestSample = 22,
    /// Points of a search: the step is the trial, the row the draw.
    Proposal = 30,
    /// Rows that a search measures a point on.
    Rung = 31,
    /// Which row's value a column gets when its importance is measured.
    SelectColumn = 40,
    /// Which row's target a row gets in a version that stands for chance.
    SelectTarget = 41,
    /// First weights of a network's layers.
    NetworkWeights = 3,
    Dropout = 4,
    /// Of a network's periodic encodings.
    Frequencies = 5,
    /// Of embeddings that are kept in half the bits.
    Rounding = 6,
    /// Weights that a growing network gets.
    Growth = 7,
}

/// 64 bits for (seed, purpose, step, row): the finaliser of SplitMix64 (Steele et al., OOPSLA 2014) over each in turn.
pub(crate) fn bits(seed: u64, purpose: Purpose, step: u64, row: u64) -> u64 {
    let mixed = [purpose as u64, step, row];
    mixed.into_iter().fold(mix(seed), |state, part| mix(state ^ mix(part)))
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
