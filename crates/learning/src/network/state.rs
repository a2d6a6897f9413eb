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
        let noise = [learner.noise.signal, learner.noise.variance, learner.noise.steps];
        let numbers = numbers.iter().chain(&noise).chain(&self.best.scores);
        numbers.for_each(|number| bytes.extend(number.to_le_bytes()));
        let mut all = |values: &[f32]| values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        [&learner.weights, &learner.adam.first, &learner.adam.second].into_iter().for_each(|values| all(values));
        for table in &learner.tables {
            all(&table.weights.to_f32());
            all(&table.sums);
        }
        bytes
    }

    /// Takes a kept state over; none, and nothing changed, where the bytes are not one of a fit like this.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let mut from = Reader(bytes.strip_prefix(MAGIC)?);
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = u32::from_le_bytes(from.take()?);
        }
        let mut numbers = [0.0; 6];
        for number in &mut numbers {
            *number = f64::from_le_bytes(from.take()?);
        }
        let scores = from.values::<8>(counts[3] as usize)?;
        let scores = scores.iter().map(|score| f64::from_le_bytes(*score)).collect();
        let learner = &mut self.learner;
        let tables = learner.tables.iter().map(|table| table.weights.len() + table.sums.len());
        if from.0.len() != 4 * (3 * learner.weights.len() + tables.sum::<usize>()) {
            return None;
        }
        for values in [&mut learner.weights, &mut learner.adam.first, &mut learner.adam.second] {
            from.fill(values)?;
        }
        for table in &mut learner.tables {
            let kept = from.values::<4>(table.weights.len())?.iter().enumerate();
            kept.for_each(|(at, value)| table.weights.restore(at, f32::from_le_bytes(*value)));
            from.fill(&mut table.sums)?;
        }
        (self.epoch, self.step) = (counts[0], counts[1] as usize);
        (self.best.rounds, self.best.scores) = (counts[2], scores);
        (self.least, learner.adam.powers) = (numbers[0], [numbers[1], numbers[2]]);
        learner.noise = Noise { signal: numbers[3], variance: numbers[4], steps: numbers[5] };
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

    fn fill(&mut self, values: &mut [f32]) -> Option<()> {
        let kept = self.values::<4>(values.len())?;
        values.iter_mut().zip(kept).for_each(|(value, kept)| *value = f32::from_le_bytes(*kept));
        Some(())
    }
}
