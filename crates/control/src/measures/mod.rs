//! The measures that other tools show, for those who ask; nothing is decided by them. Each equals its reference
//! implementation on the same data (see the tests; expected values were computed with the packages named there).

mod calibration;
mod distances;
mod special;
mod streams;

pub use calibration::{Cbpe, cbpe, ece_equal_count, ece_equal_width};
pub use distances::{
    chi_square, jensen_shannon, kolmogorov_smirnov, ks_p_asymptotic, ks_p_exact, mmd2, psi, psi_null_limit,
    shares_of_categories, shares_of_numbers, wasserstein,
};
pub use streams::{Adwin, PageHinkley};

#[cfg(test)]
pub(crate) mod golden {
    //! Small data made by formulas, and the figures that the packages give on them.

    pub fn reference() -> Vec<f64> {
        (0..500).map(|i| f64::from((i * 37) % 101) / 101.0).collect()
    }

    pub fn current() -> Vec<f64> {
        (0..300).map(|i| f64::from((i * 53 + 7) % 101) / 101.0 + if i % 3 == 0 { 0.1 } else { 0.0 }).collect()
    }

    /// Probabilities and labels.
    pub fn probabilities() -> (Vec<f64>, Vec<f64>) {
        let p: Vec<f64> = (0..97).map(|i| f64::from((i * 29) % 97 + 1) / 99.0).collect();
        let y = (0..97).zip(&p).map(|(i, p)| f64::from(u8::from(f64::from((i * 13) % 97) / 97.0 < *p)));
        (p.clone(), y.collect())
    }

    pub fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
    }
}
