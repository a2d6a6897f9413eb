//! Months in which nothing happens, with seasons that try to look like something. The example `judgement` runs a
//! thousand of them.

use simulation::features::WorldOptions;
use simulation::features::trials::quiet_month;

#[test]
fn quiet_months_stay_quiet() {
    for seed in 0..6 {
        let found = quiet_month(WorldOptions { seed, ..WorldOptions::default() });
        let said: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert!(said.is_empty(), "month {seed}: {said:?}");
    }
}
