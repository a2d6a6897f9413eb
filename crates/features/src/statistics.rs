//! Statistics of a column, each a sum or an order statistic in a fixed order.

/// Mean and standard deviation (of the population), by two passes in the order given. None without values.
pub(crate) fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let (mut count, mut sum) = (0u64, 0.0);
    for value in values.clone() {
        count += 1;
        sum += value;
    }
    if count == 0 {
        return None;
    }
    let mean = sum / count as f64;
    let mut squares = 0.0;
    for value in values {
        squares += (value - mean) * (value - mean);
    }
    Some((mean, (squares / count as f64).sqrt()))
}

/// The observed value at `part / whole` of the way through ascending values: the lower nearest rank.
pub(crate) fn quantile(sorted: &[f64], part: usize, whole: usize) -> f64 {
    sorted[(sorted.len() - 1) * part / whole]
}

/// Ascending distinct edges that cut the values into at most `bins` parts of about equal weight. Where there are fewer
/// distinct values than `bins`, every one is an edge, so that each has a bin of its own.
pub(crate) fn edges(sorted: &[f64], bins: usize) -> Vec<f64> {
    let mut distinct: Vec<f64> = Vec::with_capacity(bins);
    for value in sorted {
        if distinct.last() != Some(value) {
            distinct.push(*value);
            if distinct.len() >= bins {
                return quantile_edges(sorted, bins);
            }
        }
    }
    distinct
}

fn quantile_edges(sorted: &[f64], bins: usize) -> Vec<f64> {
    let mut edges: Vec<f64> = (1..bins).map(|part| quantile(sorted, part, bins)).collect();
    edges.dedup();
    edges
}

/// Ascending finite values, with +0 for -0.
pub(crate) fn sorted_finite(values: impl Iterator<Item = Option<f64>>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.flatten().filter(|value| value.is_finite()).map(|value| value + 0.0).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_distinct_values_are_all_edges_and_many_are_cut_evenly() {
        assert_eq!(edges(&[1.0, 1.0, 2.0, 5.0], 16), [1.0, 2.0, 5.0]);
        let many: Vec<f64> = (0..1600).map(f64::from).collect();
        let cut = edges(&many, 16);
        assert_eq!(cut.len(), 15);
        assert!(cut.windows(2).all(|pair| (99.0..=101.0).contains(&(pair[1] - pair[0]))));
        let skewed: Vec<f64> = (0..1000).map(|i| f64::from((i - 900).max(0))).collect();
        assert_eq!(edges(&skewed, 16), [0.0, 36.0]);
    }

    #[test]
    fn moments() {
        let (mean, deviation) = mean_and_deviation([1.0, 2.0, 3.0, 4.0].into_iter()).unwrap();
        assert_eq!((mean, deviation), (2.5, 1.25f64.sqrt()));
        assert!(mean_and_deviation(std::iter::empty()).is_none());
    }
}
