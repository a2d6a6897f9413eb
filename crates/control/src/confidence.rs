//! What a change of the inputs is expected to cost before outcomes are known: how sure the model was of its answers
//! before, and how sure it is since. A calibrated model is right as often as it says (confidence-based estimation); what
//! changed in the meaning of the inputs it cannot know. Knows answers and hours.

use std::collections::VecDeque;
use vocabulary::{Answer, Interval, Span, Task, Timestamp};

/// Hours that are remembered: two weeks.
pub const HOURS_MAX: usize = 336;
/// Hours on each side of a change before anything is said about it.
const HOURS_MIN: usize = 3;
/// 95 %, two sided.
const NORMAL_95: f64 = 1.959_964;

/// Mean probability of the label that was given, by hour.
#[derive(Clone, Debug)]
pub struct Confidence {
    task: Task,
    threshold: f64,
    hours: VecDeque<(i64, f64, f64)>,
}

impl Confidence {
    /// `threshold` is the probability from which on the label of a binary model is the positive class.
    pub fn new(task: Task, threshold: f64) -> Self {
        Confidence { task, threshold, hours: VecDeque::new() }
    }

    /// One answer; a quantity says nothing about how sure it is.
    pub fn observe(&mut self, at: Timestamp, said: &Answer) {
        let right = match self.task {
            Task::Binary => {
                let p = said.value();
                if p >= self.threshold { p } else { 1.0 - p }
            }
            Task::Multiclass => said.values().iter().copied().fold(0.0, f64::max),
            Task::Regression => return,
        };
        let hour = at.0.div_euclid(Span::hours(1).0);
        match self.hours.back_mut() {
            // A late row counts in the hour that is open.
            Some((open, rows, sum)) if hour <= *open => {
                *rows += 1.0;
                *sum += right;
            }
            _ => {
                if self.hours.len() == HOURS_MAX {
                    self.hours.pop_front();
                }
                self.hours.push_back((hour, 1.0, right));
            }
        }
    }

    /// Accuracy that is expected to be lost since `began`, as a share of the rows, with its 95 % interval; hours are what
    /// varies.
    pub fn lost(&self, began: Timestamp) -> Option<Interval> {
        let hour = began.0.div_euclid(Span::hours(1).0);
        let side = |since: bool| -> Option<(f64, f64)> {
            let own = || self.hours.iter().filter(move |(open, ..)| (*open >= hour) == since);
            let (count, rows) = (own().count(), own().map(|(_, rows, _)| rows).sum::<f64>());
            if count < HOURS_MIN {
                return None;
            }
            let mean = own().map(|(.., sum)| sum).sum::<f64>() / rows;
            let squares: f64 = own().map(|(_, rows, sum)| (sum - rows * mean).powi(2)).sum();
            let count = count as f64;
            Some((mean, squares / (rows * rows) * count / (count - 1.0)))
        };
        let ((before, uncertain), (now, more)) = (side(false)?, side(true)?);
        let radius = NORMAL_95 * (uncertain + more).sqrt();
        Some(Interval { low: before - now - radius, high: before - now + radius })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_became_unsure_expects_to_be_wrong_more_often() {
        let mut confidence = Confidence::new(Task::Binary, 0.5);
        let at = |hour: i64| Timestamp(hour * Span::hours(1).0);
        for hour in 0..60 {
            for row in 0..20 {
                let p = if hour < 40 { 0.9 } else { 0.7 } + 0.001 * f64::from((hour as i32 * 7 + row) % 11 - 5);
                // Whether it says yes or no makes no difference.
                confidence.observe(at(hour), &Answer::One(if row % 2 == 0 { p } else { 1.0 - p }));
            }
        }
        let lost = confidence.lost(at(40)).unwrap();
        assert!(lost.low < 0.2 && 0.2 < lost.high && lost.high - lost.low < 0.01, "{lost:?}");
        assert!(confidence.lost(at(58)).is_none() && confidence.lost(at(100)).is_none());
    }

    #[test]
    fn old_hours_are_forgotten() {
        let mut confidence = Confidence::new(Task::Multiclass, 0.5);
        for hour in 0..HOURS_MAX as i64 + 10 {
            confidence.observe(Timestamp(hour * Span::hours(1).0), &Answer::Classes([0.25, 0.75].into()));
        }
        assert_eq!(confidence.hours.len(), HOURS_MAX);
        assert!(confidence.lost(Timestamp(10 * Span::hours(1).0)).is_none());
    }
}
