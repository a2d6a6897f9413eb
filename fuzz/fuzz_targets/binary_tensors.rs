//! Tensors as bytes, of each datatype.
#![no_main]

use inference::Datatype;
use libfuzzer_sys::fuzz_target;
use serving::wire::binary::{count_strings, read, size, write};

// The first byte picks the datatype; where its highest bit is set, the number of elements is the fitting one, otherwise
// it stands in the next two.
fuzz_target!(|data: &[u8]| {
    let Some(([kind, low, high], bytes)) = fuzz::steered::<3>(data) else { return };
    let datatype = Datatype::ALL[usize::from(kind & 0x7f) % Datatype::ALL.len()];
    let strings = count_strings("x", bytes);
    let count = match (kind & 0x80, datatype.size()) {
        (0, _) => usize::from(u16::from_le_bytes([low, high])),
        (_, Some(size)) => bytes.len() / size,
        (_, None) => strings.as_ref().copied().unwrap_or(0),
    };
    match read("x", datatype, count, bytes) {
        Ok(data) => {
            assert_eq!((data.datatype(), data.len(), size(&data)), (datatype, count, bytes.len()));
            let mut again = Vec::new();
            write(&data, &mut again);
            assert_eq!(again, bytes);
        }
        Err(refusal) => assert!(refusal.status.is_client_error() && !refusal.error.is_empty()),
    }
    if let Ok(count) = strings {
        assert!(read("x", Datatype::Bytes, count, bytes).is_ok(), "{count} were counted");
    }
});
