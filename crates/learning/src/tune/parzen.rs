//! A density over the space: a mixture of one kernel around each of some points, and of the whole space.

use super::normal;
use super::space::Space;
use inference::elementary::{exp, ln};

/// Kernels over all parameters together ("multivariate"), as S. Falkner et al., "BOHB" (ICML 2018) do: parameters that
/// work well only together are then found together. A normal distribution cut off at the ends for what has an order; for
/// a choice, the kernel's own value with most of the weight. Where a parameter does not exist in a kernel's point, the
/// kernel is even over it.
pub(super) struct Mixture<'a> {
    space: &'a Space,
    kernels: usize,
    /// Coordinates of the kernels' points, one parameter after the other; NaN where it does not exist.
    centres: Vec<f64>,
    /// Of each parameter that has an order, in coordinates.
    deviations: Vec<f64>,
    /// For each centre the logarithm of what its density is divided by, so that it sums to one.
    norms: Vec<f64>,
    /// Logarithms of a choice's probability of the kernel's own value, and of any one other.
    choices: Vec<(f64, f64)>,
}

/// The narrowest kernel, in coordinates: below it a search only polishes.
const DEVIATION_MIN: f64 = 0.01;

/// Kernels are this much narrower than Scott's rule says, which is for a single normal distribution and blurs several
/// hills into one. Of .4 to 1, .5 to .7 found the least values of Branin's, Hartmann's and Rosenbrock's functions with 50,
/// 100 and 300 trials (medians of 20 seeds).
const NARROWING: f64 = 0.6;

/// Standard deviation of an even distribution over [0, 1]: 1 / sqrt(12).
const EVEN: f64 = 0.288_675_134_594_812_9;

impl<'a> Mixture<'a> {
    /// `rows` holds the coordinates of points of `space`, row-major. A kernel's width follows D. W. Scott, "Multivariate
    /// Density Estimation" (1992): the points' standard deviation times n^(-1/(d+4)), here times [`NARROWING`].
    pub fn new(space: &'a Space, rows: &[f64]) -> Mixture<'a> {
        let width = space.parameters.len();
        let kernels = rows.len() / width.max(1);
        let narrowing = NARROWING * exp(-ln(kernels.max(1) as f64) / (width as f64 + 4.0));
        let (mut centres, mut norms) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let (mut deviations, mut choices) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for (d, parameter) in space.parameters.iter().enumerate() {
            let column = rows.iter().skip(d).step_by(width).copied();
            let deviation = (spread(column.clone().filter(|u| !u.is_nan())) * narrowing).max(DEVIATION_MIN);
            let ordered = parameter.domain.choices().is_none();
            norms.extend(column.clone().map(|centre| {
                if !ordered || centre.is_nan() {
                    return 0.0;
                }
                let (low, high) = inside(centre, deviation);
                ln(deviation * ROOT_TWO_PI * (high - low))
            }));
            centres.extend(column);
            deviations.push(deviation);
            choices.push(parameter.domain.choices().map_or((0.0, 0.0), |values| shares(values, kernels)));
        }
        Mixture { space, kernels, centres, deviations, norms, choices }
    }

    /// Draws a point's coordinates; `draw` gives numbers in [0, 1). Values are those of the domain: an integer's
    /// coordinate is the middle of its room.
    pub fn sample(&self, draw: &mut dyn FnMut() -> f64) -> Vec<Option<f64>> {
        let kernel = ((draw() * (self.kernels + 1) as f64) as usize).min(self.kernels);
        let mut values: Vec<Option<f64>> = Vec::with_capacity(self.space.parameters.len());
        for (d, parameter) in self.space.parameters.iter().enumerate() {
            let exists = parameter.exists(&values);
            let centre = if kernel < self.kernels { self.centres[d * self.kernels + kernel] } else { f64::NAN };
            values.push(exists.then(|| parameter.domain.value(self.coordinate(d, centre, draw))));
        }
        values
    }

    fn coordinate(&self, d: usize, centre: f64, draw: &mut dyn FnMut() -> f64) -> f64 {
        match self.space.parameters[d].domain.choices() {
            Some(values) => {
                let keep = !centre.is_nan() && {
                    let (own, other) = self.choices[d];
                    draw() < exp(own) - exp(other)
                };
                if keep { centre } else { (draw() * values as f64).floor() }
            }
            None if centre.is_nan() => draw(),
            None => {
                let (low, high) = inside(centre, self.deviations[d]);
                let share = (low + draw() * (high - low)).clamp(1e-12, 1.0 - 1e-12);
                (centre + self.deviations[d] * normal::quantile(share)).clamp(0.0, 1.0)
            }
        }
    }

    /// Logarithm of the density at `point`, NaN where a parameter does not exist.
    pub fn log_density(&self, point: &[f64], sums: &mut Vec<f64>) -> f64 {
        sums.clear();
        sums.resize(self.kernels + 1, 0.0);
        for (d, parameter) in self.space.parameters.iter().enumerate() {
            let at = point[d];
            if at.is_nan() {
                continue;
            }
            let column = &self.centres[d * self.kernels..][..self.kernels];
            match parameter.domain.choices() {
                Some(values) => {
                    let even = -ln(values as f64);
                    let (own, other) = self.choices[d];
                    for (sum, centre) in sums.iter_mut().zip(column) {
                        *sum += if centre.is_nan() {
                            even
                        } else if *centre == at {
                            own
                        } else {
                            other
                        };
                    }
                    sums[self.kernels] += even;
                }
                None => {
                    let scale = 1.0 / self.deviations[d];
                    let norms = &self.norms[d * self.kernels..][..self.kernels];
                    for ((sum, centre), norm) in sums.iter_mut().zip(column).zip(norms) {
                        let z = (at - centre) * scale;
                        *sum -= if z.is_nan() { 0.0 } else { 0.5 * z * z + norm };
                    }
                }
            }
        }
        let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let whole: f64 = sums.iter().map(|sum| if sum - most < -40.0 { 0.0 } else { exp(sum - most) }).sum();
        most + ln(whole / (self.kernels + 1) as f64)
    }
}

const ROOT_TWO_PI: f64 = 2.506_628_274_631_000_5;

/// Shares of a kernel's normal distribution below the two ends.
fn inside(centre: f64, deviation: f64) -> (f64, f64) {
    (normal::below(-centre / deviation), normal::below((1.0 - centre) / deviation))
}

/// Logarithms of the probability of a kernel's own value and of any one other. The whole space counts as one point more,
/// so that no value is ever excluded.
fn shares(values: usize, kernels: usize) -> (f64, f64) {
    let weight = 1.0 / (kernels as f64 + 1.0);
    let whole = 1.0 + values as f64 * weight;
    (ln((1.0 + weight) / whole), ln(weight / whole))
}

/// Standard deviation, drawn towards that of an even distribution as by one value more: a few values that lie close by
/// chance must not end the search.
fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    if count < 1.0 {
        return EVEN;
    }
    let mean = values.clone().sum::<f64>() / count;
    let squares = EVEN * EVEN + values.map(|u| (u - mean) * (u - mean)).sum::<f64>();
    (squares / count).sqrt().min(EVEN)
}

