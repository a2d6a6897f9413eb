//! A model in LightGBM's text: it is refused in words, or it answers.
#![no_main]

use fuzz::models::read;
use inference::import::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| -> libfuzzer_sys::Corpus { read(Format::LightgbmText, b"tree\n", data) });
