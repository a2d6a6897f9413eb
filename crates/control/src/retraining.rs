//! Whether a retraining is worth its price: what it is expected to save over the horizon against what it costs
//! (in the spirit of CARA, Mahadevan & Mathioudakis, "Cost-aware retraining for machine learning", 2024).

use crate::share::Count;
use serde::Serialize;
use vocabulary::Span;

/// The excess of errors is taken at the lower end of an interval that errs with this probability: about one standard
/// error and a half below its mean, so that chance alone does not buy trainings.
const CAUTION: f64 = 0.5;
/// Past retrainings count with their age; this many days of an imagined one that gained nothing count against them.
const PRIOR_DAYS: f64 = 7.0;

/// What is known when the question is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question<'a> {
    /// Predictions a day, lately.
    pub rows_per_day: f64,
    /// Outcomes since the live version answers, and the wrong answers among them.
    pub outcomes: Count,
    /// Share of wrong answers that was measured before release.
    pub reference: Option<f64>,
    /// Since the last training.
    pub age: Span,
    /// Earlier retrainings, whether they were released or not.
    pub past: &'a [Past],
    pub horizon: Span,
    pub error_price: f64,
    /// What a training costs: CPU time of earlier ones, times its price.
    pub training_price: f64,
}

/// What an earlier retraining was worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Past {
    /// Age of what it was to replace, in days.
    pub days: f64,
    /// Wrong answers a row that it saves, on the same rows.
    pub gain: f64,
    /// How much more often than measured before its release what it was to replace was wrong then; 0 where not known.
    pub excess: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Worth {
    /// How much more often answers are wrong than was measured before release, with caution; 0 where not known.
    pub excess: f64,
    /// Wrong answers a row that a retraining is expected to save.
    pub gain_per_row: f64,
    /// What they cost over the horizon.
    pub gain: f64,
    pub cost: f64,
}

impl Worth {
    pub fn is_worth(&self) -> bool {
        self.gain > self.cost
    }
}

/// The expected gain and the cost of a retraining now; none while nothing is known that could tell.
///
/// The gain a row is the larger of two estimates: of how much more often answers are wrong than was measured before release,
/// the share that earlier retrainings took back; and what earlier retrainings gained for each day of age. Both are least
/// squares through the origin: the first with an imagined retraining from the same excess that took all of it back, the
/// second with one that gained nothing.
pub fn worth(question: &Question) -> Option<Worth> {
    let excess = question.reference.filter(|_| question.outcomes.all > 0).map(|reference| {
        let (low, _) = question.outcomes.bounds(CAUTION);
        (low - reference).max(0.0)
    });
    let recovered = excess.map(|excess| {
        let own = (excess * excess).max(f64::MIN_POSITIVE);
        let slope = slope(question.past.iter().map(|past| (past.excess, past.gain)), (own, own));
        slope.clamp(0.0, 1.0) * excess
    });
    let learned = (!question.past.is_empty()).then(|| {
        let slope = slope(question.past.iter().map(|past| (past.days, past.gain)), (0.0, PRIOR_DAYS * PRIOR_DAYS));
        (slope * question.age.as_days()).max(0.0)
    });
    let gain_per_row = match (recovered, learned) {
        (Some(recovered), Some(learned)) => recovered.max(learned),
        (one, other) => one.or(other)?,
    };
    let gain = gain_per_row * question.rows_per_day * question.horizon.as_days() * question.error_price;
    Some(Worth { excess: excess.unwrap_or_default(), gain_per_row, gain, cost: question.training_price })
}

/// Least squares through the origin, with imagined sums of products and of squares.
fn slope(pairs: impl Iterator<Item = (f64, f64)>, imagined: (f64, f64)) -> f64 {
    let add = |(products, squares): (f64, f64), (x, y): (f64, f64)| (products + x * y, squares + x * x);
    let (products, squares) = pairs.fold(imagined, add);
    products / squares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question<'static> {
        Question {
            rows_per_day: 1000.0,
            outcomes: Count { all: 10_000, bad: 1000 },
            reference: Some(0.10),
            age: Span::days(14),
            past: &[],
            horizon: Span::days(30),
            error_price: 0.10,
            training_price: 5.0,
        }
    }

    #[test]
    fn errors_pay_for_a_training_and_chance_does_not() {
        assert!(!worth(&question()).unwrap().is_worth());
        let worse = Question { outcomes: Count { all: 10_000, bad: 1300 }, ..question() };
        let found = worth(&worse).unwrap();
        assert!(found.is_worth() && (0.015..0.03).contains(&found.gain_per_row), "{found:?}");
        let dear = Question { training_price: 1e4, ..worse };
        assert!(!worth(&dear).unwrap().is_worth());
    }

    #[test]
    fn what_earlier_retrainings_gained_is_expected_again() {
        let past = |days, gain| Past { days, gain, excess: 0.0 };
        let saved = [past(14.0, 0.02), past(14.0, 0.01), past(28.0, 0.03)];
        let found = worth(&Question { past: &saved, ..question() }).unwrap();
        assert!(found.is_worth() && (0.008..0.02).contains(&found.gain_per_row), "{found:?}");
        let none = Question { reference: None, ..question() };
        assert_eq!(worth(&none), None);
        let useless = [past(14.0, -0.01), past(14.0, 0.0)];
        assert!(!worth(&Question { past: &useless, ..none }).unwrap().is_worth());
    }

    #[test]
    fn an_excess_that_retraining_never_took_back_buys_nothing_more() {
        let worse = Question { outcomes: Count { all: 10_000, bad: 1300 }, ..question() };
        let first = worth(&worse).unwrap();
        let vain = [Past { days: 0.0, gain: 0.0, excess: 0.03 }; 3];
        let later = worth(&Question { past: &vain, ..worse.clone() }).unwrap();
        assert!(later.gain_per_row < 0.3 * first.gain_per_row, "{later:?} after {first:?}");
        let repaid = [Past { days: 0.0, gain: 0.03, excess: 0.03 }; 3];
        let trusted = worth(&Question { past: &repaid, ..worse }).unwrap();
        assert!((trusted.gain_per_row - first.gain_per_row).abs() < 1e-12);
    }
}
