//! Changes in worlds that were quiet: found in time, and called by their names. The example `judgement` runs a hundred
//! worlds of each.

use simulation::features::trials::{WINDOW, named_changes, search};
use simulation::features::{Change, WorldOptions};

fn world(seed: u64) -> WorldOptions {
    WorldOptions { seed: 500 + seed, ..WorldOptions::default() }
}

#[test]
fn each_change_is_found_and_named_within_a_day() {
    for (name, change) in named_changes() {
        for seed in 0..2 {
            let found = search(world(seed), &change, 72, WINDOW);
            assert!(found.early == 0 && found.rows.is_some() && found.named, "{name} in world {seed}: {found:?}");
        }
    }
}

#[test]
fn a_shift_of_a_fifth_of_a_deviation_in_one_of_fifty_is_found_within_three_thousand_rows() {
    for seed in 0..4 {
        let found = search(world(seed), &Change::Shift { feature: 30, sigma: 0.2 }, 168, 90);
        assert!(found.named && found.rows.is_some_and(|rows| rows <= 3000), "world {seed}: {found:?}");
        assert!(found.dated_off.is_some_and(|off| off <= 24), "world {seed}: {found:?}");
    }
}

#[test]
fn a_change_in_one_segment_is_placed_there() {
    let change = Change::SegmentShift { feature: 30, segment: 3, sigma: 2.0 };
    let found = search(world(9), &change, 72, 48);
    assert!(found.named, "{found:?}");
    assert!(found.said.iter().any(|said| said.contains("x30 where segment=3")), "{found:?}");
}
