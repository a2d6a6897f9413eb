//! What a contract expects of all rows of a table together.

use super::{Column, ColumnKind, Severities};
use serde::{Deserialize, Serialize};

/// Share of a table's rows that may be refused where the contract says nothing. A judgement: where more than half of the
/// rows break the contract, the data is not what the contract is about.
pub const REFUSED_SHARE_MAX: f64 = 0.5;

/// `[table]` in a contract's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableRules {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_min: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_max: Option<u64>,
    /// Share of the rows that may be refused or set aside at most; [`REFUSED_SHARE_MAX`] without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_share: Option<f64>,
    #[serde(skip_serializing_if = "Severities::is_default")]
    pub severity: Severities,
}

impl TableRules {
    pub fn is_default(&self) -> bool {
        *self == TableRules::default()
    }

    pub(super) fn problem(&self) -> Option<String> {
        if let (Some(least), Some(most)) = (self.rows_min, self.rows_max)
            && least > most
        {
            return Some(format!("rows_min = {least} is more than rows_max = {most}"));
        }
        self.refused_share
            .filter(|share| !(0.0..=1.0).contains(share))
            .map(|share| format!("refused_share = {share} is no share; write a number from 0 to 1"))
    }
}

/// How the distribution of a column's values may differ from a reference; nulls aside. The reference is written here, or
/// else that of the version that is live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Largest distance allowed, from 0 (the same) to 1 (nothing in common).
    pub tolerance: f64,
    /// By default Jensen-Shannon for numbers and L-infinity for words and truth values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
    /// The reference's bins of numbers: ascending edges. A value's bin is the number of edges below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<Vec<f64>>,
    /// The reference's words; any other is in a bin of its own, whose share is what the shares leave of 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// The reference's share of each bin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Vec<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Divergence of Jensen and Shannon with logarithms to base 2 (Lin, "Divergence measures based on the Shannon
    /// entropy", 1991).
    JensenShannon,
    /// The largest difference of a bin's share.
    LInfinity,
}

impl Measure {
    pub fn name(self) -> &'static str {
        match self {
            Measure::JensenShannon => "jensen_shannon",
            Measure::LInfinity => "l_infinity",
        }
    }
}

impl Distribution {
    pub fn measure_for(&self, kind: ColumnKind) -> Measure {
        self.measure.unwrap_or(match kind {
            ColumnKind::Int | ColumnKind::Float => Measure::JensenShannon,
            _ => Measure::LInfinity,
        })
    }

    pub(super) fn problem(&self, column: &Column) -> Option<String> {
        if !(0.0..=1.0).contains(&self.tolerance) {
            return Some(format!("distribution: tolerance = {} is outside 0 to 1", self.tolerance));
        }
        let number = matches!(column.kind, ColumnKind::Int | ColumnKind::Float);
        let bins = match (&self.edges, &self.values) {
            _ if column.kind == ColumnKind::Timestamp => return Some("distribution is not for instants".into()),
            (None, None) if self.shares.is_none() => return None,
            (None, None) => return Some("distribution: shares need edges (numbers) or values (words)".into()),
            (Some(edges), None) if number => {
                if !edges.windows(2).all(|pair| pair[0] < pair[1]) || edges.iter().any(|edge| !edge.is_finite()) {
                    return Some("distribution: edges must ascend".into());
                }
                edges.len() + 1
            }
            (None, Some(values)) if !number => values.len(),
            _ => return Some("distribution: edges are for numbers, values for words; write one of them".into()),
        };
        let Some(shares) = &self.shares else { return Some("distribution: write the shares of the bins, too".into()) };
        if shares.len() != bins {
            return Some(format!("distribution: {} shares for {bins} bins", shares.len()));
        }
        let sum: f64 = shares.iter().sum();
        let whole = if number { (sum - 1.0).abs() < 1e-6 } else { sum < 1.0 + 1e-6 };
        if !whole || shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            return Some(format!("distribution: the shares add up to {sum}; those of all bins make 1"));
        }
        None
    }
}
