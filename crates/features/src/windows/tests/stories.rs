//! The engine against the recomputation, step by step; and what must not matter: order, cuts, restarts.

use super::super::*;
use super::naive::{Expected, Fate, Naive, assert_same, lookup};
use super::scenario::{Dice, SECOND, Scenario, Step, aggregates, event, spec};
use serde_json::json;
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

fn at_random(dice: &mut Dice, scenario: &Scenario, naive: &Naive) -> (Key, Timestamp) {
    let key = scenario.keys[dice.below(scenario.keys.len() as i64) as usize].clone();
    let newest = naive.accepted.iter().map(|event| event.time.0).max().unwrap_or(0);
    let oldest = naive.horizon().max(newest - 500 * SECOND);
    let at = oldest + dice.below((newest + 100 * SECOND - oldest).max(1));
    let near = if dice.one_in(2) { at.div_euclid(SECOND) * SECOND } else { at };
    (key, Timestamp(near.max(oldest)))
}

fn shown(window: &Window) -> (usize, Key, i64, i64, u32, bool) {
    let withdrawn = window.emission == Emission::Withdrawn;
    (window.window, window.key.clone(), window.start.0, window.end.0, window.pane, !withdrawn)
}

fn check_emitted(spec: &StreamSpec, mut emitted: Vec<Window>, mut expected: Vec<Expected>, what: &str) {
    emitted.sort_by_key(shown);
    expected.sort_by_key(|(w, key, start, end, pane, values)| (*w, key.clone(), *start, *end, *pane, values.is_some()));
    let ours: Vec<_> = emitted.iter().map(shown).collect();
    let theirs: Vec<_> = expected
        .iter()
        .map(|(w, key, s, e, pane, values)| (*w, key.clone(), *s, *e, *pane, values.is_some()))
        .collect();
    assert_eq!(ours, theirs, "{what}");
    for (window, (place, _, _, _, pane, values)) in emitted.iter().zip(&expected) {
        assert_eq!(window.emission == Emission::Closed, values.is_some() && *pane == 0);
        let alone = StreamSpec { windows: vec![spec.windows[*place].clone()], ..spec.clone() };
        assert_same(&alone, &window.values, values.as_deref().unwrap_or_default(), what);
    }
}

/// Runs a scenario; everything that the engine says is compared with the recomputation.
fn run(scenario: &Scenario, seed: u64) -> (Engine, Naive) {
    let mut dice = Dice::new(seed ^ 77);
    let mut engine = Engine::new(&scenario.spec).unwrap();
    let mut naive = Naive::new(&scenario.spec, scenario.partitions);
    let partitions: Vec<Partition> = (0..scenario.partitions).map(|i| engine.partition(&format!("part-{i}"))).collect();
    let mut row = Vec::new();
    for (i, step) in scenario.steps.iter().enumerate() {
        let what = format!("seed {seed}, step {i}");
        // A late event's corrections come first, then what the watermark closes.
        let mut expected = Vec::new();
        match step {
            Step::Event(partition, event) => {
                let pushed = engine.push(partitions[*partition], event);
                let fate = naive.push(*partition, event);
                let same = match pushed {
                    Pushed::Accepted => fate == Fate::Accepted,
                    Pushed::Duplicate => matches!(fate, Fate::Duplicate | Fate::OldDuplicate),
                    Pushed::TooLate => matches!(fate, Fate::TooLate | Fate::OldDuplicate),
                    Pushed::Ahead | Pushed::Refused(_) => false,
                };
                assert!(same, "{what}: {pushed:?} and should be {fate:?}");
                expected.extend(naive.emissions());
            }
            Step::Idle(partition) => {
                engine.idle(partitions[*partition]);
                naive.partitions[*partition].1 = true;
            }
        }
        naive.advance();
        expected.extend(naive.emissions());
        let watermark = if naive.watermark == super::naive::BEGINNING { i64::MIN } else { naive.watermark };
        assert_eq!(engine.watermark().0, watermark, "{what}");
        check_emitted(&scenario.spec, engine.take_emitted(), expected, &what);
        if dice.one_in(4) {
            let (key, at) = at_random(&mut dice, scenario, &naive);
            engine.lookup(&key, at, &mut row).unwrap();
            let events: Vec<&Event> = naive.accepted.iter().collect();
            assert_same(&scenario.spec, &row, &lookup(&scenario.spec, &events, &key, at.0), &format!("{what} at {at}"));
        }
    }
    (engine, naive)
}

