//! A traceparent header: the caller's trace is continued or a new one begun, and what is sent on is always one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serving::call::Trace;

fuzz_target!(|text: &str| {
    let trace = Trace::of(Some(text));
    let sent = trace.traceparent();
    let again = Trace::of(Some(&sent));
    assert_eq!((again.trace, again.parent, again.sampled), (trace.trace, Some(trace.span), trace.sampled), "{sent}");
    assert!(trace.trace != 0 && trace.span != 0);
    assert!(trace.parent.is_none() || text.contains(&trace.id()));
});
