//! Bytes and time of compact trees beside the trees they come from, on one thread: `cargo run --release -p inference
//! --example compact_trees_measure`.

use hessboost::config::{GrowPolicy, TrainingParams, TreeMethod};
use hessboost::data::{DMatrix, FeatureType};
use hessboost::objective::{Objective, RegLoss};
use inference::{CompactTreesModel, Contributions, LeafBits, Link, Model, ModelError, Quantization, TreesModel};
use std::time::Instant;
use vocabulary::inputs::{DenseColumn, Inputs, Layout};

const COLUMNS: usize = 24;
const CATEGORIES: usize = 3;

fn noise(row: usize, column: usize) -> f32 {
    let mut x = (row as u64) << 20 ^ column as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..3 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (x >> 40) as f32 / (1u32 << 24) as f32
}

fn rows(from: usize, count: usize, categories: usize) -> Inputs {
    let value = |row, column| match noise(row, column) {
        x if column < categories => (x * 16.0).floor(),
        x if column % 5 == 4 && x < 0.1 => f32::NAN,
        x if column % 3 == 0 => (x * 24.0).floor(),
        x => x,
    };
    let dense = (from..from + count).flat_map(|row| (0..COLUMNS).map(move |column| value(row, column))).collect();
    Inputs { rows: count, dense_width: COLUMNS, dense, ..Inputs::default() }
}

/// Microseconds a row: the least of several runs.
fn cost(model: &dyn Model, inputs: &Inputs, batch: usize) -> f64 {
    let parts: Vec<Inputs> = (0..inputs.rows / batch)
        .map(|part| {
            let dense = inputs.dense[part * batch * COLUMNS..(part + 1) * batch * COLUMNS].to_vec();
            Inputs { rows: batch, dense_width: COLUMNS, dense, ..Inputs::default() }
        })
        .collect();
    let mut out = Vec::new();
    let mut least = f64::INFINITY;
    for _ in 0..9 {
        let start = Instant::now();
        for part in &parts {
            if let Err(error) = model.predict(part, &mut out) {
                eprintln!("{error}");
            }
            std::hint::black_box(&out);
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e6 / (parts.len() * batch) as f64);
    }
    least
}

/// The library that grew the trees, with its own walks.
struct Library<'a>(&'a TreesModel);

impl Model for Library<'_> {
    fn kind(&self) -> &'static str {
        "library"
    }

    fn layout(&self) -> &Layout {
        self.0.layout()
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        out.clear();
        if inputs.rows == 1 {
            out.push(Link::Logistic.apply(f64::from(self.0.booster().predict_margin_row(&inputs.dense, ..)?)));
        } else {
            let sums = self.0.booster().predict_margin_rows(&inputs.dense, ..)?;
            out.extend(sums.as_slice().iter().map(|sum| Link::Logistic.apply(f64::from(*sum))));
        }
        Ok(())
    }

    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        self.0.contributions(inputs)
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }
}

fn measure(rounds: usize, leaves: usize, categories: usize) -> Result<(), Box<dyn std::error::Error>> {
    let train = rows(0, 30_000, categories);
    let label = |row: usize| {
        let at = |column| noise(row, column);
        f32::from(
            at(0) + at(7) * at(8) + 0.5 * at(11) + f32::from((at(1) * 16.0) as u32 % 3 == 1) * 0.5
                > 1.1 + 0.6 * (at(99) - 0.5),
        )
    };
    let labels: Vec<f32> = (0..train.rows).map(label).collect();
    let column = |at: usize| DenseColumn { name: format!("c{at}"), categorical: at < categories };
    let layout = Layout { dense: (0..COLUMNS).map(column).collect(), ..Layout::default() };
    let kind = |at| if at < categories { FeatureType::Categorical } else { FeatureType::Numerical };
    let matrix = DMatrix::from_dense(&train.dense, train.rows, COLUMNS)?
        .with_labels(&labels)?
        .with_feature_types(&(0..COLUMNS).map(kind).collect::<Vec<_>>())?;
    let params = TrainingParams::builder()
        .objective(Objective::BinaryLogistic(RegLoss::default()))
        .tree_method(TreeMethod::Hist)
        .grow_policy(GrowPolicy::LossGuide)
        .unlimited_depth()
        .max_leaves(leaves)
        .eta(0.06)
        .build()?;
    let model = TreesModel::new(hessboost::training::train(&params, &matrix, rounds)?, Link::Logistic, layout.clone())?;
    let ensemble = model.ensemble();
    let quantized = |leaves| {
        let how = Quantization { leaves, ..Quantization::default() };
        CompactTreesModel::quantized(&ensemble, Link::Logistic, &layout, how).map(|(model, _)| model)
    };
    let exact = CompactTreesModel::exact(&ensemble, Link::Logistic, &layout)?;
    let (sixteen, eight) = (quantized(LeafBits::Sixteen)?, quantized(LeafBits::Eight)?);
    let models: [(&str, &dyn Model); 4] =
        [("trees", &model), ("exact", &exact), ("16 bits", &sixteen), ("8 bits", &eight)];
    let nodes: usize = ensemble.trees.iter().map(|tree| tree.nodes.len()).sum();
    println!("{rounds} trees of {leaves} leaves, {categories} columns of categories, {nodes} nodes");
    let unseen = rows(50_000, 4096, categories);
    let library = Library(&model);
    println!(
        "  hessboost itself: 1 row {:7.2} us, of 256 {:7.3} us a row",
        cost(&library, &unseen, 1),
        cost(&library, &unseen, 256)
    );
    for (name, model) in models {
        let bytes = model.to_bytes().len();
        let (one, many) = (cost(model, &unseen, 1), cost(model, &unseen, 256));
        println!(
            "  {name:>9}: {bytes:>7} bytes, {:5.2} a node; 1 row {one:7.2} us, of 256 {many:7.3} us a row",
            bytes as f64 / nodes as f64
        );
    }
    let few = rows(60_000, 50, categories);
    let start = Instant::now();
    model.contributions(&few)?;
    let first = start.elapsed().as_secs_f64();
    let start = Instant::now();
    model.contributions(&few)?;
    println!(
        "  reasons: {:.0} us a row ({:.1} ms to prepare)",
        start.elapsed().as_secs_f64() * 2e4,
        (first - start.elapsed().as_secs_f64()) * 1e3
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (rounds, leaves, categories) in [(300, 31, 0), (300, 31, CATEGORIES), (60, 16, CATEGORIES)] {
        measure(rounds, leaves, categories)?;
    }
    Ok(())
}
