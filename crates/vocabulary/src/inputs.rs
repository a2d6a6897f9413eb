//! What a compiled pipeline hands to a model.

use serde::{Deserialize, Serialize};

/// Model inputs of `rows` rows: a dense block and a block of hashed slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    pub rows: usize,
    /// Dense columns a row.
    pub dense_width: usize,
    /// Row-major, `rows * dense_width`. NaN (the canonical one) is a missing value.
    pub dense: Vec<f32>,
    /// Hashed slots a row; each stands for the value 1 at that place of a table.
    pub slot_width: usize,
    /// Row-major, `rows * slot_width`, each below the layout's table size.
    pub slots: Vec<u32>,
}

impl Inputs {
    pub fn dense_row(&self, row: usize) -> &[f32] {
        &self.dense[row * self.dense_width..(row + 1) * self.dense_width]
    }

    pub fn slot_row(&self, row: usize) -> &[u32] {
        &self.slots[row * self.slot_width..(row + 1) * self.slot_width]
    }
}

/// Names and kinds of the columns of [`Inputs`]: the model's signature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    pub dense: Vec<DenseColumn>,
    /// One name for each slot column.
    pub slots: Vec<String>,
    /// Slots are below `1 << table_bits`; 0 where there are none, or where each slot has its own table.
    pub table_bits: u8,
    /// Rows of each slot's own table; empty where all share the one of `table_bits`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseColumn {
    pub name: String,
    /// Values are codes of categories (small non-negative integers), not quantities.
    #[serde(default)]
    pub categorical: bool,
}