const SEEDS: u64 = 400;

/// Two sessions were emitted; a late event between them makes them one.
#[test]
fn a_late_event_joins_sessions() {
    let count = json!([{"name": "events", "as": "count"}]);
    let windows = json!([{"name": "visit", "kind": "session", "gap": "10s", "aggregate": count}]);
    let mut engine = Engine::new(&spec(windows, json!({"allowed_lateness": "1m"}))).unwrap();
    let partition = engine.partition("only");
    let mut told = |seconds: i64| {
        let event = event(seconds * SECOND, 1, None, Value::Null, Value::Null);
        assert_eq!(engine.push(partition, &event), Pushed::Accepted);
        let line = |window: Window| {
            let (start, end) = (window.start.0 / SECOND, window.end.0 / SECOND);
            format!("{:?} {start}..{end} pane {} {:?}", window.emission, window.pane, window.values)
        };
        engine.take_emitted().into_iter().map(line).collect::<Vec<_>>()
    };
    assert!(told(0).is_empty());
    assert_eq!(told(15), ["Closed 0..10 pane 0 [Number(1.0)]"]);
    assert_eq!(told(40), ["Closed 15..25 pane 0 [Number(1.0)]"]);
    assert_eq!(told(8), ["Withdrawn 15..25 pane 1 []", "Corrected 0..25 pane 1 [Number(3.0)]"]);
    // A late event that opens a session again: it is told anew when it has closed.
    assert!(told(33).is_empty());
    assert!(told(24).is_empty());
    assert_eq!(told(60), ["Corrected 0..50 pane 2 [Number(6.0)]"]);
}

#[test]
fn everything_said_equals_a_recomputation_over_all_events() {
    let mut sum = Counters::default();
    for seed in 0..SEEDS {
        let scenario = Scenario::new(seed, 120);
        let (engine, naive) = run(&scenario, seed);
        let counters = engine.counters();
        assert_eq!(counters.accepted, naive.accepted.len() as u64);
        sum.accepted += counters.accepted;
        sum.late += counters.late;
        sum.duplicate += counters.duplicate;
        sum.too_late += counters.too_late;
        sum.closed += counters.closed;
        sum.corrected += counters.corrected;
        sum.withdrawn += counters.withdrawn;
        assert_eq!(engine.sizes(), Engine::from_bytes(&scenario.spec, &engine.to_bytes()).unwrap().sizes());
    }
    // The scenarios have enough of everything.
    for count in [sum.late, sum.duplicate, sum.too_late, sum.closed, sum.corrected] {
        assert!(count > 1000, "{sum:?}");
    }
    assert!(sum.withdrawn > 30, "{sum:?}");
}

#[test]
fn a_look_up_equals_the_backfill_bit_for_bit() {
    for seed in 0..SEEDS / 2 {
        let scenario = Scenario::new(seed, 120);
        let (engine, naive) = run(&scenario, seed);
        let mut dice = Dice::new(seed);
        let queries: Vec<Query> = (0..40)
            .map(|_| {
                let (key, at) = at_random(&mut dice, &scenario, &naive);
                Query { key, at }
            })
            .collect();
        let rows = backfill(&scenario.spec, &naive.accepted, &queries, Knowledge::Complete).unwrap();
        let mut reversed = naive.accepted.clone();
        reversed.reverse();
        // The duplicates are in history too.
        reversed.extend(naive.accepted.iter().filter(|event| event.id.is_some()).cloned());
        let again = backfill(&scenario.spec, &reversed, &queries, Knowledge::Complete).unwrap();
        let mut row = Vec::new();
        for (i, query) in queries.iter().enumerate() {
            engine.lookup(&query.key, query.at, &mut row).unwrap();
            assert!(row.iter().zip(&rows[i]).all(|(a, b)| a.same(b)), "seed {seed}: {row:?} {:?}", rows[i]);
            assert!(row.iter().zip(&again[i]).all(|(a, b)| a.same(b)), "seed {seed}: {row:?} {:?}", again[i]);
        }
    }
}

