//! Choosing the calibration of a binary model on rows that it has not learned from.

use crate::fit::{class_loss, log_loss};
use inference::Calibration;
use inference::elementary::{exp, ln, logistic, logit};
use std::ops::Range;

/// Below this many rows a calibration would fit noise.
const ROWS_MIN: usize = 400;

/// Stretches of time that the rows are cut into: each judges the calibration that is fitted on the others.
const STRETCHES: usize = 8;

/// Student's t that is exceeded with probability .05 with as many degrees of freedom as there are stretches less one.
const T_95: f64 = 1.895;

/// Points of an isotonic calibration at most, before neighbours that disagree are pooled.
const POINTS_MAX: usize = 64;

/// The calibration that lowers the log loss on rows it was not fitted on, fitted on all. A richer kind (identity, Platt,
/// isotonic) must beat the simpler one in one stretch of time after the other: its mean gain over [`STRETCHES`] stretches,
/// each judged by a fit on the others, must be certain at 95 %. Rows of one stretch share their weather or their
/// campaign, so they are one observation; a shift that comes and goes is not calibrated away. `scores` and `outcome` are
/// in order of time.
pub fn choose(scores: &[f64], outcome: &[f64]) -> Calibration {
    if scores.len() < ROWS_MIN {
        return Calibration::Identity;
    }
    let mut chosen = Calibration::Identity;
    let mut least: Vec<f64> = stretches(scores.len()).map(|held| mean_loss(&chosen, scores, outcome, held)).collect();
    for fit in [platt as Fit, isotonic] {
        let held_out: Option<Vec<f64>> = stretches(scores.len())
            .map(|held| {
                let others = |all: &[f64]| [&all[..held.start], &all[held.end..]].concat();
                Some(mean_loss(&fit(&others(scores), &others(outcome))?, scores, outcome, held))
            })
            .collect();
        if let Some(now) = held_out
            && surely_lower(&now, &least)
            && let Some(whole) = fit(scores, outcome)
        {
            (chosen, least) = (whole, now);
        }
    }
    chosen
}

/// The temperature for the probabilities of several classes (row-major), chosen by the same rule as [`choose`]; none
/// where it is not surely better.
pub fn choose_temperature(scores: &[f64], outcome: &[f64]) -> Calibration {
    let rows = outcome.len();
    if rows < ROWS_MIN {
        return Calibration::Identity;
    }
    let width = scores.len() / rows;
    let of = |range: &Range<usize>| (&scores[range.start * width..range.end * width], &outcome[range.clone()]);
    let before: Vec<f64> = stretches(rows)
        .map(|held| {
            let (s, y) = of(&held);
            class_losses(s, y, 1.0)
        })
        .collect();
    let after: Vec<f64> = stretches(rows)
        .map(|held| {
            let others = |all: &[f64], each: usize| [&all[..held.start * each], &all[held.end * each..]].concat();
            let temperature = temperature(&others(scores, width), &others(outcome, 1));
            let (s, y) = of(&held);
            class_losses(s, y, temperature)
        })
        .collect();
    match surely_lower(&after, &before) {
        true => Calibration::Temperature { temperature: temperature(scores, outcome) },
        false => Calibration::Identity,
    }
}

/// Mean log loss of the classes at a temperature.
fn class_losses(scores: &[f64], outcome: &[f64], temperature: f64) -> f64 {
    let width = scores.len() / outcome.len().max(1);
    let calibration = Calibration::Temperature { temperature };
    let mut row = vec![0.0; width];
    let mut sum = 0.0;
    for (probabilities, class) in scores.chunks_exact(width).zip(outcome) {
        row.copy_from_slice(probabilities);
        calibration.apply_row(&mut row);
        sum += class_loss(&row, *class);
    }
    sum / outcome.len().max(1) as f64
}

/// The temperature of least log loss between 1/8 and 8, by golden section on its logarithm: the loss is convex in 1/T.
fn temperature(scores: &[f64], outcome: &[f64]) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    let loss = |power: f64| class_losses(scores, outcome, exp(power));
    let (mut low, mut high) = (-ln(8.0), ln(8.0));
    let (mut a, mut b) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    for _ in 0..24 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - GOLDEN * (high - low);
            at_a = loss(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + GOLDEN * (high - low);
            at_b = loss(b);
        }
    }
    exp((low + high) / 2.0)
}

