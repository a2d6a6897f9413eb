//! How many steps a grown network needs to come to the loss that the large one reaches from the beginning: a small
//! network learns first, is made wider or deeper with the same answers, and goes on.
//!
//! `cargo run --release -p learning --example growth_rate -- [key=value ...]`: `rows`, `epochs`, `tuned` (epochs of the
//! grown one), `small` and `large` (layers, with commas), `deep` (the deeper one's), `shrink`, `rate`, `seeds`, `threads`.
//! Prints one line of JSON: for each way of growing and each seed, after how many epochs of `epochs` the loss that the
//! large network reaches from the beginning was reached by itself, and by the grown one; and the loss that the large one
//! reaches from the beginning, and the small one going on, in as many epochs as the grown one has. The small network's own
//! steps are not counted. It learns from the train rows alone, in part as validation.

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use learning::{Phase, Progress, Start, TrainRequest, Trained, train};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use vocabulary::model::{LearnerKind, ModelSpec};
use vocabulary::{Contract, turns::sine_cosine};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Numbers between 0 and 1 (SplitMix64, Steele et al., OOPSLA 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Eight numbers and two categories. The target is a sum of waves along random directions, moved and turned by the
/// categories, and some noise: enough bends that a small network cannot follow them all.
fn table(rows: usize, seed: u64) -> Fallible<RecordBatch> {
    let mut numbers = Numbers(seed);
    let waves: Vec<[f64; 9]> = (0..24).map(|_| std::array::from_fn(|_| numbers.next() - 0.5)).collect();
    let moves: Vec<f64> = (0..60).map(|_| numbers.next() - 0.5).collect();
    let (mut xs, mut kinds, mut places, mut target) = (vec![Vec::new(); 8], Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let x: [f64; 8] = std::array::from_fn(|_| numbers.next());
        let (kind, place) = ((numbers.next() * 6.0) as usize, (numbers.next() * 60.0) as usize);
        let wave = |wave: &[f64; 9]| {
            let along: f64 = wave.iter().zip(x).map(|(w, x)| w * x).sum();
            sine_cosine((1.5 * along + wave[8] + kind as f64 / 6.0).rem_euclid(1.0)).0
        };
        target.push(waves.iter().map(wave).sum::<f64>() / 3.0 + moves[place] + 0.3 * (numbers.next() - 0.5));
        xs.iter_mut().zip(x).for_each(|(column, x)| column.push(x));
        kinds.push(format!("k{kind}"));
        places.push(format!("p{place}"));
    }
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (at, column) in xs.into_iter().enumerate() {
        columns.push((format!("x{at}"), Arc::new(Float64Array::from(column))));
    }
    columns.push(("kind".to_owned(), Arc::new(StringArray::from(kinds))));
    columns.push(("place".to_owned(), Arc::new(StringArray::from(places))));
    columns.push(("row".to_owned(), Arc::new(Int64Array::from_iter_values(0..rows as i64))));
    columns.push(("y".to_owned(), Arc::new(Float64Array::from(target))));
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?)
}

fn contract() -> Fallible<Contract> {
    let column = |name: String, kind: &str| json!({"name": name, "type": kind});
    let mut columns: Vec<Value> = (0..8).map(|at| column(format!("x{at}"), "float")).collect();
    columns.extend(["kind", "place"].map(|name| column(name.to_owned(), "string")));
    columns.push(column("row".to_owned(), "int"));
    columns.push(column("y".to_owned(), "float"));
    Ok(serde_json::from_value(json!({"name": "waves", "version": 1, "column": columns}))?)
}

struct Options(BTreeMap<String, String>);

impl Options {
    fn number<T: std::str::FromStr>(&self, name: &str, otherwise: T) -> Fallible<T> {
        let text = self.0.get(name);
        text.map_or(Ok(otherwise), |text| text.parse().map_err(|_| format!("{name}={text} is no number").into()))
    }

    fn layers(&self, name: &str, otherwise: &str) -> Fallible<Vec<u32>> {
        let text = self.0.get(name).map_or(otherwise, String::as_str);
        text.split(',').map(|units| units.parse().map_err(|_| format!("{name}={text} are no layers").into())).collect()
    }
}

struct Experiment<'a> {
    options: &'a Options,
    contract: Contract,
    rows: RecordBatch,
    seed: u64,
}

