//! States that were damaged, or are of another stream or version.

use super::super::*;
use super::scenario::{Dice, Scenario, Step};
use crate::hash::{Purpose, SlotHash};

fn state(seed: u64) -> (Scenario, Engine) {
    let scenario = Scenario::new(seed, 60);
    let mut engine = Engine::new(&scenario.spec).unwrap();
    for step in &scenario.steps {
        if let Step::Event(partition, event) = step {
            let partition = engine.partition(&format!("part-{partition}"));
            let _ = engine.push(partition, event);
        }
    }
    (scenario, engine)
}

#[test]
fn damage_is_seen() {
    let (scenario, engine) = state(5);
    let bytes = engine.to_bytes();
    for place in (0..bytes.len()).step_by(bytes.len() / 300 + 1) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        assert!(Engine::from_bytes(&scenario.spec, &damaged).is_err(), "byte {place}");
        assert!(Engine::from_bytes(&scenario.spec, &bytes[..place]).is_err(), "cut at {place}");
    }
}

#[test]
fn another_declaration_or_version_is_named() {
    let (scenario, engine) = state(6);
    let bytes = engine.to_bytes();
    let refused =
        |spec: &vocabulary::StreamSpec, bytes: &[u8]| Engine::from_bytes(spec, bytes).unwrap_err().to_string();
    let mut other = scenario.spec.clone();
    other.windows[0].name = "renamed".to_owned();
    assert_eq!(
        refused(&other, &bytes),
        "state of stream \"clicks\": it was made with another declaration; take the declaration back, or begin anew from \
         the source"
    );
    let mut newer = bytes.clone();
    newer[6] = 9;
    assert!(refused(&scenario.spec, &newer).contains("it has version 9, this program reads version 1"));
    // Limits, the source and idleness may change under a state.
    other = scenario.spec.clone();
    other.limits.keys = 7;
    assert!(Engine::from_bytes(&other, &bytes).is_ok());
}

/// Bytes whose check is right although they are wrong: refused, or a state that goes on without panics.
#[test]
fn strange_states_never_break_the_engine() {
    let mut read = 0;
    for seed in 0..120 {
        let (scenario, engine) = state(seed % 12);
        let mut dice = Dice::new(seed);
        let mut bytes = engine.to_bytes();
        let body = bytes.len() - 8;
        for _ in 0..200 {
            let place = 16 + dice.below(body as i64 - 16) as usize;
            let before = bytes[place];
            bytes[place] = dice.below(256) as u8;
            let check = SlotHash::prefix(1, Purpose::Distinct, &[]).bytes(&bytes[..body]).finish();
            bytes[body..].copy_from_slice(&check.to_le_bytes());
            if let Ok(mut engine) = Engine::from_bytes(&scenario.spec, &bytes) {
                read += 1;
                let again = engine.to_bytes();
                assert_eq!(Engine::from_bytes(&scenario.spec, &again).unwrap().to_bytes(), again);
                for step in &scenario.steps {
                    if let Step::Event(partition, event) = step {
                        let partition = engine.partition(&format!("part-{partition}"));
                        let _ = engine.push(partition, event);
                        let _ = engine.lookup(&event.key, event.time, &mut Vec::new());
                    }
                }
            }
            bytes[place] = before;
        }
    }
    assert!(read > 100, "{read}");
}