type Fit = fn(&[f64], &[f64]) -> Option<Calibration>;

fn stretches(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..STRETCHES).map(move |i| i * rows / STRETCHES..(i + 1) * rows / STRETCHES)
}

fn mean_loss(calibration: &Calibration, scores: &[f64], outcome: &[f64], rows: Range<usize>) -> f64 {
    let count = rows.len() as f64;
    rows.map(|row| log_loss(calibration.apply(scores[row]), outcome[row])).sum::<f64>() / count
}

/// Whether the mean of the paired differences is above zero by a one-sided t test.
fn surely_lower(now: &[f64], before: &[f64]) -> bool {
    let count = now.len() as f64;
    let gains = || before.iter().zip(now).map(|(b, n)| b - n);
    let mean = gains().sum::<f64>() / count;
    let variance = gains().map(|gain| (gain - mean) * (gain - mean)).sum::<f64>() / (count - 1.0);
    mean > T_95 * (variance / count).sqrt()
}

/// Maximum likelihood by Newton's method with step halving; none where there is one class only.
fn platt(scores: &[f64], outcome: &[f64]) -> Option<Calibration> {
    let logits: Vec<f64> = scores.iter().map(|p| logit(*p)).collect();
    let total =
        |a: f64, b: f64| -> f64 { logits.iter().zip(outcome).map(|(x, y)| log_loss(logistic(a * x + b), *y)).sum() };
    let positives = outcome.iter().sum::<f64>();
    if positives == 0.0 || positives == outcome.len() as f64 {
        return None;
    }
    let (mut a, mut b) = (1.0, 0.0);
    let mut least = total(a, b);
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
        for (x, y) in logits.iter().zip(outcome) {
            let p = logistic(a * x + b);
            let (g, h) = (p - y, p * (1.0 - p));
            ga += g * x;
            gb += g;
            haa += h * x * x;
            hab += h * x;
            hbb += h;
        }
        let determinant = haa * hbb - hab * hab;
        if determinant <= 0.0 {
            break;
        }
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        let steps = (0..20).map(|halvings| f64::from(1u32 << halvings).recip());
        let Some((na, nb, now)) =
            steps.map(|s| (a - s * da, b - s * db)).map(|(a, b)| (a, b, total(a, b))).find(|(_, _, now)| *now < least)
        else {
            break;
        };
        let gained = least - now;
        (a, b, least) = (na, nb, now);
        if gained < 1e-10 * least {
            break;
        }
    }
    // A slope that is not positive would turn the order of the scores round.
    (a > 0.0).then_some(Calibration::Platt { a, b })
}

