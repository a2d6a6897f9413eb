//! The gradient noise scale (McCandlish et al., "An Empirical Model of Large-Batch Training", arXiv 1812.06162, appendix
//! A.1): how far the gradients of small parts of a batch lie from the whole batch's tells up to which size larger batches
//! are worth their rows. Knows no network.

/// Steps from one measurement to the next: it reads every part's gradient once more, and one in four costs little.
pub(super) const EVERY: usize = 4;

/// Sums over measured steps, where those of an epoch count half as much as those of the next: both estimates scatter
/// widely from step to step, and the scale grows as learning goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Noise {
    /// Estimates of |G|^2, the squared length of the true gradient.
    pub signal: f64,
    /// Estimates of tr(S), the variance of one row's gradient.
    pub variance: f64,
    pub steps: f64,
}

impl Noise {
    /// `small` and `whole` are squared lengths of mean gradients: the mean over parts of `part` rows, and the whole batch's.
    pub fn add(&mut self, small: f64, part: usize, whole: f64, batch: usize) {
        let (b, big) = (part as f64, batch as f64);
        self.signal += (big * whole - b * small) / (big - b);
        self.variance += (small - whole) / (1.0 / b - 1.0 / big);
        self.steps += 1.0;
    }

    /// What an epoch begins with.
    pub fn halved(self) -> Noise {
        Noise { signal: 0.5 * self.signal, variance: 0.5 * self.variance, steps: 0.5 * self.steps }
    }

    /// Rows of a batch at which noise and signal are equal; none where nothing was measured, or no signal was seen.
    pub fn scale(&self) -> Option<f64> {
        (self.steps > 0.0 && self.signal > 0.0 && self.variance > 0.0).then(|| self.variance / self.signal)
    }
}

pub(super) fn squared_length(values: &[f32]) -> f64 {
    // Eight chains, so that it does not wait for each addition.
    let (blocks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, value)| *sum += f64::from(*value) * f64::from(*value));
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_the_variance_over_the_squared_mean() {
        // Rows' gradients are 2 +- 3: variance 9, squared mean 4. A mean of b rows has the squared length 4 + 9 / b.
        let mut noise = Noise::default();
        noise.add(4.0 + 9.0 / 64.0, 64, 4.0 + 9.0 / 256.0, 256);
        assert!((noise.scale().unwrap() - 9.0 / 4.0).abs() < 1e-9);
        assert_eq!(Noise::default().scale(), None);
        assert_eq!(squared_length(&[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0]), 30.0);
    }
}
