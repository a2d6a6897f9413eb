//! Sending alerts: a bounded queue and a task for each receiver, with retries. A receiver that does not answer holds up
//! neither the loop nor the others.

use super::state::App;
use crate::alerts::{Alert, AlertsSection, EXPIRES};
use crate::clock;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;

/// The first try after a failed one; each further waits twice as long.
const BACKOFF: Duration = Duration::from_millis(500);
/// Bytes of a receiver's answer that are read at most.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What became of a receiver's alerts.
#[derive(Default)]
pub struct Sent {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Webhook,
    Alertmanager,
}

struct Receiver {
    kind: Kind,
    address: String,
    queue: mpsc::Sender<Bytes>,
    /// Taken when the task starts.
    waiting: Mutex<Option<mpsc::Receiver<Bytes>>>,
    counts: Arc<Sent>,
}

/// All receivers, and the alerts that are true.
pub struct Alerting {
    section: AlertsSection,
    receivers: Vec<Receiver>,
    /// By finding and playbook.
    firing: Mutex<BTreeMap<(String, Option<String>), Alert>>,
}

impl Alerting {
    pub fn new(section: &AlertsSection) -> Self {
        let receiver = |kind, address: String| {
            let (queue, waiting) = mpsc::channel(section.queue_max);
            Receiver { kind, address, queue, waiting: Mutex::new(Some(waiting)), counts: Arc::default() }
        };
        let webhooks = section.webhooks.iter().map(|address| receiver(Kind::Webhook, address.clone()));
        let managers = section
            .alertmanager
            .iter()
            .map(|base| receiver(Kind::Alertmanager, format!("{}/api/v2/alerts", base.trim_end_matches('/'))));
        let receivers = webhooks.chain(managers).collect();
        Alerting { section: section.clone(), receivers, firing: Mutex::default() }
    }

    /// Starts a task for each receiver, and one that tells Alertmanagers again what is still true.
    pub fn start(app: &Arc<App>) {
        let timeout = Duration::from_millis(app.alerting.section.timeout_ms);
        for receiver in &app.alerting.receivers {
            let Some(waiting) = receiver.waiting.lock().take() else { continue };
            let work = Work {
                address: receiver.address.clone(),
                attempts: app.alerting.section.attempts_max,
                timeout,
                counts: Arc::clone(&receiver.counts),
            };
            tokio::spawn(work.run(waiting));
        }
        if app.alerting.receivers.iter().any(|receiver| receiver.kind == Kind::Alertmanager) {
            let app = Arc::downgrade(app);
            tokio::spawn(async move {
                let mut interval = tokio::time::interval(Duration::from_micros(EXPIRES.0 as u64 / 5));
                loop {
                    interval.tick().await;
                    let Some(app) = app.upgrade() else { return };
                    app.alerting.remind();
                }
            });
        }
    }

    /// Tells everybody.
    pub fn tell(&self, alert: Alert) {
        if self.receivers.is_empty() {
            return;
        }
        for receiver in &self.receivers {
            let address = self.section.address.as_deref();
            let body = match receiver.kind {
                Kind::Webhook => alert.document(address),
                Kind::Alertmanager => serde_json::json!([alert.for_alertmanager(address, clock::wall())]),
            };
            receiver.hand(&body);
        }
        let place = (alert.finding.id.clone(), alert.playbook.clone());
        if alert.ended.is_some() {
            self.firing.lock().remove(&place);
        } else {
            self.firing.lock().insert(place, alert);
        }
    }

    /// A finding is no longer true: its alerts end.
    pub fn heal(&self, finding: &str, at: vocabulary::Timestamp) {
        let over: Vec<Alert> =
            self.firing.lock().iter().filter(|((id, _), _)| id == finding).map(|(_, alert)| alert.clone()).collect();
        for alert in over {
            self.tell(Alert { ended: Some(at), ..alert });
        }
    }

    fn remind(&self) {
        let (address, now) = (self.section.address.as_deref(), clock::wall());
        let all: Vec<_> = self.firing.lock().values().map(|alert| alert.for_alertmanager(address, now)).collect();
        if all.is_empty() {
            return;
        }
        for receiver in self.receivers.iter().filter(|receiver| receiver.kind == Kind::Alertmanager) {
            receiver.hand(&serde_json::json!(all));
        }
    }

    /// What became of alerts, by receiver.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &Sent)> {
        self.receivers.iter().map(|receiver| (receiver.address.as_str(), &*receiver.counts))
    }
}

impl Receiver {
    fn hand(&self, body: &serde_json::Value) {
        if self.queue.try_send(Bytes::from(body.to_string())).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

struct Work {
    address: String,
    attempts: u32,
    timeout: Duration,
    counts: Arc<Sent>,
}

impl Work {
    async fn run(self, mut waiting: mpsc::Receiver<Bytes>) {
        let client: HyperClient<HttpConnector, Full<Bytes>> = HyperClient::builder(TokioExecutor::new()).build_http();
        while let Some(body) = waiting.recv().await {
            let mut problem = String::new();
            let mut arrived = false;
            for attempt in 0..self.attempts {
                if attempt > 0 {
                    tokio::time::sleep(BACKOFF * 2u32.saturating_pow(attempt - 1)).await;
                }
                match tokio::time::timeout(self.timeout, self.send(&client, body.clone())).await {
                    Ok(Ok(())) => {
                        arrived = true;
                        break;
                    }
                    Ok(Err(error)) => problem = error,
                    Err(_) => problem = format!("no answer within {} ms", self.timeout.as_millis()),
                }
            }
            if arrived {
                self.counts.sent.fetch_add(1, Relaxed);
            } else {
                self.counts.failed.fetch_add(1, Relaxed);
                tracing::error!("an alert could not be told to {} in {} tries: {problem}", self.address, self.attempts);
            }
        }
    }

    async fn send(&self, client: &HyperClient<HttpConnector, Full<Bytes>>, body: Bytes) -> Result<(), String> {
        let request = Request::builder().method(Method::POST).uri(&self.address);
        let request = request.header("content-type", "application/json").body(Full::new(body));
        let request = request.map_err(|error| error.to_string())?;
        let response = client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = response.status();
        // The connection is used again once the answer is read.
        let answer = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        if status.is_success() {
            return Ok(());
        }
        let said = answer.map(|answer| String::from_utf8_lossy(&answer.to_bytes()).into_owned()).unwrap_or_default();
        Err(format!("{status} {}", said.chars().take(200).collect::<String>()))
    }
}
