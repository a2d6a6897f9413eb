//! Events in a stream of NATS JetStream. The offset is the sequence number that the stream gave a message, and it is
//! kept by us: the consumer at the broker is made at that number whenever reading begins, lives in the broker's memory,
//! acknowledges nothing, and may be lost at any time. What it delivers is numbered without gaps; where a number is
//! missing, what was delivered went astray, and the consumer is made again.
//!
//! The broker's stream must keep what was read already (retention by limits), at least until it was committed here.

use super::{JsonRow, Lag, Offset, Pulled, Rows, Source};
use crate::StorageError;
use async_nats::connection::State;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::{self, Message};
use async_nats::{Client, ConnectOptions};
use futures::StreamExt;
use std::fmt::Display;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::timeout;
use vocabulary::Timestamp;

/// Bytes of messages asked for at a time.
const PULL_BYTES_MAX: usize = 8 << 20;
/// The broker answers within this time, or it is taken to be down.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the broker is asked while nothing is there.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// The broker forgets a consumer that asked for nothing this long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Where the messages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Such as `nats://127.0.0.1:4222`; may name a user and a password.
    pub url: String,
    pub stream: String,
    /// Of all messages of the stream, those with such a subject.
    pub subject: String,
}

/// A stream at a broker: one partition.
pub struct JetStream {
    address: Address,
    names: [String; 1],
    runtime: Handle,
    client: Option<Client>,
    reading: Option<Reading>,
    missed: u64,
}

struct Reading {
    consumer: Consumer<Config>,
    /// What tells this stream from another of its name: when it was made.
    place: String,
    next: u64,
    /// Messages that the consumer delivered so far.
    delivered: u64,
}

impl JetStream {
    /// Nothing is connected yet; that is done when reading. `runtime` drives the connection; reading must be done on
    /// threads that are not its own.
    pub fn new(address: Address, runtime: Handle) -> JetStream {
        let names = [address.stream.clone()];
        JetStream { address, names, runtime, client: None, reading: None, missed: 0 }
    }

    async fn pull(&mut self, from: &Offset, most: usize, patience: Duration) -> Result<Option<Pulled>, StorageError> {
        let until = Instant::now() + patience;
        loop {
            let mut reading = self.reading(from).await?;
            // Given back only if all went well: otherwise the next one begins anew at the offset.
            let fetched = fetch(&mut reading, most).await.map_err(|error| self.unavailable(&error))?;
            if let Some((rows, waiting)) = fetched {
                let next = Offset { place: reading.place.clone(), next: reading.next };
                self.reading = Some(reading);
                let lag = Lag { rows: Some(waiting), bytes: None };
                return Ok(Some(Pulled { rows: Rows::Json(rows), next, lag }));
            }
            self.reading = Some(reading);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            tokio::time::sleep(left.min(ASK_EVERY)).await;
        }
    }

    /// A consumer that delivers from the offset on.
    async fn reading(&mut self, from: &Offset) -> Result<Reading, StorageError> {
        let client = self.client().await?;
        if client.connection_state() != State::Connected {
            self.reading = None;
            return Err(self.unavailable(&"the connection is lost"));
        }
        // An offset without a place is the beginning, wherever that is: once asked, it stays where it was found.
        let fits = |reading: &Reading| match from.place.as_str() {
            "" => reading.delivered == 0,
            place => reading.place == place && reading.next == from.next,
        };
        if let Some(reading) = self.reading.take().filter(fits) {
            return Ok(reading);
        }
        let name = &self.address.stream;
        let context = jetstream::new(client);
        let stream = context.get_stream(name).await.map_err(|error| self.unavailable(&error))?;
        let info = stream.cached_info();
        let place = info.created.unix_timestamp_nanos().to_string();
        let (first, last) = (info.state.first_sequence.max(1), info.state.last_sequence);
        let next = self.begin(from, &place, first, last)?;
        let config = Config {
            description: Some("homeostat".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
            ack_policy: AckPolicy::None,
            filter_subject: self.address.subject.clone(),
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let made = timeout(PATIENCE, stream.create_consumer(config)).await;
        let consumer = made.map_err(|late| self.unavailable(&late))?.map_err(|error| self.unavailable(&error))?;
        Ok(Reading { consumer, place, next, delivered: 0 })
    }

    /// The sequence number to begin with, of a stream that holds those from `first` to `last`.
    fn begin(&mut self, from: &Offset, place: &str, first: u64, last: u64) -> Result<u64, StorageError> {
        let name = &self.address.stream;
        if from.place.is_empty() {
            return Ok(first);
        }
        if from.place != place || last + 1 < from.next {
            return Err(StorageError::Data(format!(
                "stream \"{name}\" at {} is not the one that was read before: it was made anew, or lost what it held \
                 (it ends with message {last}, {} was to come next); remove this stream's state to begin anew",
                self.address.shown(),
                from.next
            )));
        }
        if first > from.next {
            let missing = first - from.next;
            tracing::error!(
                "stream \"{name}\" at {} removed up to {missing} messages before they were read; give it more room \
                 (max_age, max_bytes, max_msgs)",
                self.address.shown()
            );
            self.missed += missing;
        }
        Ok(from.next.max(first))
    }

    async fn client(&mut self) -> Result<Client, StorageError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let options = ConnectOptions::new()
            .name("homeostat")
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .max_reconnects(None);
        let client = options.connect(&self.address.url).await.map_err(|error| self.unavailable(&error))?;
        self.client = Some(client.clone());
        Ok(client)
    }

    fn unavailable(&self, error: &dyn Display) -> StorageError {
        let Address { stream, .. } = &self.address;
        StorageError::Unavailable(format!("stream \"{stream}\" at {}: {error}", self.address.shown()))
    }
}

impl Address {
    /// Without a password.
    fn shown(&self) -> String {
        match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            _ => self.url.clone(),
        }
    }
}