/// Pool-adjacent-violators (Ayer et al., 1955) over groups of equally many rows; equal scores share a group.
fn isotonic(scores: &[f64], outcome: &[f64]) -> Option<Calibration> {
    let mut pairs: Vec<(f64, f64)> = scores.iter().copied().zip(outcome.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let size = pairs.len().div_ceil(POINTS_MAX);
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = Block::default();
    for (i, (score, y)) in pairs.iter().enumerate() {
        open.add(*score, *y);
        let last = pairs.get(i + 1).is_none_or(|next| next.0 > *score);
        if last && (open.count >= size as f64 || i + 1 == pairs.len()) {
            blocks.push(std::mem::take(&mut open));
            while let [.., below, above] = &blocks[..]
                && below.value() >= above.value()
            {
                let merged = below.merged(above);
                blocks.truncate(blocks.len() - 2);
                blocks.push(merged);
            }
        }
    }
    // No answer is certain: the ends stay as far from 0 and 1 as so many rows can tell.
    let edge = 0.5 / (pairs.len() as f64 + 1.0);
    let scores: Vec<f64> = blocks.iter().map(|block| block.scores / block.count).collect();
    let values = blocks.iter().map(|block| block.value().clamp(edge, 1.0 - edge)).collect();
    let calibration = Calibration::Isotonic { scores, values };
    (blocks.len() > 1 && calibration.check().is_ok()).then_some(calibration)
}

#[derive(Default)]
struct Block {
    count: f64,
    scores: f64,
    outcomes: f64,
}

impl Block {
    fn add(&mut self, score: f64, outcome: f64) {
        self.count += 1.0;
        self.scores += score;
        self.outcomes += outcome;
    }

    fn value(&self) -> f64 {
        self.outcomes / self.count
    }

    fn merged(&self, other: &Block) -> Block {
        Block {
            count: self.count + other.count,
            scores: self.scores + other.scores,
            outcomes: self.outcomes + other.outcomes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::{Purpose, bits};

    fn uniform(row: u64, step: u64) -> f64 {
        (bits(5, Purpose::Split, step, row) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Outcomes that come true as often as `truth` says of the score.
    fn drawn(rows: u64, truth: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<f64>) {
        let scores: Vec<f64> = (0..rows).map(|row| 0.02 + 0.96 * uniform(row, 1)).collect();
        let outcome = scores.iter().enumerate().map(|(row, p)| f64::from(uniform(row as u64, 2) < truth(*p))).collect();
        (scores, outcome)
    }

    fn chosen(rows: u64, truth: impl Fn(f64) -> f64) -> Calibration {
        let (scores, outcome) = drawn(rows, truth);
        choose(&scores, &outcome)
    }

    #[test]
    fn honest_scores_are_left_alone() {
        assert_eq!(chosen(5000, |p| p), Calibration::Identity);
        assert_eq!(chosen(300, |_| 0.1), Calibration::Identity);
    }

    #[test]
    fn a_shift_of_the_log_odds_is_undone() {
        let Calibration::Platt { a, b } = chosen(20_000, |p| logistic(0.5 * logit(p) - 1.0)) else {
            panic!("Platt was not chosen");
        };
        assert!((a - 0.5).abs() < 0.05 && (b + 1.0).abs() < 0.05, "a {a}, b {b}");
    }

    #[test]
    fn a_step_is_followed_where_two_numbers_cannot() {
        let steps = chosen(20_000, |p| if p < 0.7 { 0.1 } else { 0.4 });
        assert_eq!(steps.name(), "isotonic");
        assert!((steps.apply(0.3) - 0.1).abs() < 0.03 && (steps.apply(0.9) - 0.4).abs() < 0.05);
        assert_eq!(steps.check(), Ok(()));
    }

    #[test]
    fn a_shift_that_comes_and_goes_is_left_alone() {
        // Every other stretch of time comes true twice as often as said, the others as said.
        let (scores, _) = drawn(8000, |p| p);
        let stormy = |row: usize| (row / 1000).is_multiple_of(2);
        let truth = |row: usize| if stormy(row) { logistic(logit(scores[row]) + 0.7) } else { scores[row] };
        let outcome: Vec<f64> = (0..scores.len()).map(|row| f64::from(uniform(row as u64, 2) < truth(row))).collect();
        assert_eq!(choose(&scores, &outcome), Calibration::Identity);
    }

    #[test]
    fn overconfident_classes_are_cooled() {
        let rows = 6000u64;
        let mut scores = Vec::new();
        let mut outcome = Vec::new();
        for row in 0..rows {
            let mut honest = [0.5 + uniform(row, 1), 0.5 + uniform(row, 2), 0.5 + uniform(row, 3)].map(|w| w / 4.0);
            let whole: f64 = honest.iter().sum();
            honest.iter_mut().for_each(|p| *p /= whole);
            let draw = uniform(row, 4);
            outcome.push(if draw < honest[0] { 0.0 } else { f64::from(draw >= honest[0] + honest[1]) + 1.0 });
            Calibration::Temperature { temperature: 0.4 }.apply_row(&mut honest);
            scores.extend(honest);
        }
        let Calibration::Temperature { temperature } = choose_temperature(&scores, &outcome) else {
            panic!("no temperature was chosen");
        };
        assert!((temperature - 2.5).abs() < 0.4, "{temperature}");
        assert_eq!(choose_temperature(&scores[..300], &outcome[..100]), Calibration::Identity);
    }

    #[test]
    fn one_class_gives_no_calibration() {
        assert_eq!(platt(&[0.1, 0.2], &[0.0, 0.0]), None);
        assert_eq!(isotonic(&[0.1, 0.2], &[1.0, 1.0]), None);
    }
}
