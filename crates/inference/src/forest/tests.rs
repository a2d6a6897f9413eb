//! The walk against a plain reading of the trees, on trees made by formula; the same bits in any batch.

use super::*;
use std::time::Instant;

/// Pseudo-random numbers from 0 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() * limit as f64) as usize
    }
}

/// A tree that grew by splitting a random leaf again and again.
fn grown<F: Real, S: Real>(random: &mut Random, features: usize, leaves: usize) -> Vec<Described<F, S>> {
    let mut nodes = vec![Described::Leaf(S::from_f64(random.next()))];
    let mut open = vec![0];
    while open.len() < leaves {
        let place = open.swap_remove(random.below(open.len()));
        let children = [nodes.len(), nodes.len() + 1];
        for _ in 0..2 {
            nodes.push(Described::Leaf(S::from_f64(random.next() - 0.5)));
        }
        nodes[place] = Described::Branch {
            feature: random.below(features),
            test: Test::AtMost(F::from_f64(random.next())),
            missing: Missing::Nan,
            missing_passes: random.below(2) == 0,
            passes: children[0],
            fails: children[1],
        };
        open.extend(children);
    }
    nodes
}

/// The plainest way through a tree.
fn walked<F: Real, S: Real>(nodes: &[Described<F, S>], row: &[F]) -> S {
    let mut at = 0;
    loop {
        match &nodes[at] {
            Described::Leaf(value) => return *value,
            Described::Branch { feature, test: Test::AtMost(threshold), missing_passes, passes, fails, .. } => {
                let value = row[*feature];
                let pass = if value.is_nan() { *missing_passes } else { value <= *threshold };
                at = if pass { *passes } else { *fails };
            }
            other => panic!("{other:?}"),
        }
    }
}

fn rows(random: &mut Random, features: usize, count: usize) -> Vec<f64> {
    (0..features * count).map(|_| if random.below(10) == 0 { f64::NAN } else { random.next() }).collect()
}

#[test]
fn the_walk_side_by_side_is_the_plain_walk() {
    let mut random = Random(7);
    let trees: Vec<_> = (0..21).map(|_| grown::<f64, f64>(&mut random, 6, 17)).collect();
    let mut builder = Builder::new(6, 3, Codes::Truncated);
    for (at, tree) in trees.iter().enumerate() {
        builder.tree(at % 3, 0, tree).unwrap();
    }
    let forest = builder.build();
    for count in [1, 7, 8, 9, 63, 64, 65, 200] {
        let rows = rows(&mut random, 6, count);
        let mut sums = vec![0.0; 3 * count];
        forest.add_to(&rows, &mut sums);
        let mut expected = vec![0.0; 3 * count];
        for (row, sums) in rows.chunks(6).zip(expected.chunks_mut(3)) {
            for (at, tree) in trees.iter().enumerate() {
                sums[at % 3] += walked(tree, row);
            }
        }
        assert_eq!(sums, expected);
    }
}

#[test]
fn a_tree_that_is_none_is_refused() {
    let branch = |passes, fails| Described::Branch {
        feature: 0,
        test: Test::AtMost(0.5f32),
        missing: Missing::Nan,
        missing_passes: true,
        passes,
        fails,
    };
    let leaf = || Described::Leaf(1.0f32);
    let build = |output: usize, nodes: &[Described<f32, f32>]| {
        Builder::new(1, 1, Codes::Truncated).tree(output, 0, nodes).unwrap_err().to_string()
    };
    assert!(build(0, &[]).contains("has no nodes"));
    assert!(build(0, &[branch(0, 1), leaf()]).contains("reached twice"));
    assert!(build(0, &[branch(1, 1), leaf()]).contains("reached twice"));
    assert!(build(0, &[branch(1, 2), leaf()]).contains("names node 2, of which there are 2"));
    assert!(build(1, &[leaf()]).contains("adds to output 1"));
    assert!(build(0, &[Described::LeafOf(vec![(3, 1.0)])]).contains("adds to output 3"));
}

#[test]
fn ends_of_the_number_line_are_told_from_what_is_missing() {
    let ask = |test: Test<f32>, missing_passes: bool, value: f32| {
        let branch = Described::Branch { feature: 0, test, missing: Missing::Nan, missing_passes, passes: 1, fails: 2 };
        let mut builder = Builder::new(1, 1, Codes::Truncated);
        builder.tree(0, 0, &[branch, Described::Leaf(1.0f32), Described::Leaf(0.0)]).unwrap();
        let mut sum = [0.0];
        builder.build().add_to(&[value], &mut sum);
        sum[0] == 1.0
    };
    let infinity = f32::INFINITY;
    for passes in [false, true] {
        for value in [-infinity, -1.0, -0.0, 0.0, 1.0, infinity] {
            for threshold in [-infinity, -1.0, 0.0, f32::MAX, infinity, f32::NAN] {
                assert_eq!(ask(Test::AtMost(threshold), passes, value), value <= threshold, "{value} <= {threshold}");
                assert_eq!(ask(Test::Below(threshold), passes, value), value < threshold, "{value} < {threshold}");
                assert_eq!(ask(Test::Equal(threshold), passes, value), value == threshold, "{value} == {threshold}");
                assert_eq!(ask(Test::AtMost(threshold), passes, f32::NAN), passes);
                assert_eq!(ask(Test::Below(threshold), passes, f32::NAN), passes);
                assert_eq!(ask(Test::Equal(threshold), passes, f32::NAN), passes);
            }
        }
    }
}

/// Prints what a call takes; 500 trees of 63 leaves and 30 columns.
/// `cargo test --release -p inference --lib forest::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
fn speed() {
    let mut random = Random(3);
    let mut builder = Builder::<f64, f64>::new(30, 1, Codes::Truncated);
    for _ in 0..500 {
        builder.tree(0, 0, &grown(&mut random, 30, 63)).unwrap();
    }
    let forest = builder.build();
    let rows = rows(&mut random, 30, 1024);
    for count in [1, 8, 64, 256] {
        let mut times: Vec<f64> = Vec::new();
        for _ in 0..40 {
            let started = Instant::now();
            let mut calls = 0;
            for rows in rows.chunks_exact(30 * count) {
                let mut sums = vec![0.0; count];
                forest.add_to(rows, &mut sums);
                std::hint::black_box(&sums);
                calls += 1;
            }
            times.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
        }
        times.sort_by(f64::total_cmp);
        println!("{count} rows: {:.1} µs, at best {:.1}", times[times.len() / 2], times[0]);
    }
    let mut row = rows[..30].to_vec();
    let started = Instant::now();
    for _ in 0..10_000 {
        row.copy_from_slice(std::hint::black_box(&rows[30..60]));
        forest.canonical(&mut row);
        std::hint::black_box(&row);
    }
    println!("canonical: {:.2} µs a row", started.elapsed().as_secs_f64() * 100.0);
}
