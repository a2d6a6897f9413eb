//! Randomness that depends on what it is for and nothing else: never on threads, arrival or earlier draws.

#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Split = 1,
    RowOrder = 2,
    /// First weights of a network's layers.
    NetworkWeights = 3,
    Dropout = 4,
    /// Of a network's periodic encodings.
    Frequencies = 5,
    /// Of embeddings that are kept in half the bits.
    Rounding = 6,
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