impl Experiment<'_> {
    fn spec(&self, hidden: &[u32], epochs: u32) -> Fallible<ModelSpec> {
        Ok(serde_json::from_value(json!({
            "name": "waves", "contract": "waves", "task": "regression", "target": "y", "data": {"file": "none"},
            "features": {"exclude": ["row"]},
            "split": {"test": 0.0, "validation": 0.2, "refit": false},
            "learner": {"kind": "network", "network": {
                "hidden": hidden, "epochs": epochs, "patience": 0,
                "learning_rate": self.options.number("rate", 0.002)?,
            }},
        }))?)
    }

    /// The rows that are learned from: the newest fifth is the validation.
    fn train_rows(&self) -> RecordBatch {
        self.rows.slice(0, self.rows.num_rows() * 4 / 5)
    }

    /// The version, and its validation loss after each epoch.
    fn fit(
        &self,
        rows: &RecordBatch,
        hidden: &[u32],
        epochs: u32,
        start: Option<Start>,
    ) -> Fallible<(Trained, Vec<f64>)> {
        let spec = self.spec(hidden, epochs)?;
        let losses = Mutex::new(Vec::new());
        let progress = |progress: Progress| {
            if let (Phase::Fit, Some(loss), Ok(mut losses)) = (progress.phase, progress.loss, losses.lock()) {
                losses.push(loss);
            }
        };
        let trained = train(&TrainRequest {
            spec: &spec,
            contract: &self.contract,
            rows,
            learner: LearnerKind::Network,
            seed: self.seed,
            threads: self.options.number("threads", 1)?,
            parent: None,
            earlier: &[],
            start,
            teacher: None,
            program: "growth_rate",
            progress: &progress,
            checkpoints: None,
        })?;
        Ok((trained, losses.into_inner().map_err(|_| "a thread that counted losses failed")?))
    }
}

fn least(losses: &[f64]) -> f64 {
    losses.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Epochs after which the loss was first as low as `wanted`.
fn reached(losses: &[f64], wanted: f64) -> Option<usize> {
    losses.iter().position(|loss| *loss <= wanted).map(|at| at + 1)
}

fn main() -> Fallible<()> {
    let pairs = std::env::args().skip(1);
    let pairs = pairs.filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
    let options = Options(pairs.collect());
    let (rows, epochs) = (options.number("rows", 12_000)?, options.number("epochs", 20)?);
    let (tuned, seeds) = (options.number("tuned", epochs)?, options.number("seeds", 5)?);
    let shrink = options.number("shrink", 1.0)?;
    let small = options.layers("small", "32,32")?;
    let ways = [("wider", options.layers("large", "128,128")?), ("deeper", options.layers("deep", "32,32,32")?)];
    let mut report = serde_json::Map::new();
    for (way, large) in ways {
        let (mut runs, mut ratios) = (Vec::new(), Vec::new());
        for seed in 0..seeds {
            let experiment =
                Experiment { options: &options, contract: contract()?, rows: table(rows, 1000 + seed)?, seed };
            let all = &experiment.rows;
            // The version that is grown must not know the rows that judge.
            let (first, _) = experiment.fit(&experiment.train_rows(), &small, epochs, None)?;
            let (_, before) = experiment.fit(all, &small, epochs, None)?;
            let (_, anew) = experiment.fit(all, &large, epochs, None)?;
            let (_, shorter) = experiment.fit(all, &large, tuned, None)?;
            let start = Some(Start { version: &first.bundle, shrink });
            let (_, on) = experiment.fit(all, &small, tuned, start)?;
            let (_, grown) = experiment.fit(all, &large, tuned, start)?;
            let wanted = least(&anew);
            let of_anew = reached(&anew, wanted).ok_or("no loss at all")?;
            let of_grown = reached(&grown, wanted);
            ratios.push(of_grown.map_or(f64::INFINITY, |epochs| epochs as f64 / of_anew as f64));
            runs.push(json!({
                "seed": seed, "small": least(&before), "large": wanted, "large_epochs": of_anew,
                "large_in_as_many_as_grown": least(&shorter), "small_gone_on": least(&on), "grown": least(&grown), "grown_first": grown.first(),
                "grown_epochs": of_grown,
            }));
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        let median = if median.is_finite() { json!(median) } else { json!("never reached") };
        report.insert(way.to_owned(), json!({"layers": large, "median_ratio_of_steps": median, "runs": runs}));
    }
    println!("{}", json!({"rows": rows, "epochs": epochs, "tuned": tuned, "small": small, "ways": report}));
    Ok(())
}
