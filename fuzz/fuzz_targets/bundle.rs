//! A version's bundle: every damage is found, and what is read is written again bit by bit.
#![no_main]

use inference::{Bundle, Predictor};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

const SECTIONS: [&str; 5] = ["manifest.json", "calibration.json", "model.bin", "earlier.0.manifest.json", "other"];

// Bytes that are no bundle are made into one, as its digests would stop them otherwise: for each section its length in
// two bytes and its content.
fuzz_target!(|data: &[u8]| {
    match Bundle::decode(data) {
        Ok(bundle) => assert_eq!(bundle.encode(), data),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let (mut sections, mut rest) = (BTreeMap::new(), data);
    for name in SECTIONS {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
        let (content, after) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
        sections.insert(name.to_owned(), content.to_vec());
        rest = after;
    }
    let bundle = Bundle::new(sections).expect("the names are good");
    assert_eq!(Bundle::decode(&bundle.encode()).expect("what was written"), bundle);
    let _ = Predictor::load(&bundle);
    bundle.earlier().take(8).for_each(drop);
});
