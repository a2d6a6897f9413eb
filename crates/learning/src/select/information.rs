//! Mutual information of a column's bins with the target's.

use crate::error::LearnError;
use crate::train::Job;
use features::profile;
use inference::elementary::ln;
use std::collections::HashMap;
use vocabulary::model::Task;
use vocabulary::profile::FeatureReference;

/// Parts of equal weight that a regression's target is cut into.
const TARGET_BINS: usize = 16;

/// Of each column over the train rows, in nats.
pub(super) fn of_columns(references: &[FeatureReference], job: &Job) -> Result<HashMap<String, f64>, LearnError> {
    let rows = &job.split.train;
    let target = target_bins(job.request.spec.task, &job.targets(rows));
    let width = 1 + target.iter().copied().max().unwrap_or(0);
    let mut tables: Vec<Vec<u64>> = references.iter().map(|reference| vec![0; reference.bins.len() * width]).collect();
    for (row, target) in rows.iter().zip(&target) {
        for (place, bin) in profile::bins(references, job.request.rows, *row as usize).into_iter().enumerate() {
            tables[place][usize::from(bin) * width + target] += 1;
        }
    }
    let name = |reference: &FeatureReference| reference.name.clone();
    Ok(references.iter().map(name).zip(tables.iter().map(|table| mutual_information(table, width))).collect())
}

/// A class is its own bin; quantities are cut at their quantiles, equal ones never apart.
fn target_bins(task: Task, target: &[f64]) -> Vec<usize> {
    if task != Task::Regression {
        return target.iter().map(|class| *class as usize).collect();
    }
    let mut sorted = target.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..TARGET_BINS).map(|part| sorted[(sorted.len() - 1) * part / TARGET_BINS]).collect();
    edges.dedup();
    target.iter().map(|value| edges.partition_point(|edge| edge < value)).collect()
}

/// Of the two ways to group the rows of a table of counts, `width` columns a row: the sum over its cells of
/// `p ln(p / (p_row p_column))`, less the bias that empty space alone gives, `(cells - rows - columns + 1) / 2n` of
/// those that occur (Miller, "Note on the bias of information estimates", 1955).
pub(super) fn mutual_information(table: &[u64], width: usize) -> f64 {
    let total: u64 = table.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let rows: Vec<u64> = table.chunks_exact(width).map(|row| row.iter().sum()).collect();
    let columns: Vec<u64> = (0..width).map(|place| table.iter().skip(place).step_by(width).sum()).collect();
    let n = total as f64;
    let mut information = 0.0;
    for (row, counts) in rows.iter().zip(table.chunks_exact(width)) {
        for (column, count) in columns.iter().zip(counts).filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            information += count / n * ln(count * n / (*row as f64 * *column as f64));
        }
    }
    let occurring = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count() as f64;
    information - (occurring(table) - occurring(&rows) - occurring(&columns) + 1.0) / (2.0 * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_independent_and_of_equal_columns() {
        // Independent: nothing, and with so many rows next to no bias.
        assert!(mutual_information(&[1000, 2000, 2000, 4000], 2).abs() < 1e-3);
        // The same fair coin twice: one bit. Miller's bias of two cells, rows and columns each is 1 / 2n.
        let coin = mutual_information(&[500, 0, 0, 500], 2);
        assert!((coin - std::f64::consts::LN_2 - 1.0 / 2000.0).abs() < 1e-12, "{coin}");
        assert_eq!(mutual_information(&[0, 0], 2), 0.0);
    }

    #[test]
    fn many_bins_without_meaning_are_near_zero() {
        // 64 bins of about 31 rows, a fair coin: the plug-in estimate alone would be 63 / 4000 = 0.016.
        let table: Vec<u64> = (0..64u64)
            .flat_map(|bin| {
                let heads = (0..31)
                    .filter(|row| crate::keyed::bits(3, crate::keyed::Purpose::Split, bin, *row).is_multiple_of(2))
                    .count();
                [heads as u64, 31 - heads as u64]
            })
            .collect();
        assert!(mutual_information(&table, 2).abs() < 0.006, "{}", mutual_information(&table, 2));
    }

    #[test]
    fn quantities_are_cut_evenly_and_equal_ones_stay_together() {
        let bins = target_bins(Task::Regression, &(0..160).map(f64::from).collect::<Vec<_>>());
        assert_eq!((bins[0], bins[159]), (0, 15));
        assert_eq!(target_bins(Task::Regression, &[1.0, 1.0, 1.0, 5.0]), [0, 0, 0, 1]);
    }
}
