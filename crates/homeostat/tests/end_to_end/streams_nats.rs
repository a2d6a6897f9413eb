//! Streams from a real broker: `kill -9` of the stream, and of the broker.

use crate::broker::Broker;
use crate::streams::{Clicks, clicks, kills, wait};
use crate::support::{Server, told};
use std::time::Duration;

/// How long the broker is down; `HOMEOSTAT_BROKER_DOWN_S` asks for other than 3 s.
fn down() -> Duration {
    let asked = std::env::var("HOMEOSTAT_BROKER_DOWN_S").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(3))
}

#[test]
fn a_stream_of_a_broker_ends_with_the_same_bytes_however_often_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Broker::start(folder.path(), "streams of a broker") else { return };
    let events = clicks(10_000 * kills());
    broker.make();
    broker.publish(&events);
    let calm = Clicks::new(&broker.source());
    let (summary, whole) = calm.run();
    let (_, nothing) = calm.run();
    assert_eq!(summary["rows"].as_u64(), Some(events.len() as u64), "{summary}");
    assert_eq!(summary["lag"]["rows"], 0, "{summary}");
    let stormy = Clicks::new(&broker.source());
    let cut = stormy.cut_off(kills(), (whole, nothing), 7);
    assert!(cut > kills() / 2, "only {cut} runs were cut off");
    assert!(stormy.left() == calm.left(), "the state or a table differs");
}

#[test]
fn while_the_broker_is_down_the_stream_waits_and_says_so_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Broker::start(folder.path(), "a broker that is down") else { return };
    let events = clicks(60_000);
    let half = events.len() / 2;
    broker.make();
    broker.publish(&events[..half]);
    let project = Clicks::new(&broker.source());
    let server = Server::start(project.root());
    let stream = || server.ok("/v1/streams")["streams"][0].clone();
    let counted = |stream: &serde_json::Value| {
        let counted = ["accepted", "duplicates", "too_late"].map(|name| stream[name].as_u64().unwrap());
        counted.iter().sum::<u64>() as usize
    };
    let mut lagged = 0;
    wait("it is caught up with what was there before", || {
        let stream = stream();
        lagged = lagged.max(stream["lag"]["rows"].as_u64().unwrap_or(0));
        counted(&stream) == half
    });
    assert!(lagged > 1000, "the lag was never shown: {lagged}");
    let (port, before) = (broker.port, server.peak_memory_bytes());
    drop(broker);
    wait("it says that it waits", || {
        let stream = stream();
        stream["state"] == "waiting" && stream["because"].as_str().is_some_and(|why| why.contains("CLICKS"))
    });
    std::thread::sleep(down());
    assert_eq!(counted(&stream()), half);
    let broker = Broker::on(folder.path(), port);
    broker.publish(&events[half..]);
    wait("all is taken in", || counted(&stream()) == events.len());
    assert_eq!(stream()["state"], "running");
    let after = server.peak_memory_bytes();
    assert!(after < before + (128 << 20), "memory went from {before} to {after}");
    server.stop();
    // As if the broker had always been there, but for the window that it takes to see so.
    let calm = Clicks::new(&broker.source());
    let summary = told(calm.root(), &["stream", "run", "clicks", "--until-end"]);
    let seen = told(project.root(), &["stream", "status", "clicks"])["streams"][0].clone();
    for name in ["accepted", "late", "duplicates", "too_late", "closed", "corrected", "watermark", "tables"] {
        assert_eq!(seen[name], summary[name], "{name}");
    }
    assert!(project.left() == calm.left(), "the state or a table differs");
}