#[cfg(test)]
mod tests {
    use super::super::space::{Condition, Domain, Parameter};
    use super::*;
    use serde_json::Value;

    fn space() -> Space {
        let values = ["a", "b", "c"].map(Value::from).to_vec();
        let when = Some(Condition { parameter: 0, value: 1 });
        Space {
            parameters: vec![
                Parameter::always("choice", Domain::Choice { values }),
                Parameter::always("x", Domain::real(0.0, 1.0)),
                Parameter { name: "y".to_owned(), domain: Domain::real(0.0, 1.0), when },
            ],
        }
    }

    fn mixture(space: &Space) -> Mixture<'_> {
        Mixture::new(space, &[0.0, 0.9, f64::NAN, 1.0, 0.8, 0.1, 1.0, 0.95, 0.2])
    }

    #[test]
    fn the_density_sums_to_one() {
        let space = space();
        let mixture = mixture(&space);
        let (mut whole, mut sums, steps) = (0.0, Vec::new(), 200);
        let middle = |i: usize| (i as f64 + 0.5) / steps as f64;
        for choice in 0..3 {
            for x in 0..steps {
                let ys = if choice == 1 { steps } else { 1 };
                for y in 0..ys {
                    let y_at = if choice == 1 { middle(y) } else { f64::NAN };
                    let density = exp(mixture.log_density(&[f64::from(choice), middle(x), y_at], &mut sums));
                    whole += density / (steps * ys) as f64;
                }
            }
        }
        assert!((whole - 1.0).abs() < 1e-3, "{whole}");
    }

    #[test]
    fn draws_follow_the_density() {
        let space = space();
        let mixture = mixture(&space);
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut near, mut second) = (0, 0);
        for _ in 0..4000 {
            let point = mixture.sample(&mut draw);
            assert_eq!(point[2].is_some(), point[0] == Some(1.0));
            near += usize::from(point[1].unwrap() > 0.7);
            second += usize::from(point[0] == Some(1.0));
        }
        let (mut expected_near, mut expected_second, mut sums) = (0.0, 0.0, Vec::new());
        for choice in 0..3 {
            for x in 0..1000 {
                // The share over y is one wherever it exists, but its kernels count by their place in x and choice.
                let ys: &[f64] = if choice == 1 {
                    &[
                        0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
                        0.85, 0.9, 0.95,
                    ]
                } else {
                    &[f64::NAN]
                };
                let at = (f64::from(x) + 0.5) / 1000.0;
                let density: f64 =
                    ys.iter().map(|y| exp(mixture.log_density(&[f64::from(choice), at, y + 0.025], &mut sums))).sum();
                let density = density / ys.len() as f64 / 1000.0;
                expected_near += if at > 0.7 { density } else { 0.0 };
                expected_second += if choice == 1 { density } else { 0.0 };
            }
        }
        assert!((near as f64 / 4000.0 - expected_near).abs() < 0.03, "{near} {expected_near}");
        assert!((second as f64 / 4000.0 - expected_second).abs() < 0.03, "{second} {expected_second}");
    }
}