/// Messages that are there now, with how many more there are; none where there is none.
async fn fetch(reading: &mut Reading, most: usize) -> Result<Option<(Vec<JsonRow>, u64)>, String> {
    let found = fetch_up_to(reading, most, PULL_BYTES_MAX).await?;
    match found {
        // One message alone is larger than what is asked for at a time.
        Fetched::TooLarge => match fetch_up_to(reading, 1, 0).await? {
            Fetched::Rows(rows, waiting) => Ok(Some((rows, waiting))),
            Fetched::Nothing => Ok(None),
            Fetched::TooLarge => Err("the broker says that a message is too large for it".to_owned()),
        },
        Fetched::Rows(rows, waiting) => Ok(Some((rows, waiting))),
        Fetched::Nothing => Ok(None),
    }
}

enum Fetched {
    Rows(Vec<JsonRow>, u64),
    Nothing,
    TooLarge,
}

/// `bytes`: 0 for any number.
async fn fetch_up_to(reading: &mut Reading, most: usize, bytes: usize) -> Result<Fetched, String> {
    let asked = reading.consumer.fetch().max_messages(most).max_bytes(bytes).messages();
    let asked = timeout(PATIENCE, asked).await.map_err(|late| late.to_string())?;
    let mut messages = asked.map_err(|error| error.to_string())?;
    let (mut rows, mut waiting) = (Vec::new(), 0);
    while rows.len() < most {
        let message = match timeout(PATIENCE, messages.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(None) => break,
            // What came is good; what is wrong shows again when the rest is asked for.
            Ok(Some(Err(_))) | Err(_) if !rows.is_empty() => break,
            Ok(Some(Err(error))) if bytes > 0 && error.to_string().contains("MaxBytes") => {
                return Ok(Fetched::TooLarge);
            }
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Err(late) => return Err(late.to_string()),
        };
        let (number, delivered, left) = {
            let info = message.info().map_err(|error| error.to_string())?;
            (info.stream_sequence, info.consumer_sequence, info.pending)
        };
        if delivered != reading.delivered + 1 || number < reading.next {
            if rows.is_empty() {
                return Err(format!("message {} of this consumer went astray", reading.delivered + 1));
            }
            break;
        }
        let arrived = arrival(&message);
        rows.push(JsonRow { number, arrived, text: message.message.payload.to_vec() });
        (reading.next, reading.delivered, waiting) = (number + 1, delivered, left);
    }
    Ok(if rows.is_empty() { Fetched::Nothing } else { Fetched::Rows(rows, waiting) })
}

/// When the broker took the message.
fn arrival(message: &Message) -> Option<Timestamp> {
    let nanos = message.info().ok()?.published.unix_timestamp_nanos();
    i64::try_from(nanos / 1000).ok().map(Timestamp)
}

impl Source for JetStream {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn read(
        &mut self,
        _partition: usize,
        from: &Offset,
        most: usize,
        patience: Duration,
    ) -> Result<Option<Pulled>, StorageError> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.pull(from, most, patience))
    }

    fn missed(&self) -> u64 {
        self.missed
    }
}
