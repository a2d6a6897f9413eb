//! The release gate over many worlds, through the whole loop. The example `operations` runs a thousand of each kind.

use simulation::operations::model;
use simulation::operations::release::{Outcome, Release, run};

const WORLDS: u64 = 60;

fn outcomes(release: &Release) -> Vec<Outcome> {
    let all: Vec<Outcome> = (0..WORLDS).map(|seed| run(release, &model(), seed)).collect();
    for (seed, outcome) in all.iter().enumerate() {
        assert_eq!(outcome.broken, Vec::<String>::new(), "seed {seed}");
        // Promoted once and rolled back once at most: who answers does not flap.
        assert!(outcome.changes <= 2, "seed {seed}: {outcome:?}");
    }
    all
}

fn promoted(all: &[Outcome]) -> usize {
    all.iter().filter(|outcome| outcome.promoted.is_some()).count()
}

#[test]
fn what_is_worse_is_not_promoted_and_what_is_better_is() {
    let tolerance = model().release.tolerance;
    let rows_per_day = 1000;
    let worse = outcomes(&Release { gain: -tolerance, rows_per_day, days: 35, at_once: false });
    assert!(promoted(&worse) <= 3, "{} of {WORLDS}", promoted(&worse));
    let better = outcomes(&Release { gain: 2.0 * tolerance, rows_per_day, days: 35, at_once: false });
    assert!(promoted(&better) as u64 >= WORLDS * 85 / 100, "{} of {WORLDS}", promoted(&better));
}

#[test]
fn at_low_traffic_the_answer_is_not_yet() {
    let tolerance = model().release.tolerance;
    for gain in [-tolerance, 2.0 * tolerance] {
        for outcome in outcomes(&Release { gain, rows_per_day: 20, days: 35, at_once: false }) {
            assert!(outcome.promoted.is_none() && outcome.verdicts == ["undecided"], "{outcome:?}");
        }
    }
}

#[test]
fn a_bad_version_that_was_released_by_hand_is_rolled_back() {
    let bad = Release { gain: -0.03, rows_per_day: 1000, days: 21, at_once: true };
    let all = outcomes(&bad);
    let days: Vec<f64> = all.iter().filter_map(|outcome| outcome.rolled_back).collect();
    // The block of the test is a day, and seven are needed before anything is certain.
    assert!(days.len() as u64 == WORLDS && days.iter().all(|day| *day <= 14.0), "{} of {WORLDS}: {days:?}", days.len());
}
