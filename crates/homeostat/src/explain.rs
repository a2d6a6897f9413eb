//! Why a version answered what it answered: parts that add up to the answer.

use crate::artifact::Artifact;
use anyhow::Result;
use arrow::array::RecordBatch;
use inference::elementary::{ln, logit};
use inference::{Calibration, Contributions};
use std::collections::BTreeMap;
use vocabulary::answer::most_probable;
use vocabulary::{Answer, Task};

/// What an average row gets.
pub const BASE: &str = "(base)";
/// What the calibration changed.
const CALIBRATION: &str = "(calibration)";
/// What averaging with earlier trainings changed.
const AVERAGING: &str = "(averaging)";
/// What the other classes took from the most probable one.
const OTHERS: &str = "(other classes)";

/// Parts by name, which add up to the log odds of a probability, to the logarithm of the probability of the most
/// probable class, or to the predicted quantity.
pub type Parts = BTreeMap<String, f64>;

/// The parts of each row's answer. A column that the pipeline turns into several inputs has one part; what is no column's
/// has a name in parentheses.
pub fn parts(artifact: &Artifact, batch: &RecordBatch, answers: &[Answer]) -> Result<Vec<Parts>> {
    let (contributions, calibration) = artifact.contributions(batch)?;
    let layout = &artifact.manifest.layout;
    let names: Vec<&str> = layout
        .dense
        .iter()
        .map(|column| column.name.as_str())
        .chain(layout.slots.iter().map(String::as_str))
        .map(column)
        .collect();
    Ok(answers
        .iter()
        .enumerate()
        .map(|(row, answer)| of_row(artifact.spec.task, &contributions, calibration, &names, row, answer))
        .collect())
}

/// The column behind an input, or the part of an instant: what is only another view of a column is left out.
fn column(input: &str) -> &str {
    const VIEWS: [&str; 16] = [
        ":missing",
        ":bin",
        ":mean",
        ":log_count",
        ":sin",
        ":cos",
        ":count",
        ":rest",
        ":target",
        ":share",
        ":target_missing",
        ":count_missing",
        ":circle:sine",
        ":circle:cosine",
        ":sine",
        ":cosine",
    ];
    // Slots of a text or a list: `title:text:17`.
    if let Some((bag, slot)) = input.rsplit_once(':')
        && slot.bytes().all(|byte| byte.is_ascii_digit())
        && let Some(whole) = bag.strip_suffix(":text").or_else(|| bag.strip_suffix(":items"))
    {
        return whole;
    }
    VIEWS.iter().find_map(|view| input.strip_suffix(view)).unwrap_or(input)
}

fn of_row(
    task: Task,
    all: &Contributions,
    calibration: &Calibration,
    names: &[&str],
    row: usize,
    answer: &Answer,
) -> Parts {
    let output = if task == Task::Multiclass { most_probable(answer.values()) } else { 0 };
    let place = row * all.outputs + output;
    let temperature = match calibration {
        Calibration::Temperature { temperature } => *temperature,
        _ => 1.0,
    };
    let mut parts = Parts::new();
    parts.insert(BASE.to_owned(), all.base[place] / temperature);
    for (name, part) in names.iter().zip(&all.parts[place * all.width..(place + 1) * all.width]) {
        *parts.entry((*name).to_owned()).or_default() += part / temperature;
    }
    let sum: f64 = parts.values().sum();
    let (whole, name) = match task {
        Task::Regression => (answer.value(), AVERAGING),
        Task::Multiclass => (ln(answer.values()[output].max(f64::MIN_POSITIVE)), OTHERS),
        Task::Binary if *calibration == Calibration::Identity => (logit(answer.value()), AVERAGING),
        Task::Binary => (logit(answer.value()), CALIBRATION),
    };
    let rest = whole - sum;
    if rest.abs() > 1e-9 * whole.abs().max(1.0) {
        parts.insert(name.to_owned(), rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_answer() {
        let all = Contributions { rows: 1, outputs: 1, width: 3, base: vec![-1.0], parts: vec![0.25, 0.5, 0.0] };
        let names = ["x", "x:missing", "c"].map(column);
        let sum = |calibration: &Calibration, answer: f64| {
            let parts = of_row(Task::Binary, &all, calibration, &names, 0, &Answer::One(answer));
            (parts.values().sum::<f64>(), parts)
        };
        let raw = inference::elementary::logistic(-0.25);
        let (whole, parts) = sum(&Calibration::Identity, raw);
        assert!((whole + 0.25).abs() < 1e-9);
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["(base)", "c", "x"]);
        assert_eq!(parts["x"], 0.75);
        let platt = Calibration::Platt { a: 2.0, b: 0.0 };
        let (whole, parts) = sum(&platt, platt.apply(raw));
        assert!((whole + 0.5).abs() < 1e-9 && (parts["(calibration)"] + 0.25).abs() < 1e-9);
    }

    #[test]
    fn several_classes_add_up_to_the_logarithm_of_the_probability() {
        let all = Contributions { rows: 1, outputs: 2, width: 1, base: vec![0.0, 1.0], parts: vec![0.5, 2.0] };
        let mut probabilities = [0.5, 3.0];
        let calibration = Calibration::Identity;
        inference::elementary::softmax(&mut probabilities);
        let answer = Answer::Classes(probabilities.into());
        let parts = of_row(Task::Multiclass, &all, &calibration, &["x"], 0, &answer);
        assert!((parts.values().sum::<f64>() - probabilities[1].ln()).abs() < 1e-9);
        assert_eq!(parts["x"], 2.0);
    }
}
