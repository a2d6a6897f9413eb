//! How many samples a second the `network` learner learns from, and how well, on the clicks that
//! `benches/learning/clicks.py` makes: eight categories with tables of 2^20 rows each, four numbers.
//!
//! `cargo run --release -p learning --example network_rate -- FOLDER [key=value ...]`: `samples`, `batch`, `hidden` (with
//! commas), `width`, `rate`, `embedding_rate`, `threads`, `seed`. Prints one line of JSON.
//!
//! Two fits are made, of an eighth of the samples and of all: the rate is that of the difference, so that filling the
//! tables and taking the model out of them are not counted, as they are not for the peers.

use learning::{DirectFit, Progress, fit_inputs, log_loss};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;
use vocabulary::Inputs;
use vocabulary::inputs::{DenseColumn, Layout};
use vocabulary::model::{LearnerSpec, Task};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The files of clicks, whole.
struct Clicks {
    ids: Vec<u32>,
    dense: Vec<f32>,
    clicks: Vec<u8>,
    columns: usize,
    numbers: usize,
    table_rows: u32,
    held_out: usize,
    least_logloss: f64,
}

impl Clicks {
    fn read(folder: &Path) -> Fallible<Clicks> {
        let about: Value = serde_json::from_slice(&std::fs::read(folder.join("about.json"))?)?;
        let number =
            |name: &str| about[name].as_u64().map(|number| number as usize).ok_or(format!("about.json: no {name}"));
        let words = |name: &str| -> Fallible<Vec<[u8; 4]>> {
            let bytes = std::fs::read(folder.join(name))?;
            Ok(bytes.as_chunks::<4>().0.to_vec())
        };
        Ok(Clicks {
            ids: words("ids.u32")?.into_iter().map(u32::from_le_bytes).collect(),
            dense: words("dense.f32")?.into_iter().map(f32::from_le_bytes).collect(),
            clicks: std::fs::read(folder.join("clicks.u8"))?,
            columns: number("columns")?,
            numbers: number("numbers")?,
            table_rows: 1 << number("table_bits")?,
            held_out: number("held_out")?,
            least_logloss: about["least_logloss"].as_f64().unwrap_or(f64::NAN),
        })
    }

    fn inputs(&self, from: usize, to: usize) -> (Inputs, Vec<f64>) {
        let inputs = Inputs {
            rows: to - from,
            dense_width: self.numbers,
            dense: self.dense[from * self.numbers..to * self.numbers].to_vec(),
            slot_width: self.columns,
            slots: self.ids[from * self.columns..to * self.columns].to_vec(),
        };
        (inputs, self.clicks[from..to].iter().map(|click| f64::from(*click)).collect())
    }

    fn layout(&self) -> Layout {
        let number = |at| DenseColumn { name: format!("number{at}"), categorical: false };
        Layout {
            dense: (0..self.numbers).map(number).collect(),
            slots: (0..self.columns).map(|at| format!("category{at}")).collect(),
            table_bits: 0,
            tables: vec![self.table_rows; self.columns],
        }
    }
}

struct Options(BTreeMap<String, String>);

impl Options {
    fn number<T: std::str::FromStr>(&self, name: &str, otherwise: T) -> Result<T, String> {
        let text = self.0.get(name);
        text.map_or(Ok(otherwise), |text| text.parse().map_err(|_| format!("{name}={text} is no number")))
    }
}

/// The peers' network: plain numbers, ReLU, a constant rate, tables that share no rows.
fn learner(options: &Options) -> Fallible<LearnerSpec> {
    let hidden = options.0.get("hidden").map_or("128,64", String::as_str);
    let hidden: Vec<u32> = hidden.split(',').map(str::parse).collect::<Result<_, _>>()?;
    Ok(serde_json::from_value(json!({"kind": "network", "network": {
        "hidden": hidden,
        "numeric": "plain",
        "embedding_width": options.number("width", 16)?,
        "embedding_mb": 1000.0,
        "batch_rows": options.number("batch", 1024)?,
        "warmup_epochs": 0.0,
        "schedule": "constant",
        "learning_rate": options.number("rate", 0.001)?,
        "embedding_rate": options.number("embedding_rate", 0.05)?,
    }}))?)
}

/// Seconds that all threads of this process have computed.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time in hundredths, fields 14 and 15 of proc(5).
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() -> Fallible<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder of clicks?")?;
    let pairs =
        arguments.filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
    let options = Options(pairs.collect());
    let clicks = Clicks::read(Path::new(&folder))?;
    let rows = clicks.clicks.len() - clicks.held_out;
    let samples = options.number("samples", rows)?;
    if samples > rows {
        return Err(format!("{samples} samples are asked for, {folder} holds {rows}; make more with clicks.py").into());
    }
    let (learner, layout, threads) = (learner(&options)?, clicks.layout(), options.number("threads", 1)?);
    let (held, outcomes) = clicks.inputs(rows, clicks.clicks.len());
    // (samples, wall seconds, processor seconds, held-out log loss)
    let fit = |samples: usize| -> Fallible<(usize, f64, f64, f64)> {
        let (inputs, target) = clicks.inputs(0, samples);
        let (started, before) = (Instant::now(), processor_seconds());
        let model = fit_inputs(DirectFit {
            learner: &learner,
            task: Task::Binary,
            outputs: 1,
            layout: &layout,
            inputs,
            target,
            rounds: 1,
            seed: options.number("seed", 1)?,
            threads,
            progress: &|_: Progress| {},
        })?;
        let (seconds, processor) = (started.elapsed().as_secs_f64(), processor_seconds() - before);
        let mut scores = Vec::new();
        model.predict(&held, &mut scores)?;
        let loss = scores.iter().zip(&outcomes).map(|(p, y)| log_loss(*p, *y)).sum::<f64>() / outcomes.len() as f64;
        Ok((samples, seconds, processor, loss))
    };
    let (few, all) = (fit(samples / 8)?, fit(samples)?);
    let more = (all.0 - few.0) as f64;
    println!(
        "{}",
        json!({
            "peer": "homeostat", "threads": threads, "samples": samples, "fit_seconds": all.1, "fit_cpu_seconds": all.2,
            "samples_per_second": more / (all.1 - few.1), "samples_per_cpu_second": more / (all.2 - few.2),
            "logloss": all.3, "least_logloss": clicks.least_logloss, "curve": [few, all],
        })
    );
    Ok(())
}
