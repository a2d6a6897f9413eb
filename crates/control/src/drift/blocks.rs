//! What was counted, by stretches of hours: fine ones lately, coarse ones long ago (Datar et al., "Maintaining stream
//! statistics over sliding windows", SIAM J. Computing 2002). Any window that begins where a stretch begins can be
//! summed. Sums are in the order of time.

use super::expected::Expected;
use super::spending::{SCALES, WINDOWS_A_SCALE};
use std::collections::VecDeque;

/// Counts of `1 << scale` hours that had rows.
#[derive(Clone, Debug, Default)]
pub struct Block {
    pub scale: usize,
    /// Its first hour, since 1970.
    pub begin: i64,
    pub rows: f64,
    /// Ordered pairs of rows that share an hour, and that share a day but no hour.
    pub hour_pairs: f64,
    pub day_pairs: f64,
    /// Rows by stratum, ascending.
    pub strata: Vec<(u16, f64)>,
    /// By bin: counted less expected.
    pub excess: Vec<f64>,
    /// By feature.
    pub nulls: Vec<f64>,
    pub unseen: Vec<f64>,
    pub variances: Vec<f64>,
}

impl Block {
    /// An hour's block: `counts` by bin.
    pub fn of_hour(begin: i64, counts: &[u32], strata: &[(u16, f64)], before_today: f64, expected: &Expected) -> Block {
        let layout = &expected.layout;
        let rows: f64 = strata.iter().map(|(_, rows)| rows).sum();
        let mut excess: Vec<f64> = counts.iter().map(|count| f64::from(*count)).collect();
        let mut variances = vec![0.0; layout.features()];
        for (stratum, rows) in strata {
            excess.iter_mut().zip(expected.shares(*stratum)).for_each(|(e, share)| *e -= rows * f64::from(*share));
            variances.iter_mut().zip(expected.variances(*stratum)).for_each(|(v, own)| *v += rows * f64::from(*own));
        }
        let at = |place: usize| f64::from(counts[place]);
        Block {
            scale: 0,
            begin,
            rows,
            hour_pairs: rows * (rows - 1.0),
            day_pairs: 2.0 * rows * before_today,
            strata: strata.to_vec(),
            excess,
            nulls: (0..layout.features()).map(|feature| at(layout.begins[feature])).collect(),
            unseen: (0..layout.features()).map(|feature| at(layout.begins[feature + 1] - 1)).collect(),
            variances,
        }
    }

    /// Adds an earlier block.
    pub fn add(&mut self, other: &Block) {
        self.begin = self.begin.min(other.begin);
        self.rows += other.rows;
        self.hour_pairs += other.hour_pairs;
        self.day_pairs += other.day_pairs;
        let sums = [
            (&mut self.excess, &other.excess),
            (&mut self.nulls, &other.nulls),
            (&mut self.unseen, &other.unseen),
            (&mut self.variances, &other.variances),
        ];
        for (sums, more) in sums {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        for (stratum, rows) in &other.strata {
            match self.strata.binary_search_by_key(stratum, |(own, _)| *own) {
                Ok(place) => self.strata[place].1 += rows,
                Err(place) => self.strata.insert(place, (*stratum, *rows)),
            }
        }
    }

    /// An empty sum for blocks of this shape.
    pub fn empty(expected: &Expected) -> Block {
        let (bins, features) = (expected.layout.total, expected.layout.features());
        Block {
            begin: i64::MAX,
            excess: vec![0.0; bins],
            nulls: vec![0.0; features],
            unseen: vec![0.0; features],
            variances: vec![0.0; features],
            ..Block::default()
        }
    }

    /// What the reference's own error adds to the variance of the excess, in rows: the sum of `c² / n` over strata with
    /// `c` rows here and `n` there.
    pub fn reference_rows(&self, expected: &Expected) -> f64 {
        self.strata.iter().map(|(stratum, rows)| rows * rows / expected.rows[usize::from(*stratum)]).sum()
    }
}

/// Blocks, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Blocks(VecDeque<Block>);

impl Blocks {
    pub fn push(&mut self, block: Block) {
        self.0.push_front(block);
        for scale in 0..SCALES {
            let of_scale: Vec<usize> =
                self.0.iter().enumerate().filter(|(_, block)| block.scale == scale).map(|(place, _)| place).collect();
            if of_scale.len() <= WINDOWS_A_SCALE {
                return;
            }
            let oldest = of_scale[of_scale.len() - 1];
            // They are the two oldest of their size, and neighbours.
            if let Some(older) = self.0.remove(oldest)
                && scale + 1 < SCALES
                && let Some(newer) = self.0.get_mut(oldest - 1)
            {
                newer.add(&older);
                newer.scale += 1;
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hour_is_lost_and_few_blocks_are_kept() {
        let mut blocks = Blocks::default();
        for hour in 0..5000 {
            let own = Block { begin: hour, rows: 1.0, strata: vec![((hour % 168) as u16, 1.0)], ..Block::default() };
            blocks.push(own);
            assert_eq!(blocks.iter().map(|block| block.rows).sum::<f64>(), hour as f64 + 1.0);
            let mut next = hour + 1;
            for block in blocks.iter() {
                assert_eq!(block.rows, (1u64 << block.scale) as f64);
                next -= block.rows as i64;
                assert_eq!(block.begin, next);
            }
        }
        assert!(blocks.iter().count() <= 48);
        let rows: f64 = blocks.iter().flat_map(|block| &block.strata).map(|(_, rows)| rows).sum();
        assert_eq!(rows, 5000.0);
    }
}
