//! The kinds of features of a world, and one value of each.

use crate::random::Random;

/// Categories of a world, and the one that comes from nowhere.
pub const CATEGORIES: [&str; 8] = ["ash", "beech", "cedar", "elm", "fir", "larch", "oak", "pine"];
pub const UNSEEN: &str = "baobab";

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Mean and standard deviation.
    Normal { mean: f64, deviation: f64 },
    /// Logarithm's mean and standard deviation.
    Amount { mean: f64, deviation: f64 },
    /// Between 0 and `width`.
    Uniform { width: f64 },
    /// Whole numbers, mostly small ones.
    Count { mean: f64 },
    /// One of [`CATEGORIES`]; the first ones are more frequent, by day more so.
    Category,
}

impl Kind {
    /// The kind of the feature at `place`. Places 0 and 1 are unlike each other, 2 is a temperature in degrees Celsius, 3
    /// an amount of money, 4 a category.
    pub fn at(place: usize) -> Kind {
        let own = place as f64;
        match place {
            0 => Kind::Normal { mean: 5.0, deviation: 1.0 },
            1 => Kind::Normal { mean: 9.0, deviation: 4.0 },
            2 => Kind::Normal { mean: 12.0, deviation: 8.0 },
            3 => Kind::Amount { mean: 3.0, deviation: 0.8 },
            _ => match place % 10 {
                4 => Kind::Category,
                5 | 6 => Kind::Uniform { width: 1.0 + own },
                7 => Kind::Amount { mean: 0.1 * own, deviation: 0.5 },
                8 => Kind::Count { mean: 2.0 + own / 10.0 },
                _ => Kind::Normal { mean: own, deviation: 1.0 + own / 7.0 },
            },
        }
    }

    pub fn is_category(&self) -> bool {
        *self == Kind::Category
    }

    /// A number that lies `z` standard deviations from where numbers of this kind are.
    pub fn number(&self, z: f64) -> f64 {
        match self {
            Kind::Normal { mean, deviation } => mean + deviation * z,
            Kind::Amount { mean, deviation } => (mean + deviation * z).exp(),
            // The logistic function is near enough to the normal distribution's.
            Kind::Uniform { width } => width / (1.0 + (-1.702 * z).exp()),
            Kind::Count { mean } => (mean + mean.sqrt() * z).max(0.0).round(),
            Kind::Category => f64::NAN,
        }
    }

    /// A place among [`CATEGORIES`]; `lean` above zero makes the first ones more frequent.
    pub fn category(random: &mut Random, lean: f64) -> usize {
        let u = random.unit();
        ((u.powf(1.0 + lean.max(-0.5)) * CATEGORIES.len() as f64) as usize).min(CATEGORIES.len() - 1)
    }
}
