//! From sums to answers: link, calibration, the mean of several trainings, labels. In double precision, and in the very
//! steps of ours, so that what a calibration stretches was the same before.

use super::graph::{Graph, Keep, int};
use super::{Sums, TASK_OUTPUTS};
use crate::calibration::{Calibration, PROBABILITY_MIN};
use crate::import::onnx::proto::ElementType;
use crate::model::Link;
use vocabulary::model::Task;

/// The calibrated answers of one training, a matrix with a column for each output.
pub(super) fn answers(graph: &mut Graph, sums: &Sums, calibration: &Calibration) -> String {
    let scores = match sums.link {
        Link::Identity => sums.name.clone(),
        Link::Logistic => logistic(graph, &sums.name),
        Link::Softmax => softmax(graph, &sums.name),
    };
    match calibration {
        Calibration::Identity => scores,
        Calibration::Temperature { .. } if sums.outputs == 1 => scores,
        Calibration::Temperature { temperature } => {
            let (least, temperature) = (graph.double(PROBABILITY_MIN), graph.double(*temperature));
            let kept = graph.node("Max", &[&scores, &least]);
            let logarithm = graph.node("Log", &[&kept]);
            let logit = graph.node("Div", &[&logarithm, &temperature]);
            softmax(graph, &logit)
        }
        Calibration::Platt { a, b } => {
            let (low, high) = (graph.double(PROBABILITY_MIN), graph.double(1.0 - PROBABILITY_MIN));
            let raised = graph.node("Max", &[&scores, &low]);
            let kept = graph.node("Min", &[&raised, &high]);
            let one = graph.double(1.0);
            let other = graph.node("Sub", &[&one, &kept]);
            let odds = graph.node("Div", &[&kept, &other]);
            let logit = graph.node("Log", &[&odds]);
            let (a, b) = (graph.double(*a), graph.double(*b));
            let scaled = graph.node("Mul", &[&logit, &a]);
            let sum = graph.node("Add", &[&scaled, &b]);
            logistic(graph, &sum)
        }
        Calibration::Isotonic { scores: from, values: to } => interpolated(graph, &scores, from, to),
    }
}

/// As [`crate::elementary::logistic`]: exact near 1, where the `Sigmoid` of ONNX Runtime need not be.
fn logistic(graph: &mut Graph, sum: &str) -> String {
    let (zero, one) = (graph.double(0.0), graph.double(1.0));
    let positive = graph.node("GreaterOrEqual", &[sum, &zero]);
    let size = graph.node("Abs", &[sum]);
    let negative = graph.node("Neg", &[&size]);
    let power = graph.node("Exp", &[&negative]);
    let whole = graph.node("Add", &[&one, &power]);
    let numerator = graph.node("Where", &[&positive, &one, &power]);
    graph.node("Div", &[&numerator, &whole])
}

fn softmax(graph: &mut Graph, sums: &str) -> String {
    graph.with("Softmax", &[sums], vec![int("axis", -1)])
}

/// Straight lines between points. Only one column is looked at: several outputs have no isotonic calibration.
fn interpolated(graph: &mut Graph, score: &str, scores: &[f64], values: &[f64]) -> String {
    let points = scores.len();
    let [score_table, value_table] = [scores, values].map(|list| graph.doubles(&[points], list));
    let line = graph.doubles(&[1, points], scores);
    let passed = graph.node("GreaterOrEqual", &[score, &line]);
    let passed = graph.cast(&passed, ElementType::Int64);
    let above = graph.sum(&passed, Keep::Dimension);
    let [zero, one, last] = [0, 1, points as i64 - 1].map(|place| graph.int(place));
    let before = graph.node("Sub", &[&above, &one]);
    let inside_low = graph.node("Greater", &[&above, &zero]);
    let lower = graph.node("Where", &[&inside_low, &before, &zero]);
    let inside_high = graph.node("Less", &[&above, &last]);
    let upper = graph.node("Where", &[&inside_high, &above, &last]);
    let [s0, s1] = [&lower, &upper].map(|place| graph.gather(&score_table, place));
    let [v0, v1] = [&lower, &upper].map(|place| graph.gather(&value_table, place));
    // Beyond the ends both points are one, and their distance nothing.
    let same = graph.node("Equal", &[&lower, &upper]);
    let distance = graph.node("Sub", &[&s1, &s0]);
    let unit = graph.double(1.0);
    let distance = graph.node("Where", &[&same, &unit, &distance]);
    let gone = graph.node("Sub", &[score, &s0]);
    let share = graph.node("Div", &[&gone, &distance]);
    let rise = graph.node("Sub", &[&v1, &v0]);
    let part = graph.node("Mul", &[&rise, &share]);
    let value = graph.node("Add", &[&v0, &part]);
    let raised = graph.node("Max", &[&value, &v0]);
    let kept = graph.node("Min", &[&raised, &v1]);
    let missing = graph.node("IsNaN", &[score]);
    graph.node("Where", &[&missing, score, &kept])
}

/// The mean of several trainings' answers.
pub(super) fn mean(graph: &mut Graph, answers: &[String]) -> String {
    let Some((first, rest)) = answers.split_first() else { return String::new() };
    if rest.is_empty() {
        return first.clone();
    }
    let mut sum = first.clone();
    for answer in rest {
        sum = graph.node("Add", &[&sum, answer]);
    }
    let count = graph.double(answers.len() as f64);
    graph.node("Div", &[&sum, &count])
}

/// Declares the outputs under the names that the server has for them, and gives those names: the answer, and for a
/// classification the place of the class.
pub(super) fn outputs(graph: &mut Graph, task: Task, answer: &str, classes: usize) -> Vec<String> {
    let axes = graph.ints(&[1], &[1]);
    let name = TASK_OUTPUTS.iter().find(|(known, _)| *known == task).map_or("value", |(_, name)| *name);
    let name = graph.unique(name);
    if task == Task::Multiclass {
        graph.output(answer, &name, ElementType::Double, Some(classes));
        let most = graph.with("ArgMax", &[answer], vec![int("axis", 1), int("keepdims", 0)]);
        let label = graph.unique("label");
        graph.output(&most, &label, ElementType::Int64, None);
        return vec![name, label];
    }
    let list = graph.node("Squeeze", &[answer, &axes]);
    graph.output(&list, &name, ElementType::Double, None);
    if task == Task::Regression {
        return vec![name];
    }
    let half = graph.double(0.5);
    let positive = graph.node("GreaterOrEqual", &[&list, &half]);
    let positive = graph.cast(&positive, ElementType::Int64);
    let label = graph.unique("label");
    graph.output(&positive, &label, ElementType::Int64, None);
    vec![name, label]
}
