//! The hash behind slots: seeded, type-safe, and the same on every machine.
//!
//! It is MurmurHash3's 64-bit mixing (Austin Appleby, public domain) on one lane, over a sequence of 64-bit words.
//! What is hashed is an injective encoding: purpose, number of columns and their length-prefixed names first, then for
//! each value a word with its type and length, then its bytes. So `1` and `"1"`, null and `""`, and the crosses
//! (`"ab"`, `"c"`) and (`"a"`, `"bc"`) are different inputs; only the 64-bit hash itself, and then the table's size,
//! can make two of them meet. (Vowpal Wabbit passes numeric names through unhashed, from which collisions can be
//! constructed: its issues 982, 3834 and 4915.)

/// What a slot column stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Category = 1,
    Bin = 2,
    Part = 3,
    /// A value that a vocabulary does not hold.
    Unknown = 4,
    /// The signs of a random projection.
    Projection = 5,
    /// A run of words or characters of a text.
    Gram = 6,
    /// An item of a list.
    Item = 7,
    /// Values told apart in a window.
    Distinct = 8,
}

/// A value that can be a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Atom<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Text(&'a str),
}

/// A hash under way; copying it keeps a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotHash(u64);

impl SlotHash {
    /// The prefix of all values of one slot column.
    pub(crate) fn prefix(seed: u64, purpose: Purpose, names: &[&str]) -> SlotHash {
        let start = SlotHash(finish(seed)).word(purpose as u64).word(names.len() as u64);
        names.iter().fold(start, |hash, name| hash.with(Atom::Text(name)))
    }

    #[inline]
    pub(crate) fn with(self, atom: Atom<'_>) -> SlotHash {
        match atom {
            Atom::Null => self.word(0),
            Atom::Bool(value) => self.word(1).word(u64::from(value)),
            Atom::Int(value) => self.word(2).word(value as u64),
            Atom::Text(text) => self.bytes(text.as_bytes()),
        }
    }

    #[inline]
    pub(crate) fn bytes(self, bytes: &[u8]) -> SlotHash {
        let mut hash = self.word(3 | (bytes.len() as u64) << 8);
        let mut words = bytes.chunks_exact(8);
        for chunk in &mut words {
            hash = hash.word(u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            hash = hash.word(u64::from_le_bytes(last));
        }
        hash
    }

    #[inline]
    fn word(self, word: u64) -> SlotHash {
        let k = word.wrapping_mul(0x87c3_7b91_1142_53d5).rotate_left(31).wrapping_mul(0x4cf5_ad43_2745_937f);
        SlotHash((self.0 ^ k).rotate_left(27).wrapping_mul(5).wrapping_add(0x52dc_e729))
    }

    /// All 64 bits.
    #[inline]
    pub(crate) fn finish(self) -> u64 {
        finish(self.0)
    }

    /// The place in a table of `1 << bits`.
    #[inline]
    pub(crate) fn slot(self, bits: u8) -> u32 {
        slot(self.finish(), bits)
    }
}

/// The place of a finished hash in a table of `1 << bits`: its upper bits.
#[inline]
pub(crate) fn slot(hash: u64, bits: u8) -> u32 {
    (hash >> (64 - u32::from(bits))) as u32
}

/// The place of a finished hash among `count`, each as likely (Lemire, "Fast random integer generation in an interval",
/// 2019, without the rejection: the bias is below `count` in 2^64).
#[inline]
pub(crate) fn among(hash: u64, count: u32) -> u32 {
    ((u128::from(hash) * u128::from(count)) >> 64) as u32
}

/// The hasher of maps that are looked into for every row: their keys come from a pipeline, so that nobody who sends rows
/// can make them collide, and SipHash would only cost time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quick;

impl std::hash::BuildHasher for Quick {
    type Hasher = QuickHasher;

    fn build_hasher(&self) -> QuickHasher {
        QuickHasher(SlotHash(0))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct QuickHasher(SlotHash);

impl std::hash::Hasher for QuickHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.bytes(bytes);
    }

    /// The mark that ends a text; its length is hashed already.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// MurmurHash3's finaliser, a bijection.
pub(crate) fn finish(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn different_types_shapes_and_columns_are_different_inputs() {
        let column = |names: &[&str]| SlotHash::prefix(7, Purpose::Category, names);
        let hashes = [
            column(&["a"]).with(Atom::Null),
            column(&["a"]).with(Atom::Text("")),
            column(&["a"]).with(Atom::Text("\0")),
            column(&["a"]).with(Atom::Int(0)),
            column(&["a"]).with(Atom::Int(1)),
            column(&["a"]).with(Atom::Bool(false)),
            column(&["a"]).with(Atom::Bool(true)),
            column(&["a"]).with(Atom::Text("1")),
            column(&["b"]).with(Atom::Text("1")),
            column(&["a*b"]).with(Atom::Text("1")),
            column(&["a", "b"]).with(Atom::Text("ab")).with(Atom::Text("c")),
            column(&["a", "b"]).with(Atom::Text("a")).with(Atom::Text("bc")),
            SlotHash::prefix(7, Purpose::Bin, &["a"]).with(Atom::Int(0)),
            SlotHash::prefix(8, Purpose::Category, &["a"]).with(Atom::Null),
        ];
        let distinct: HashSet<u64> = hashes.iter().map(|hash| hash.finish()).collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    /// The values of one release: weights learned under them must find their slots in the next.
    #[test]
    fn the_hash_never_changes() {
        let hash = |atom| SlotHash::prefix(42, Purpose::Category, &["carrier"]).with(atom).finish();
        let seen = [hash(Atom::Null), hash(Atom::Int(-1)), hash(Atom::Text("UA")), hash(Atom::Text("a longer name"))];
        assert_eq!(seen, FROZEN);
    }

    const FROZEN: [u64; 4] = [15710029809559333357, 5209082130323141854, 5403614875071087891, 322224941085895347];

    #[test]
    fn slots_fill_a_table_evenly() {
        let prefix = SlotHash::prefix(1, Purpose::Category, &["n"]);
        let mut counts = [0u32; 256];
        for value in 0..256_000 {
            counts[prefix.with(Atom::Int(value)).slot(8) as usize] += 1;
        }
        // A thousand expected in each, with a standard deviation of 32: six of them are allowed.
        assert!(counts.iter().all(|count| (808..=1192).contains(count)), "{counts:?}");
    }
}
