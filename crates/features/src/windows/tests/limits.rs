//! Memory is bounded, and what a bound turns away is counted and told.

use super::super::*;
use super::scenario::{Dice, SECOND, aggregates, event, spec};
use serde_json::json;
use vocabulary::time::Timestamp;

fn pushed(engine: &mut Engine, time: i64, key: i64, id: Option<i64>) -> Pushed {
    let partition = engine.partition("only");
    engine.push(partition, &event(time * SECOND, key, id, Value::Number(1.0), Value::Null))
}

#[test]
fn a_full_state_refuses_what_is_new_and_empties_itself_with_time() {
    let windows = json!([{"name": "m", "kind": "tumbling", "size": "1m", "aggregate": aggregates()}]);
    let mut engine = Engine::new(&spec(windows, json!({"limits": {"keys": 2, "tiles": 3}}))).unwrap();
    assert_eq!(pushed(&mut engine, 0, 1, None), Pushed::Accepted);
    assert_eq!(pushed(&mut engine, 1, 2, None), Pushed::Accepted);
    assert_eq!(pushed(&mut engine, 2, 3, None), Pushed::Refused(Limit::Keys));
    assert_eq!(pushed(&mut engine, 61, 1, None), Pushed::Accepted);
    assert_eq!(pushed(&mut engine, 62, 2, None), Pushed::Refused(Limit::Tiles));
    assert_eq!(pushed(&mut engine, 62, 1, None), Pushed::Accepted);
    // The first minute can be looked up until the second has ended.
    assert_eq!(pushed(&mut engine, 121, 3, None), Pushed::Refused(Limit::Keys));
    assert_eq!(pushed(&mut engine, 121, 3, None), Pushed::Accepted);
    let counters = engine.counters();
    assert_eq!((counters.accepted, counters.refused_keys, counters.refused_tiles), (5, 2, 1));
}

#[test]
fn whole_events_are_bounded_too() {
    let windows = json!([{"name": "m", "kind": "sliding", "size": "1m", "tile": "10s", "aggregate": aggregates()}]);
    let mut engine = Engine::new(&spec(windows, json!({"limits": {"events": 3}}))).unwrap();
    let outcomes: Vec<Pushed> = (0..5).map(|i| pushed(&mut engine, 20 + i, 1, None)).collect();
    let refused = Pushed::Refused(Limit::Events);
    assert_eq!(outcomes, [Pushed::Accepted, Pushed::Accepted, Pushed::Accepted, refused, refused]);
    // With the next tile the heads of the last one go.
    assert_eq!(pushed(&mut engine, 31, 1, None), Pushed::Refused(Limit::Events));
    assert_eq!(pushed(&mut engine, 32, 1, None), Pushed::Accepted);
    assert_eq!(engine.sizes(), Sizes { keys: 1, tiles: 2, events: 1, ids: 0 });
}

/// However many keys, identifiers and events: the state stays within its limits, and no duplicate is ever counted.
#[test]
fn nothing_grows_without_bound_and_nothing_is_counted_twice() {
    let windows = json!([
        {"name": "h", "kind": "hopping", "size": "2m", "slide": "10s", "aggregate": aggregates()},
        {"name": "s", "kind": "session", "gap": "20s", "aggregate": aggregates()},
    ]);
    let limits = json!({
        "allowed_lateness": "1m", "out_of_order": "10s", "duplicates": {"max": 100},
        "limits": {"keys": 50, "tiles": 600, "events": 400},
    });
    let mut engine = Engine::new(&spec(windows, limits)).unwrap();
    let mut dice = Dice::new(1);
    let mut counted = std::collections::HashSet::new();
    let mut largest = 0;
    for i in 0..30_000i64 {
        let id = if dice.one_in(5) { i - dice.below(1500) } else { i };
        // The event of an identifier is always the same.
        let mut of_id = Dice::new(id as u64);
        let time = id / 10 - of_id.below(40);
        if pushed(&mut engine, time, of_id.below(90), Some(id)) == Pushed::Accepted {
            assert!(counted.insert(id), "{id} is counted twice");
        }
        let sizes = engine.sizes();
        assert!(sizes.keys <= 50 && sizes.tiles <= 600 && sizes.events <= 400 && sizes.ids <= 100, "{sizes:?}");
        if i % 1000 == 0 {
            largest = largest.max(engine.to_bytes().len());
        }
        let _ = engine.take_emitted();
    }
    let c = engine.counters();
    let turned_away = c.refused_keys + c.refused_tiles + c.refused_events + c.refused_duplicates;
    assert_eq!(c.accepted + c.duplicate + c.too_late + turned_away, 30_000);
    assert!(c.refused_duplicates > 0 && c.duplicate > 0 && c.too_late > 0 && turned_away > 0, "{c:?}");
    assert!(largest < 2_000_000, "{largest}");
}

#[test]
fn a_wrong_clock_does_not_make_all_others_late() {
    let windows = json!([{"name": "m", "kind": "tumbling", "size": "1m", "aggregate": aggregates()}]);
    let mut engine = Engine::new(&spec(windows, json!({"ahead_max": "1h"}))).unwrap();
    let partition = engine.partition("only");
    let arrived = |time: i64| Event {
        known_at: Some(Timestamp(10 * SECOND)),
        ..event(time * SECOND, 1, None, Value::Number(1.0), Value::Null)
    };
    assert_eq!(engine.push(partition, &arrived(3700)), Pushed::Ahead);
    assert_eq!(engine.push(partition, &arrived(5)), Pushed::Accepted);
    assert_eq!(engine.push(partition, &arrived(i64::MAX / SECOND)), Pushed::Ahead);
    assert_eq!(engine.push(partition, &arrived(i64::MIN / SECOND)), Pushed::TooLate);
    assert_eq!((engine.counters().ahead, engine.watermark()), (2, Timestamp(5 * SECOND)));
}

#[test]
fn the_past_is_refused_and_not_guessed() {
    let windows = json!([{"name": "m", "kind": "sliding", "size": "1m", "tile": "10s", "aggregate": aggregates()}]);
    let mut engine = Engine::new(&spec(windows, json!({"allowed_lateness": "30s"}))).unwrap();
    assert_eq!(pushed(&mut engine, 100, 1, None), Pushed::Accepted);
    let key = event(0, 1, None, Value::Null, Value::Null).key;
    let mut row = Vec::new();
    assert!(engine.lookup(&key, Timestamp(70 * SECOND), &mut row).is_ok());
    let error = engine.lookup(&key, Timestamp(70 * SECOND - 1), &mut row).unwrap_err().to_string();
    assert!(error.starts_with("1970-01-01T00:01:09.999999Z is before 1970-01-01T00:01:10Z"), "{error}");
}
