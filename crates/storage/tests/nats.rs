//! JetStream as a source, against a real nats-server.
#![cfg(feature = "nats")]

use async_nats::jetstream::{self, stream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use storage::StorageError;
use storage::streams::{Address, JetStream, Offset, Rows, Source};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::ZERO;

fn program() -> Option<&'static str> {
    ["nats-server", "/usr/sbin/nats-server"].into_iter().find(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    })
}

/// Says that a test does nothing, or fails where everything is required.
fn skipped(test: &str) {
    let required = std::env::var("HOMEOSTAT_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "{test}: nats-server is missing, and HOMEOSTAT_REQUIRE_SERVICES=1; run `make services`");
    println!("skipped: {test}: nats-server is missing; run `make services`");
}

/// A broker with its files in a folder.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    /// On a port that is free, or the one that it had before.
    fn start(folder: &Path, port: Option<u16>) -> Option<Broker> {
        let port = port.unwrap_or_else(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("its address").port()
        });
        let child = Command::new(program()?)
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the broker does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Broker { child, port })
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn source(&self, runtime: &Runtime) -> JetStream {
        let address = Address { url: self.url(), stream: "EVENTS".into(), subject: "events.>".into() };
        JetStream::new(address, runtime.handle().clone())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn context(url: &str) -> jetstream::Context {
    jetstream::new(async_nats::connect(url).await.unwrap())
}

async fn make(context: &jetstream::Context, max_messages: i64) {
    let config = stream::Config {
        name: "EVENTS".into(),
        subjects: vec!["events.>".into(), "other.>".into()],
        max_messages,
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
}

/// Events 0 to `count`, from `from` on, each acknowledged by the broker.
async fn publish(context: &jetstream::Context, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let sent = context.publish(format!("events.{}", n % 3), format!("{{\"n\":{n}}}").into()).await.unwrap();
        sent.await.unwrap();
    }
}

/// The numbers of the events that are read from an offset on until there is nothing more.
fn numbers(source: &mut JetStream, from: &mut Offset, most: usize) -> Result<Vec<u64>, StorageError> {
    let mut found = Vec::new();
    while let Some(pulled) = source.read(0, from, most, NOW)? {
        assert!(pulled.rows.len() <= most);
        let Rows::Json(rows) = pulled.rows else { panic!("messages are text") };
        for row in rows {
            assert!(row.arrived.is_some());
            let event: serde_json::Value = serde_json::from_slice(&row.text).unwrap();
            found.push(event["n"].as_u64().unwrap());
        }
        *from = pulled.next;
    }
    Ok(found)
}

#[test]
fn messages_are_read_from_our_own_sequence_number_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Broker::start(folder.path(), None) else { return skipped("messages") };
    let runtime = Runtime::new().unwrap();
    let mut source = broker.source(&runtime);
    let missing = source.read(0, &Offset::default(), 10, NOW).unwrap_err();
    assert!(matches!(&missing, StorageError::Unavailable(why) if why.contains("EVENTS")), "{missing}");
    runtime.block_on(async {
        let context = context(&broker.url()).await;
        make(&context, -1).await;
        publish(&context, 0..500).await;
        context.publish("other.1", "not ours".into()).await.unwrap().await.unwrap();
        publish(&context, 500..1000).await;
    });
    let first = source.read(0, &Offset::default(), 300, NOW).unwrap().unwrap();
    assert_eq!((first.rows.len(), first.lag.rows), (300, Some(700)));
    let mut at = first.next.clone();
    assert_eq!(numbers(&mut source, &mut at, 300).unwrap(), (300..1000).collect::<Vec<_>>());
    assert_eq!(at.next, 1002, "the offset is the stream's, where another subject has a place too");
    // Another process that goes on from an offset, and one that has not begun.
    let (mut from, mut begin) = (first.next, Offset::default());
    assert_eq!(numbers(&mut broker.source(&runtime), &mut from, 999).unwrap(), (300..1000).collect::<Vec<_>>());
    assert_eq!(numbers(&mut broker.source(&runtime), &mut begin, 4096).unwrap().len(), 1000);
    assert_eq!(begin, from);
    // What comes is waited for.
    let waiting = std::thread::spawn({
        let at = at.clone();
        move || source.read(0, &at, 10, PATIENCE).map(|pulled| (source, pulled))
    });
    runtime.block_on(async { publish(&context(&broker.url()).await, 1000..1001).await });
    let (_, pulled) = waiting.join().unwrap().unwrap();
    assert_eq!(pulled.unwrap().rows.len(), 1);
}

#[test]
fn a_broker_that_was_killed_is_gone_on_with_where_reading_was() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Broker::start(folder.path(), None) else { return skipped("broker killed") };
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let context = context(&broker.url()).await;
        make(&context, -1).await;
        publish(&context, 0..400).await;
    });
    let (mut source, port) = (broker.source(&runtime), broker.port);
    let first = source.read(0, &Offset::default(), 150, NOW).unwrap().unwrap();
    let mut at = first.next;
    drop(broker);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match source.read(0, &at, 150, NOW) {
            Err(StorageError::Unavailable(_)) => break,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    }
    let broker = Broker::start(folder.path(), Some(port)).unwrap();
    let mut found = Vec::new();
    while found.len() < 250 {
        match numbers(&mut source, &mut at, 100) {
            Ok(more) => found.extend(more),
            Err(StorageError::Unavailable(_)) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "only {} came", found.len());
    }
    assert_eq!(found, (150..400).collect::<Vec<_>>());
    // The broker forgets the consumer: another is made.
    runtime.block_on(async {
        let context = context(&broker.url()).await;
        let stream = context.get_stream("EVENTS").await.unwrap();
        let mut names = stream.consumer_names();
        while let Some(name) = futures::StreamExt::next(&mut names).await {
            stream.delete_consumer(&name.unwrap()).await.unwrap();
        }
        publish(&context, 400..410).await;
    });
    let mut rest = Vec::new();
    while rest.len() < 10 {
        match numbers(&mut source, &mut at, 100) {
            Ok(more) => rest.extend(more),
            Err(StorageError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "{rest:?}");
    }
    assert_eq!(rest, (400..410).collect::<Vec<_>>());
}

#[test]
fn what_the_broker_removed_is_counted_and_another_stream_of_the_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Broker::start(folder.path(), None) else { return skipped("removed") };
    let runtime = Runtime::new().unwrap();
    let url = broker.url();
    runtime.block_on(async {
        let context = context(&url).await;
        make(&context, 100).await;
        publish(&context, 0..50).await;
    });
    let mut source = broker.source(&runtime);
    let mut at = Offset::default();
    assert_eq!(numbers(&mut source, &mut at, 100).unwrap().len(), 50);
    runtime.block_on(async { publish(&context(&url).await, 50..200).await });
    let mut fresh = broker.source(&runtime);
    assert_eq!(numbers(&mut fresh, &mut at, 100).unwrap(), (100..200).collect::<Vec<_>>());
    assert_eq!(fresh.missed(), 50);
    runtime.block_on(async {
        let context = context(&url).await;
        context.delete_stream("EVENTS").await.unwrap();
        make(&context, 100).await;
        publish(&context, 0..10).await;
    });
    let said = broker.source(&runtime).read(0, &at, 10, NOW).unwrap_err();
    assert!(matches!(&said, StorageError::Data(what) if what.contains("not the one that was read before")), "{said}");
}
