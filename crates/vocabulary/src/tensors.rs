//! A compiled pipeline as arithmetic and look-ups on whole columns: what can be handed to somebody who has tensors and
//! no pipeline. Says what is computed, not how.

use crate::contract::ColumnKind;
use std::collections::BTreeMap;

/// The steps in the pipeline's order: their dense columns and slots, one after another, are the layout's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorSteps {
    /// The columns that the steps read, and their types.
    pub columns: Vec<(String, ColumnKind)>,
    /// Those of them that are computed from others, and how, for a person: whoever asks must work them out.
    pub derived: BTreeMap<String, String>,
    pub steps: Vec<TensorStep>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TensorStep {
    /// A quantity in single precision; what that cannot hold becomes its largest magnitude: one dense column.
    Number(Quantity),
    /// A quantity standardised in double precision and then rounded, 0 where it is missing; whether it is missing (1 or
    /// 0); and the slot of its bin where there are bins.
    Standard { from: Scaled, bins: Option<Bins> },
    /// For each row of `weights` their sum with the standardised quantities, in order and double precision, times
    /// `factor`: a dense column each. A missing quantity counts as 0.
    Projection { inputs: Vec<Scaled>, factor: f64, weights: Vec<Vec<f64>> },
    /// What is known of the values of some columns.
    Table(Table),
    /// A part of an instant in a time zone, which whoever asks must work out.
    Part(Part),
    /// A slot that tensors cannot make: whoever asks must give it.
    Given(Given),
    /// Dense columns that tensors cannot make: a matrix of this width.
    GivenDense { given: Given, width: u32 },
}

/// A number of a row, in double precision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    Column(String),
    /// Seconds from `earlier` to `later`: their microseconds' difference divided by 1e6.
    Difference {
        later: String,
        earlier: String,
    },
}

/// `(clip(x, low, high) - mean) / scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    pub from: Quantity,
    pub low: f64,
    pub high: f64,
    pub mean: f64,
    pub scale: f64,
}

/// A slot for each interval between ascending edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    pub edges: Vec<f64>,
    /// That of a missing value first, then by how many edges lie below the value.
    pub slots: Vec<u32>,
}

/// From the values of some columns to dense columns and slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub columns: Vec<String>,
    /// Each entry's value of each column; none is null.
    pub keys: Vec<Vec<Option<Key>>>,
    pub gives: Vec<Gives>,
}

/// One column or slot that a table gives. `missing` is what a null gives where the table has one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Gives {
    Dense { values: Vec<f32>, unseen: f32, missing: f32 },
    Slot { values: Vec<u32>, unseen: u32, missing: u32 },
}

/// A value that can be a category.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// As the layout has it.
    pub name: String,
    /// What must be given, for a person.
    pub meaning: String,
    pub gives: PartGives,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PartGives {
    /// The part itself: one dense column.
    Value,
    /// A slot by the part's value, and sine and cosine where there are any: two dense columns.
    Indexed {
        /// The value of the second entry; the first is that of a missing instant.
        least: i32,
        slots: Vec<u32>,
        circle: Vec<[f32; 2]>,
    },
    Binned(Bins),
    /// Sine and cosine by the part's value: two dense columns.
    Circle {
        /// The value of the second entry; the first is that of a missing instant.
        least: i32,
        points: Vec<[f32; 2]>,
    },
}

/// A slot or dense columns that have to be given.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// As the layout has it.
    pub name: String,
    /// What it is, for a person. Two with the same name and meaning are the same.
    pub meaning: String,
}
