//! The declaration of a network: `[learner.network]` of `models/NAME.toml`.

use serde::{Deserialize, Serialize};

/// Embeddings of categories and a tower of dense layers, by Adam; the rows of embeddings by row-wise AdaGrad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// Units of each dense layer.
    pub hidden: Vec<u32>,
    /// Layers as wide as the one below them add it to their outputs.
    pub residual: bool,
    /// Cross layers (DCN-v2) before the dense ones; each costs the square of the inputs' number.
    pub cross_layers: u32,
    /// How quantities become inputs.
    pub numeric: NumericEncoding,
    /// Intervals of a piecewise-linear encoding at most.
    pub bins: u32,
    /// Frequencies of a periodic encoding.
    pub frequencies: u32,
    /// Standard deviation of the frequencies, in turns by one standard deviation of the column.
    pub frequency_scale: f64,
    /// Numbers of each category's vector; by the number of categories without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_width: Option<u32>,
    /// Memory that all embeddings may take, in MB (1e6 bytes). Tables that do not fit let categories share rows.
    pub embedding_mb: f64,
    /// How embeddings are kept while they learn.
    pub embedding_storage: EmbeddingStorage,
    /// Passes over the rows at most; early stopping may keep fewer.
    pub epochs: u32,
    /// Epochs without improvement on the validation rows after which learning stops; 0 means never.
    pub patience: u32,
    pub batch_rows: u32,
    /// How the learning rate follows the batch's size.
    pub batch_scaling: BatchScaling,
    /// The batch that `learning_rate` is meant for.
    pub base_batch_rows: u32,
    /// Passes, or part of one, in which the learning rate rises to its full size.
    pub warmup_epochs: f64,
    pub schedule: RateSchedule,
    pub learning_rate: f64,
    /// Of the embeddings' rows. It does not follow the batch's size: a row is touched by few rows of a batch.
    pub embedding_rate: f64,
    /// Share of units that are silenced at each step.
    pub dropout: f64,
    /// Decoupled from the gradient (AdamW); of the layers' weights.
    pub weight_decay: f64,
    /// Sparse groups: pull of each single weight to zero, in steps of the learning rate. 1 is what Adam moves a weight
    /// by whose gradient always points one way.
    pub group_l1: f64,
    /// Sparse groups: pull of all weights of an input column, or behind a unit, to zero together. What reaches zero is
    /// removed from the model. Tenths of 1 are the usual order.
    pub group_l2: f64,
}

/// From a quantity to inputs (Gorishniy et al., NeurIPS 2022).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumericEncoding {
    Plain,
    /// Between quantiles of the column.
    #[default]
    PiecewiseLinear,
    Periodic,
}

/// Bits of an embedding's numbers in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingStorage {
    #[default]
    F32,
    /// bfloat16 with random rounding: half the memory.
    Bf16,
}

/// How the learning rate follows batch_rows / base_batch_rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchScaling {
    #[default]
    None,
    Linear,
    SquareRoot,
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateSchedule {
    Constant,
    /// Falls to zero over `epochs` along half a cosine.
    #[default]
    Cosine,
}

/// Chosen on four public tables with one declaration for all. Beside a tower of 256-128 with 16 bins and no cross layer,
/// the validation loss of adult fell by 4 %, of bike sharing by 10 % and of cover types by 5 %; that of New York's flights
/// rose by 4 % while their test loss stayed.
impl Default for NetworkSpec {
    fn default() -> Self {
        NetworkSpec {
            hidden: vec![256, 128],
            residual: false,
            cross_layers: 1,
            numeric: NumericEncoding::PiecewiseLinear,
            bins: 32,
            frequencies: 8,
            frequency_scale: 0.3,
            embedding_width: None,
            embedding_mb: 256.0,
            embedding_storage: EmbeddingStorage::F32,
            epochs: 12,
            patience: 2,
            batch_rows: 256,
            batch_scaling: BatchScaling::None,
            base_batch_rows: 256,
            warmup_epochs: 0.1,
            schedule: RateSchedule::Cosine,
            learning_rate: 0.002,
            embedding_rate: 0.05,
            dropout: 0.0,
            weight_decay: 0.0,
            group_l1: 0.0,
            group_l2: 0.0,
        }
    }
}

impl NetworkSpec {
    /// Each number with its name and the least and most that make sense.
    pub(crate) fn ranges(&self) -> Vec<(&'static str, f64, f64, f64)> {
        let narrowest = f64::from(self.hidden.iter().copied().min().unwrap_or(1));
        let widest = f64::from(self.hidden.iter().copied().max().unwrap_or(1));
        vec![
            ("learner.network.hidden (the narrowest)", narrowest, 1.0, 8192.0),
            ("learner.network.hidden (the widest)", widest, 1.0, 8192.0),
            ("learner.network.hidden (their number)", self.hidden.len() as f64, 0.0, 16.0),
            ("learner.network.cross_layers", f64::from(self.cross_layers), 0.0, 8.0),
            ("learner.network.bins", f64::from(self.bins), 2.0, 256.0),
            ("learner.network.frequencies", f64::from(self.frequencies), 1.0, 256.0),
            ("learner.network.frequency_scale", self.frequency_scale, 1e-3, 100.0),
            ("learner.network.embedding_width", f64::from(self.embedding_width.unwrap_or(1)), 1.0, 512.0),
            ("learner.network.embedding_mb", self.embedding_mb, 0.001, 1000.0),
            ("learner.network.epochs", f64::from(self.epochs), 1.0, 10_000.0),
            ("learner.network.batch_rows", f64::from(self.batch_rows), 1.0, 65_536.0),
            ("learner.network.base_batch_rows", f64::from(self.base_batch_rows), 1.0, 65_536.0),
            ("learner.network.warmup_epochs", self.warmup_epochs, 0.0, 100.0),
            ("learner.network.learning_rate", self.learning_rate, 1e-6, 1.0),
            ("learner.network.embedding_rate", self.embedding_rate, 1e-6, 10.0),
            ("learner.network.dropout", self.dropout, 0.0, 0.9),
            ("learner.network.weight_decay", self.weight_decay, 0.0, 10.0),
            ("learner.network.group_l1", self.group_l1, 0.0, 10.0),
            ("learner.network.group_l2", self.group_l2, 0.0, 10.0),
        ]
    }
}
