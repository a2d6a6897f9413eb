//! An ONNX file on its way to ONNX Runtime: what is read of it before the library sees it. The library is not there, so
//! that each file ends as an error.
#![no_main]

use inference::{EngineError, OnnxOptions, OnnxRuntimeModel};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so") };
    },
    |data: &[u8]| {
        match OnnxRuntimeModel::open(data, &OnnxOptions::default()) {
            Ok(_) => panic!("a model without a library"),
            Err(EngineError::NoLibrary { .. } | EngineError::BrokenLibrary { .. }) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
);
