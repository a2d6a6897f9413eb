//! Alerts as others want them: a JSON document for webhooks, and the list of Alertmanager's API v2. How they are sent is not
//! known here.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vocabulary::{Finding, Severity, Span, Timestamp};

/// Version of the document that webhooks get.
const FORMAT: u32 = 1;
/// Alertmanager forgets an alert this long after it was last told: it is told again in time, and a server that died does
/// not leave its alerts behind for ever.
pub const EXPIRES: Span = Span(5 * 60_000_000);

/// Who is told of alarms.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsSection {
    /// Each gets a POST with one alert as JSON.
    pub webhooks: Vec<String>,
    /// Base addresses of Alertmanagers, such as `http://localhost:9093`.
    pub alertmanager: Vec<String>,
    /// Where a person finds this server; named in alerts.
    pub address: Option<String>,
    /// Alerts that wait for one receiver at most; more are dropped and counted.
    pub queue_max: usize,
    /// Tries of one alert before it is given up and counted.
    pub attempts_max: u32,
    /// Milliseconds until a try without an answer counts as failed.
    pub timeout_ms: u64,
}

impl Default for AlertsSection {
    fn default() -> Self {
        let (webhooks, alertmanager, address) = (Vec::new(), Vec::new(), None);
        AlertsSection { webhooks, alertmanager, address, queue_max: 1000, attempts_max: 6, timeout_ms: 5000 }
    }
}

impl AlertsSection {
    pub fn check(&self) -> Result<()> {
        for (key, address) in
            self.webhooks.iter().map(|a| ("webhooks", a)).chain(self.alertmanager.iter().map(|a| ("alertmanager", a)))
        {
            let uri = address.parse::<hyper::Uri>().ok();
            if uri.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.host().is_none()) {
                bail!(
                    "[alerts] {key}: \"{address}\" is no address such as \"http://localhost:9093\"; for https name a \
                     proxy on this machine"
                );
            }
        }
        if self.queue_max == 0 || self.attempts_max == 0 || self.timeout_ms == 0 {
            bail!("[alerts] queue_max, attempts_max and timeout_ms must be above zero");
        }
        Ok(())
    }
}

/// An alarm as it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub finding: Finding,
    pub severity: Severity,
    /// The playbook that asked for it; none for the alarm itself.
    pub playbook: Option<String>,
    /// When it healed; none while it is true.
    pub ended: Option<Timestamp>,
}

impl Alert {
    /// What tells alerts apart: the same labels are the same alert.
    fn labels(&self) -> BTreeMap<&'static str, String> {
        let mut labels: BTreeMap<&'static str, String> = [
            ("alertname", self.finding.kind.name().to_owned()),
            ("service", "homeostat".to_owned()),
            ("model", self.finding.model.clone()),
            ("severity", self.severity.name().to_owned()),
        ]
        .into();
        labels.extend(self.finding.subject.clone().map(|subject| ("subject", subject)));
        labels.extend(self.playbook.clone().map(|playbook| ("playbook", playbook)));
        labels
    }

    /// What a webhook gets.
    pub fn document(&self, address: Option<&str>) -> Value {
        json!({
            "format": FORMAT,
            "status": if self.ended.is_some() { "resolved" } else { "firing" },
            "severity": self.severity,
            "playbook": self.playbook,
            "model": self.finding.model,
            "kind": self.finding.kind,
            "subject": self.finding.subject,
            "message": self.finding.message,
            "finding": self.finding.id,
            "started_at": self.finding.at,
            "ended_at": self.ended,
            "evidence": self.finding.evidence,
            "address": address.map(|address| format!("{address}/#/incidents")),
        })
    }

    /// One alert of `POST /api/v2/alerts`, told at `now`.
    pub fn for_alertmanager(&self, address: Option<&str>, now: Timestamp) -> Value {
        // It wants a start that is not after the end.
        let ends = self.ended.map_or(now + EXPIRES, |ended| ended.max(self.finding.at));
        json!({
            "labels": self.labels(),
            "annotations": { "summary": self.finding.message, "finding": self.finding.id },
            "startsAt": self.finding.at,
            "endsAt": ends,
            "generatorURL": address.map(|address| format!("{address}/#/incidents")).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::FindingKind;

    fn alert() -> Alert {
        let (at, kind) = (Timestamp(1_000_000), FindingKind::Surge);
        let finding = control::finding("m", kind, None, at, at, "too many".into(), BTreeMap::new());
        Alert { finding, severity: Severity::Page, playbook: Some("surge".into()), ended: None }
    }

    #[test]
    fn an_alert_says_what_since_when_and_until_when() {
        let (alert, now) = (alert(), Timestamp(61_000_000));
        let told = alert.for_alertmanager(Some("http://here:8080"), now);
        assert_eq!(told["labels"]["alertname"], "surge");
        assert_eq!(
            (&told["startsAt"], &told["endsAt"]),
            (&json!("1970-01-01T00:00:01Z"), &json!("1970-01-01T00:06:01Z"))
        );
        let healed = Alert { ended: Some(now), ..alert.clone() };
        assert_eq!(healed.for_alertmanager(None, now)["endsAt"], "1970-01-01T00:01:01Z");
        assert_eq!(healed.labels(), alert.labels());
        assert_eq!(healed.document(None)["status"], "resolved");
    }

    #[test]
    fn addresses_are_checked() {
        let with = |address: &str| AlertsSection { webhooks: vec![address.into()], ..AlertsSection::default() }.check();
        assert!(with("http://localhost:9000/hook").is_ok());
        for wrong in ["localhost", "https://x/y", "http://"] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }
}
