//! A month of departures in a seeded disorder; the example of the same name does the whole year.

#[path = "../examples/flights_windows/parity.rs"]
mod parity;

use std::path::Path;

#[test]
fn windows_on_line_are_those_of_the_backfill_and_very_late_events_all_stand_aside() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights/data/flights.parquet");
    let events = parity::departures(&file, 25_000).unwrap();
    for seed in [1, 2] {
        let found = parity::measure(&events, seed);
        assert_eq!((found.differences, found.astray), (0, 0), "{found:?}");
        assert_eq!(found.very_late.planted, found.very_late.counted, "{found:?}");
        assert_eq!(found.duplicates.planted, found.duplicates.counted, "{found:?}");
        assert!(found.very_late.counted > 200 && found.duplicates.counted > 400, "{found:?}");
        assert!(found.late.counted > 800 && found.lookups > 25_000, "{found:?}");
    }
}
