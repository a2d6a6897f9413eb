//! What the targets share: importing and asking a model that damaged bytes may have made, and a data plane with small
//! models.

pub mod models;
pub mod plane;

/// The first `N` bytes, which steer a target, and the rest, which it is about.
pub fn steered<const N: usize>(data: &[u8]) -> Option<([u8; N], &[u8])> {
    data.split_first_chunk::<N>().map(|(first, rest)| (*first, rest))
}