/// Values whose plain sums depend on order.
fn wild(scenario: &mut Scenario, dice: &mut Dice) {
    for step in &mut scenario.steps {
        if let Step::Event(_, event) = step {
            let magnitude = 10f64.powi(dice.below(25) as i32 - 8);
            event.values[0] = Value::number((dice.below(20_001) - 10_000) as f64 / 7.0 * magnitude);
        }
    }
}

#[test]
fn the_order_of_arrival_changes_no_bit() {
    for seed in 0..SEEDS / 4 {
        let mut scenario = Scenario::new(seed, 150);
        let mut dice = Dice::new(seed ^ 5);
        wild(&mut scenario, &mut dice);
        scenario.spec.allowed_lateness = vocabulary::Span::days(1);
        let mut events: Vec<Event> = Vec::new();
        for step in &scenario.steps {
            if let Step::Event(_, event) = step
                && (event.id.is_none() || events.iter().all(|other| other.id != event.id))
            {
                events.push(event.clone());
            }
        }
        let fed = |events: &[Event]| {
            let mut engine = Engine::new(&scenario.spec).unwrap();
            let partition = engine.partition("only");
            for event in events {
                assert_eq!(engine.push(partition, event), Pushed::Accepted);
            }
            engine
        };
        let engine = fed(&events);
        let mut shuffled = events.clone();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, dice.below(i as i64 + 1) as usize);
        }
        let other = fed(&shuffled);
        let queries: Vec<Query> = (0..60)
            .map(|_| {
                let at = events[dice.below(events.len() as i64) as usize].time.0 + dice.below(30 * SECOND);
                Query { key: scenario.keys[0].clone(), at: Timestamp(at) }
            })
            .collect();
        let rows = backfill(&scenario.spec, &shuffled, &queries, Knowledge::Complete).unwrap();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (query, row) in queries.iter().zip(rows) {
            engine.lookup(&query.key, query.at, &mut a).unwrap();
            other.lookup(&query.key, query.at, &mut b).unwrap();
            assert!(a.iter().zip(&b).all(|(a, b)| a.same(b)), "seed {seed}: {a:?} {b:?}");
            assert!(a.iter().zip(&row).all(|(a, b)| a.same(b)), "seed {seed}: {a:?} {row:?}");
        }
    }
}

#[test]
fn a_restart_at_any_moment_changes_no_byte() {
    for seed in 0..SEEDS {
        let scenario = Scenario::new(seed, 120);
        let mut dice = Dice::new(seed ^ 99);
        let [mut still, mut restarted] = [(); 2].map(|()| Engine::new(&scenario.spec).unwrap());
        let (mut out, mut restarted_out) = (Vec::new(), Vec::new());
        for step in &scenario.steps {
            for engine in [&mut still, &mut restarted] {
                match step {
                    Step::Event(partition, event) => {
                        let partition = engine.partition(&format!("part-{partition}"));
                        let _ = engine.push(partition, event);
                    }
                    Step::Idle(partition) => {
                        let partition = engine.partition(&format!("part-{partition}"));
                        engine.idle(partition);
                    }
                }
            }
            if dice.one_in(10) {
                let bytes = restarted.to_bytes();
                restarted = Engine::from_bytes(&scenario.spec, &bytes).unwrap();
                assert_eq!(restarted.to_bytes(), bytes, "seed {seed}");
            }
            if dice.one_in(20) {
                out.extend(still.take_emitted());
                restarted_out.extend(restarted.take_emitted());
            }
        }
        for name in 0..scenario.partitions {
            for engine in [&mut still, &mut restarted] {
                let partition = engine.partition(&format!("part-{name}"));
                engine.end(partition);
            }
        }
        assert_eq!(restarted.to_bytes(), still.to_bytes(), "seed {seed}");
        out.extend(still.take_emitted());
        restarted_out.extend(restarted.take_emitted());
        assert_eq!(restarted_out, out, "seed {seed}");
        // Everything has closed, and nothing is left.
        assert_eq!(still.sizes(), Sizes::default(), "seed {seed}");
    }
}

