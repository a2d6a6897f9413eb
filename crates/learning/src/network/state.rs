//! A fit's state at a step boundary as bytes, so that one that was cut off goes on there. Knows no files.

use super::Run;
use super::noise::Noise;

const MAGIC: &[u8; 8] = b"HSNETST1";

impl Run<'_> {
    /// Everything that later steps depend on, in a fixed order, little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let learner = &self.learner;
        let mut bytes = MAGIC.to_vec();
        for count in [self.epoch, self.step as u32, self.best.rounds, self.best.scores.len() as u32] {
            bytes.extend(count.to_le_bytes());
        }
        let numbers = [self.least, learner.adam.powers[0], learner.adam.powers[1]];
        let noises = [learner.noise, self.noise].map(|noise| [noise.signal, noise.variance, noise.steps]);
        let numbers = numbers.iter().chain(noises.as_flattened()).chain(&self.best.scores);
        numbers.for_each(|number| bytes.extend(number.to_le_bytes()));
        let layers = [&learner.weights, &learner.adam.first, &learner.adam.second];
        let tables = learner.tables.iter().flat_map(|table| [&table.weights, &table.sums]);
        layers.into_iter().chain(tables).flatten().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes
    }

    /// Takes a kept state over; false, and nothing changed, where the bytes are not one of a fit like this.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let mut from = Reader(bytes.strip_prefix(MAGIC)?);
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = u32::from_le_bytes(from.take()?);
        }
        let mut numbers = [0.0; 9];
        for number in &mut numbers {
            *number = f64::from_le_bytes(from.take()?);
        }
        let scores = from.values::<8>(counts[3] as usize)?;
        let scores = scores.iter().map(|score| f64::from_le_bytes(*score)).collect();
        let learner = &mut self.learner;
        let own = [&mut learner.weights, &mut learner.adam.first, &mut learner.adam.second];
        let tables = learner.tables.iter_mut().flat_map(|table| [&mut table.weights, &mut table.sums]);
        let own: Vec<&mut Vec<f32>> = own.into_iter().chain(tables).collect();
        if from.0.len() != 4 * own.iter().map(|values| values.len()).sum::<usize>() {
            return None;
        }
        for values in own {
            let kept = from.values::<4>(values.len())?;
            values.iter_mut().zip(kept).for_each(|(value, kept)| *value = f32::from_le_bytes(*kept));
        }
        let noise = |at: usize| Noise { signal: numbers[at], variance: numbers[at + 1], steps: numbers[at + 2] };
        (self.epoch, self.step) = (counts[0], counts[1] as usize);
        (self.best.rounds, self.best.scores) = (counts[2], scores);
        (self.least, learner.adam.powers) = (numbers[0], [numbers[1], numbers[2]]);
        (learner.noise, self.noise) = (noise(3), noise(6));
        Some(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn values<const N: usize>(&mut self, count: usize) -> Option<&'a [[u8; N]]> {
        let (taken, rest) = self.0.split_at_checked(count.checked_mul(N)?)?;
        self.0 = rest;
        Some(taken.as_chunks::<N>().0)
    }
}
