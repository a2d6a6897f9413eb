//! What a batch of so many rows costs a model: measured when the model is loaded, kept up to date by each batch.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Sizes 1, 2, 4, … 2^15.
const SIZES: usize = 16;

/// Weight of a new measurement: about the last eight batches of a size count.
const SMOOTHING: f32 = 0.125;

/// Microseconds by batch size, in powers of two; between them on a straight line. Zero is unknown.
#[derive(Default)]
pub struct CostTable {
    us: [AtomicU32; SIZES],
}

fn at(rows: usize) -> usize {
    (usize::BITS - 1 - rows.max(1).leading_zeros()) as usize
}

impl CostTable {
    /// A batch of `rows` took `took`. Sizes between two of the table count for the lower one, scaled down by the rows.
    pub fn observe(&self, rows: usize, took: Duration) {
        let place = at(rows).min(SIZES - 1);
        let took = took.as_secs_f32() * 1e6 * (1usize << place) as f32 / rows.max(1) as f32;
        let before = f32::from_bits(self.us[place].load(Relaxed));
        let now = if before == 0.0 { took } else { before + SMOOTHING * (took - before) };
        self.us[place].store(now.to_bits(), Relaxed);
    }

    fn known(&self, place: usize) -> Option<f64> {
        let us = f32::from_bits(self.us[place].load(Relaxed));
        (us > 0.0).then_some(f64::from(us))
    }

    /// Microseconds that `rows` will take; none before anything was measured.
    pub fn predict_us(&self, rows: usize) -> Option<f64> {
        let rows = rows.max(1);
        let place = at(rows).min(SIZES - 1);
        let below = (0..=place).rev().find_map(|p| self.known(p).map(|us| (1usize << p, us)));
        let above = (place + 1..SIZES).find_map(|p| self.known(p).map(|us| (1usize << p, us)));
        match (below, above) {
            (Some((r0, us0)), _) if r0 == rows => Some(us0),
            (Some((r0, us0)), Some((r1, us1))) => {
                Some(us0 + (us1 - us0).max(0.0) * (rows - r0) as f64 / (r1 - r0) as f64)
            }
            // Beyond what was measured each row costs as in the largest batch.
            (Some((r0, us0)), None) => Some(us0 * rows as f64 / r0 as f64),
            (None, Some((_, us1))) => Some(us1),
            (None, None) => None,
        }
    }

    /// Takes over what another table knows: the same version, loaded before.
    pub fn adopt(&self, other: &CostTable) {
        for (mine, known) in self.us.iter().zip(&other.us) {
            mine.store(known.load(Relaxed), Relaxed);
        }
    }

    /// The table as it is shown: rows and microseconds.
    pub fn measured(&self) -> Vec<(usize, f64)> {
        (0..SIZES).filter_map(|place| Some((1usize << place, self.known(place)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_and_beyond_what_was_measured() {
        let table = CostTable::default();
        assert_eq!(table.predict_us(1), None);
        table.observe(1, Duration::from_micros(10));
        table.observe(4, Duration::from_micros(16));
        let close = |rows, us: f64| {
            let predicted = table.predict_us(rows).unwrap();
            assert!((predicted - us).abs() < 0.01, "{rows} rows: {predicted}");
        };
        close(1, 10.0);
        close(2, 12.0);
        close(4, 16.0);
        close(16, 64.0);
        let again = CostTable::default();
        again.adopt(&table);
        assert_eq!(again.measured(), table.measured());
        // Six rows count as four.
        table.observe(6, Duration::from_micros(24));
        close(4, 16.0);
    }
}