/// Many events in few tiles: sketches take over, and are the same for any order and cut.
#[test]
fn large_windows_do_not_depend_on_order_either() {
    let windows = json!([
        {"name": "day", "kind": "sliding", "size": "1d", "tile": "1h", "aggregate": aggregates()},
        {"name": "hop", "kind": "hopping", "size": "6h", "slide": "2h", "aggregate": aggregates()},
    ]);
    let spec = spec(windows, json!({"allowed_lateness": "2d"}));
    // Half-lives of seconds do not go with tiles of hours.
    assert!(spec.problems().iter().all(|problem| problem.to_string().contains("half_life")));
    let mut spec = spec;
    spec.windows.iter_mut().flat_map(|window| &mut window.aggregates).for_each(|aggregate| {
        aggregate.half_life = aggregate.half_life.map(|_| vocabulary::Span::hours(5));
    });
    let mut dice = Dice::new(3);
    let mut events: Vec<Event> = (0..12_000)
        .map(|i| {
            let x = Value::number((dice.below(1 << 40) as f64).sqrt() - 3e5);
            let word = Value::Text(format!("word {}", dice.below(4000)).into());
            event(dice.below(24 * 3600) * SECOND, 1, Some(i), x, word)
        })
        .collect();
    let at = [Timestamp(86_400 * SECOND), Timestamp(80_000 * SECOND), Timestamp(43_201 * SECOND)];
    let mut rows: Vec<Vec<Vec<Value>>> = Vec::new();
    for _ in 0..3 {
        let mut engine = Engine::new(&spec).unwrap();
        let partition = engine.partition("only");
        events.iter().for_each(|event| assert_eq!(engine.push(partition, event), Pushed::Accepted));
        let engine = Engine::from_bytes(&spec, &engine.to_bytes()).unwrap();
        let read = |at: &Timestamp| {
            let mut row = Vec::new();
            engine.lookup(&events[0].key, *at, &mut row).unwrap();
            row
        };
        rows.push(at.iter().map(read).collect());
        events.reverse();
        let middle = events.len() / 3;
        events.rotate_left(middle);
    }
    let queries = at.map(|at| Query { key: events[0].key.clone(), at });
    rows.push(backfill(&spec, &events, &queries, Knowledge::Complete).unwrap());
    assert!(rows.windows(2).all(|pair| pair[0] == pair[1]));
    let place = |name: &str| spec.features().iter().position(|feature| feature.name == name).unwrap();
    let number = |name: &str| rows[0][0][place(name)].as_number().unwrap();
    assert_eq!(number("day_events"), 12_000.0);
    assert!((number("day_words") / 3800.0 - 1.0).abs() < 0.06, "{}", number("day_words"));
    let mut sorted: Vec<f64> = events.iter().filter_map(|event| event.values[0].as_number()).collect();
    sorted.sort_by(f64::total_cmp);
    assert!((number("day_p90") / sorted[10_799] - 1.0).abs() < 0.005);
}

/// A look-up made when it was asked equals the training row that is computed later, from the times of knowledge.
#[test]
fn as_known_then_is_what_was_seen_then() {
    for seed in 0..100 {
        let mut scenario = Scenario::new(seed, 150);
        scenario.spec.allowed_lateness = vocabulary::Span::days(1);
        let mut dice = Dice::new(seed);
        let mut engine = Engine::new(&scenario.spec).unwrap();
        let partition = engine.partition("only");
        let mut known = i64::MIN;
        let (mut events, mut queries, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for step in &scenario.steps {
            let Step::Event(_, event) = step else { continue };
            known = known.max(event.time.0) + dice.below(3 * SECOND);
            let event = Event { known_at: Some(Timestamp(known)), ..event.clone() };
            if engine.push(partition, &event) == Pushed::Accepted {
                events.push(event);
            }
            known += 1;
            let key = scenario.keys[dice.below(scenario.keys.len() as i64) as usize].clone();
            let at = Timestamp(known + dice.below(SECOND / 2));
            known = at.0;
            let mut row = Vec::new();
            engine.lookup(&key, at, &mut row).unwrap();
            seen.push(row);
            queries.push(Query { key, at });
            known += 1;
        }
        let rows = backfill(&scenario.spec, &events, &queries, Knowledge::AsKnownThen).unwrap();
        for (i, (row, then)) in rows.iter().zip(&seen).enumerate() {
            let same = row.iter().zip(then).all(|(a, b)| a.same(b));
            assert!(same, "seed {seed}, {:?}: {row:?} {then:?}", queries[i]);
        }
    }
}
