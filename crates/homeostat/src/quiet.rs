//! Test only: the monitors on the quarter that the first model learned from, replayed against itself. Rows change places
//! within their hour of the week, so whatever is found is a false alarm.

use crate::artifact::Artifact;
use crate::project::Project;
use crate::runs::Run;
use crate::training::{self, Order};
use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use control::MonitorSet;
use std::path::Path;
use vocabulary::{Span, Timestamp};

const SEEDS: u64 = 20;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if !entry.path().is_dir() {
            std::fs::copy(entry.path(), place).unwrap();
        } else if entry.file_name() != ".homeostat" {
            copy(&entry.path(), &place);
        }
    }
}

/// splitmix64's next number.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[tokio::test(flavor = "multi_thread")]
async fn january_to_march_against_themselves_raise_no_alarm() {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights"), folder.path());
    let project = Project::load(folder.path()).unwrap();
    let spec = project.model("arrival").unwrap();
    let order = Order {
        model: "arrival".into(),
        seed: 1,
        to: Some("2013-04-01T04:00:00Z".parse().unwrap()),
        ..Order::default()
    };
    let quiet = |_: learning::Progress| {};
    let made =
        training::make(&project, &order, Timestamp(0), &Run::at(&project, "quiet"), "test", &quiet).await.unwrap();
    let artifact = Artifact::load(&project, &made.version).unwrap();
    let rows = training::training_set(&project, spec, &order).await.unwrap().rows;
    let times = rows.column_by_name("event_time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let target = features::target_values(spec, &rows).unwrap();
    let answers = artifact.answers(&rows).unwrap();
    let reference = &artifact.reference.features;
    let bins: Vec<Vec<u16>> = (0..rows.num_rows()).map(|row| features::profile::bins(reference, &rows, row)).collect();
    let mut strata = vec![Vec::new(); 168];
    for row in 0..rows.num_rows() {
        strata[usize::from(Timestamp(times.value(row)).hour_of_week())].push(row);
    }
    for seed in 0..SEEDS {
        let mut state = seed;
        let mut instead: Vec<usize> = (0..rows.num_rows()).collect();
        for stratum in &strata {
            for i in (1..stratum.len()).rev() {
                let j = (random(&mut state) % (i as u64 + 1)) as usize;
                instead.swap(stratum[i], stratum[j]);
            }
        }
        let begin = Timestamp(times.value(0));
        let mut monitors = MonitorSet::new(&artifact.reference, spec, begin);
        let mut look = begin;
        for row in 0..rows.num_rows() {
            let at = Timestamp(times.value(row));
            monitors.observe_inputs(at, &bins[instead[row]]);
            monitors.observe_outcome(at + Span::hours(5), &answers[instead[row]], target[instead[row]]);
            if at - look >= Span::hours(1) {
                look = at;
                let found = monitors.findings(at);
                assert!(found.is_empty(), "seed {seed} at {at}: {}", found[0].message);
            }
        }
    }
}
