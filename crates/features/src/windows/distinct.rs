//! How many different values: exact while they are few, then HyperLogLog (Flajolet et al., 2007) read with Ertl's
//! estimator ("New cardinality estimation algorithms for HyperLogLog sketches", arXiv 1702.01284, algorithm 6), which
//! needs no table of corrections. Which of the two it is depends on the set of values alone, never on their order.

use super::event::Value;
use crate::hash::{Atom, Purpose, SlotHash};

/// Different values counted exactly: 8 KB of hashes. (Two of 1024 values share a 64-bit hash in one of 10^13 windows.)
pub(super) const EXACT_MAX: usize = 1024;
/// Registers are two to the power of this: 4 KB, and a standard error of 1.04 / 64.
const PRECISION: u32 = 12;
pub(super) const REGISTERS: usize = 1 << PRECISION;
/// Greatest register: the bits that are left, and one.
pub(super) const RANK_MAX: u8 = 64 - PRECISION as u8 + 1;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Distinct {
    /// Ascending hashes.
    Few(Vec<u64>),
    Many(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct::Few(Vec::new())
    }
}

/// The hash that stands for a value; none for null.
fn hash(value: &Value) -> Option<u64> {
    let prefix = SlotHash::prefix(0, Purpose::Distinct, &[]);
    match value {
        Value::Null => None,
        Value::Number(number) => Some(prefix.with(Atom::Int(number.to_bits() as i64)).finish()),
        Value::Text(text) => Some(prefix.with(Atom::Text(text)).finish()),
    }
}

fn note(registers: &mut [u8; REGISTERS], hash: u64) {
    let place = (hash >> (64 - PRECISION)) as usize;
    let rank = ((hash << PRECISION).leading_zeros() as u8 + 1).min(RANK_MAX);
    registers[place] = registers[place].max(rank);
}

impl Distinct {
    pub(super) fn add(&mut self, value: &Value) {
        let Some(hash) = hash(value) else { return };
        match self {
            Distinct::Many(registers) => note(registers, hash),
            Distinct::Few(hashes) => {
                if let Err(place) = hashes.binary_search(&hash) {
                    hashes.insert(place, hash);
                    self.settle();
                }
            }
        }
    }

    /// Goes over to registers where there are too many values to keep.
    fn settle(&mut self) {
        if matches!(self, Distinct::Few(hashes) if hashes.len() > EXACT_MAX) {
            self.many();
        }
    }

    fn many(&mut self) -> &mut [u8; REGISTERS] {
        if let Distinct::Few(hashes) = self {
            let mut registers = Box::new([0; REGISTERS]);
            hashes.iter().for_each(|hash| note(&mut registers, *hash));
            *self = Distinct::Many(registers);
        }
        match self {
            Distinct::Many(registers) => registers,
            Distinct::Few(_) => unreachable!("it went over just now"),
        }
    }
}

/// The number of different values in all parts together, a whole number.
pub(super) fn count<'a>(parts: impl Iterator<Item = &'a Distinct> + Clone) -> f64 {
    few(parts.clone()).map_or_else(|| many(parts), |count| count as f64)
}

/// None where there are more than are told apart one by one.
fn few<'a>(parts: impl Iterator<Item = &'a Distinct>) -> Option<usize> {
    // Open addressing; at most a quarter is taken. Zero is an empty place, and its own hash is counted apart.
    let mut table = [0u64; 4 * EXACT_MAX];
    let (mut count, mut zero) = (0, false);
    for part in parts {
        let Distinct::Few(hashes) = part else { return None };
        for hash in hashes {
            let mut place = *hash as usize % table.len();
            while table[place] != 0 && table[place] != *hash {
                place = (place + 1) % table.len();
            }
            let new = if *hash == 0 { !std::mem::replace(&mut zero, true) } else { table[place] == 0 };
            count += usize::from(new);
            if count > EXACT_MAX {
                return None;
            }
            table[place] = *hash;
        }
    }
    Some(count)
}

fn many<'a>(parts: impl Iterator<Item = &'a Distinct>) -> f64 {
    let mut registers = [0; REGISTERS];
    for part in parts {
        match part {
            Distinct::Few(hashes) => hashes.iter().for_each(|hash| note(&mut registers, *hash)),
            Distinct::Many(theirs) => {
                registers.iter_mut().zip(theirs.iter()).for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
            }
        }
    }
    estimate(&registers).round()
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut counts = [0u32; RANK_MAX as usize + 1];
    registers.iter().for_each(|rank| counts[usize::from(*rank)] += 1);
    let m = REGISTERS as f64;
    let share = |rank: usize| f64::from(counts[rank]) / m;
    let mut z = m * tau(1.0 - share(usize::from(RANK_MAX)));
    for rank in (1..usize::from(RANK_MAX)).rev() {
        z = 0.5 * (z + f64::from(counts[rank]));
    }
    z += m * sigma(share(0));
    // 1 / (2 ln 2)
    0.721_347_520_444_481_7 * m * m / z
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl Iterator<Item = u32>) -> Distinct {
        let mut distinct = Distinct::default();
        values.for_each(|value| distinct.add(&Value::Number(f64::from(value))));
        distinct
    }

    #[test]
    fn few_are_exact_and_many_are_near() {
        assert_eq!(count([of((0..5000).map(|i| i % 1024))].iter()), 1024.0);
        assert_eq!(count([].iter()), 0.0);
        for n in [1025, 3000, 20_000, 300_000] {
            let count = count([of(0..n)].iter());
            assert!((count / f64::from(n) - 1.0).abs() < 0.06, "{n}: {count}");
        }
        let zero = Distinct::Few(vec![0, 1, 4096]);
        assert_eq!(count([&zero, &zero].into_iter()), 3.0);
    }

    #[test]
    fn order_and_cuts_change_nothing() {
        for n in [10, 1500, 5000] {
            let whole = of(0..n);
            assert_eq!(of((0..n).rev().chain(0..n / 2)), whole);
            let parts: Vec<Distinct> = (0..7).map(|part| of((0..n).filter(|i| i % 7 == part || i % 3 == 0))).collect();
            assert_eq!(count(parts.iter()), count([whole].iter()));
        }
    }
}
