//! Each scenario has the timeline that lies beside it. `HOMEOSTAT_BLESS=1` writes them anew, to be read before they are kept.

use simulation::operations::scenario::Scenario;
use simulation::operations::{model, shift};
use std::path::{Path, PathBuf};
use vocabulary::Playbook;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The playbooks that `init` writes.
fn built_in() -> Vec<Playbook> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../homeostat/src/playbooks");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).collect()
}

fn scenario(name: &str) -> Scenario {
    let path = folder().join(format!("{name}.toml"));
    toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn each_scenario_has_its_expected_timeline() {
    assert!(names().len() >= 10);
    for name in names() {
        let scenario = scenario(&name);
        let timeline = shift::run(&scenario, &model(), &built_in(), scenario.seed);
        assert_eq!(timeline.broken, Vec::<String>::new(), "{name}");
        let path = folder().join(format!("{name}.txt"));
        let text = format!("{}\n\n{}", scenario.about, timeline.text());
        if std::env::var_os("HOMEOSTAT_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == expected, "{name}: expected\n{expected}\nbut saw\n{text}");
    }
}

#[test]
fn whatever_the_chance_the_right_step_comes_in_time_and_no_rule_is_broken() {
    // Scenario, the step, and the minutes within which it comes after the trouble's beginning.
    for (name, step, minutes) in [
        ("surge", "shed", 10),
        ("slow_release", "roll_back", 15),
        ("failing_release", "roll_back", 15),
        ("wrong_release", "roll_back", 180),
        ("label_outage", "freeze", 200),
        ("source_interruption", "freeze", 15),
        ("slow_dependency", "page", 10),
        ("full_disk", "freeze", 5),
    ] {
        let scenario = scenario(name);
        let begins = scenario.troubles[0].from.0 / 60_000_000;
        for seed in 100..130 {
            let timeline = shift::run(&scenario, &model(), &built_in(), seed);
            assert_eq!(timeline.broken, Vec::<String>::new(), "{name}, seed {seed}");
            let first = timeline.first(step).map(|minute| minute - begins);
            assert!(
                first.is_some_and(|after| (0..=minutes).contains(&after)),
                "{name}, seed {seed}: {first:?}\n{}",
                timeline.text()
            );
        }
    }
}

#[test]
fn a_quiet_world_is_left_alone_and_flapping_is_not_followed() {
    for seed in 0..30 {
        let quiet = shift::run(&scenario("quiet_night"), &model(), &built_in(), seed);
        assert!(quiet.alarms.is_empty() && quiet.steps.is_empty(), "seed {seed}:\n{}", quiet.text());
        let flapping = shift::run(&scenario("flapping"), &model(), &built_in(), seed);
        let pages = flapping.steps.iter().filter(|(_, step)| *step == "page").count();
        // At most six a day, as the playbook says, over the two days that the trouble touches.
        assert!((1..=12).contains(&pages), "seed {seed}: {pages} pages\n{}", flapping.text());
    }
}
