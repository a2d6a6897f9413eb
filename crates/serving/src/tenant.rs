//! Tenants: who asks, how much each may ask, and in which proportion they share what is scarce. Keys are known by their
//! digests only. The table is replaced whole while the server runs; what a tenant has used stays with its name.

use crate::refusal::{Answer, Refusal};
use axum::http::{HeaderMap, StatusCode, header};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The name under which requests without a key are counted where no tenants are declared, and the declared tenant that
/// they belong to where one has this name.
pub const ANONYMOUS: &str = "anonymous";

/// How a key's digest begins in a file.
pub const KEY_PREFIX: &str = "blake3:";

/// A tenant as it is declared.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    pub name: String,
    /// `blake3:` and the hexadecimal digest of each key that belongs to it.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Its share of compute time under contention, relative to the others'.
    #[serde(default = "one")]
    pub weight: f64,
    /// Rows a second at most, over time; a second's worth may come at once.
    #[serde(default)]
    pub rows_per_second: Option<f64>,
    /// Rows of this tenant that wait at most.
    #[serde(default = "queue_rows")]
    pub queue_rows_max: usize,
    /// Requests of this tenant in work at once, at most.
    #[serde(default = "requests")]
    pub requests_max: usize,
    /// The models that it may ask; all when left out.
    #[serde(default)]
    pub models: Option<Vec<String>>,
}

fn one() -> f64 {
    1.0
}

fn queue_rows() -> usize {
    16_384
}

fn requests() -> usize {
    512
}

impl TenantSpec {
    pub fn named(name: &str) -> TenantSpec {
        TenantSpec {
            name: name.to_owned(),
            keys: Vec::new(),
            weight: one(),
            rows_per_second: None,
            queue_rows_max: queue_rows(),
            requests_max: requests(),
            models: None,
        }
    }

    fn problem(&self) -> Option<String> {
        let name = &self.name;
        if name.is_empty() || name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Some(format!("tenant \"{name}\": a name has 1 to 64 letters, digits, - _ or ."));
        }
        if !(self.weight.is_finite() && self.weight > 0.0) {
            return Some(format!("tenant \"{name}\": weight = {} must be above zero", self.weight));
        }
        if self.rows_per_second.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
            return Some(format!("tenant \"{name}\": rows_per_second must be above zero; leave it out for no limit"));
        }
        self.keys.iter().find(|key| parsed(key).is_none()).map(|key| {
            let shown: String = key.chars().take(12).collect();
            format!(
                "tenant \"{name}\": key \"{shown}…\" is not {KEY_PREFIX} and 64 hexadecimal digits; make one with \
                 `homeostat token create --role client --tenant {name}`"
            )
        })
    }
}

fn parsed(key: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(key.strip_prefix(KEY_PREFIX)?).ok().map(|hash| *hash.as_bytes())
}

/// What is written down of a key.
pub fn digest_of(key: &str) -> String {
    format!("{KEY_PREFIX}{}", blake3::hash(key.as_bytes()).to_hex())
}

/// A tenant at work.
pub struct Tenant {
    pub name: Arc<str>,
    spec: RwLock<Arc<TenantSpec>>,
    bucket: Mutex<(f64, Instant)>,
    pub usage: Usage,
}

/// What a tenant used and was refused.
#[derive(Default)]
pub struct Usage {
    pub requests: AtomicU64,
    pub rows: AtomicU64,
    /// CPU time of decoding, models and encoding for it.
    pub compute_ns: AtomicU64,
    /// Its share of what the process spent beside that.
    pub overhead_ns: AtomicU64,
    pub in_work: AtomicUsize,
    /// Requests up to which overhead was shared out.
    settled: AtomicU64,
    refused: Mutex<HashMap<&'static str, u64>>,
}

impl Usage {
    pub fn refuse(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<_> = self.refused.lock().iter().map(|(reason, n)| (*reason, *n)).collect();
        all.sort_unstable();
        all
    }
}

/// A request in work, counted against its tenant until it is dropped.
pub struct InWork(Arc<Tenant>);

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.usage.in_work.fetch_sub(1, Relaxed);
    }
}

impl Tenant {
    fn new(spec: TenantSpec) -> Arc<Tenant> {
        let full = spec.rows_per_second.unwrap_or(0.0);
        Arc::new(Tenant {
            name: spec.name.as_str().into(),
            spec: RwLock::new(Arc::new(spec)),
            bucket: Mutex::new((full, Instant::now())),
            usage: Usage::default(),
        })
    }

    pub fn spec(&self) -> Arc<TenantSpec> {
        Arc::clone(&self.spec.read())
    }

    /// Counts a request in, or refuses it.
    pub fn enter(self: &Arc<Self>) -> Answer<InWork> {
        let most = self.spec().requests_max;
        if self.usage.in_work.fetch_add(1, Relaxed) >= most {
            self.usage.in_work.fetch_sub(1, Relaxed);
            let what = format!("tenant \"{}\" has {most} requests in work already (requests_max)", self.name);
            return Err(Refusal::contended("tenant_requests", what, Duration::from_secs(1)));
        }
        Ok(InWork(Arc::clone(self)))
    }

    /// Requests since this was last asked.
    pub(crate) fn unsettled(&self) -> u64 {
        let requests = self.usage.requests.load(Relaxed);
        requests.saturating_sub(self.usage.settled.swap(requests, Relaxed))
    }

    /// Takes `rows` from its quota, or says when there will be as many.
    pub fn spend(&self, rows: usize, now: Instant) -> Answer<()> {
        let Some(rate) = self.spec().rows_per_second else { return Ok(()) };
        let mut bucket = self.bucket.lock();
        let (tokens, since) = *bucket;
        let tokens = (tokens + rate * now.saturating_duration_since(since).as_secs_f64()).min(rate.max(1.0));
        // A request larger than a second's worth passes when the bucket is full, and then leaves a debt.
        let needed = (rows as f64).min(rate.max(1.0));
        if tokens + 1e-9 < needed {
            *bucket = (tokens, now);
            let wait = Duration::from_secs_f64((needed - tokens) / rate);
            let what = format!("tenant \"{}\" has used its {rate} rows a second; ask again later", self.name);
            return Err(Refusal::contended("quota", what, wait));
        }
        *bucket = (tokens - rows as f64, now);
        Ok(())
    }

    pub fn may_ask(&self, model: &str) -> Answer<()> {
        match &self.spec().models {
            Some(models) if !models.iter().any(|allowed| allowed == model) => {
                let what = format!("tenant \"{}\" may not ask model \"{model}\"", self.name);
                Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", what))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
struct Table {
    by_key: HashMap<[u8; 32], Arc<Tenant>>,
    by_name: HashMap<Arc<str>, Arc<Tenant>>,
    /// Who asks without a key; none where a key is required.
    keyless: Option<Arc<Tenant>>,
}

/// All tenants. Without any declared, everybody is [`ANONYMOUS`].
pub struct Tenants {
    table: RwLock<Arc<Table>>,
}

impl Default for Tenants {
    fn default() -> Self {
        let tenant = Tenant::new(TenantSpec::named(ANONYMOUS));
        let by_name = HashMap::from([(Arc::clone(&tenant.name), Arc::clone(&tenant))]);
        Tenants { table: RwLock::new(Arc::new(Table { by_name, keyless: Some(tenant), ..Table::default() })) }
    }
}

impl Tenants {
    /// What is wrong with a declaration, in words.
    pub fn problems(specs: &[TenantSpec]) -> Vec<String> {
        let mut problems: Vec<String> = specs.iter().filter_map(TenantSpec::problem).collect();
        let (mut names, mut keys) = (HashMap::new(), HashMap::new());
        for spec in specs {
            if names.insert(&spec.name, ()).is_some() {
                problems.push(format!("tenant \"{}\" is declared twice", spec.name));
            }
            for key in &spec.keys {
                if let Some(other) = keys.insert(key, &spec.name) {
                    problems.push(format!("tenants \"{other}\" and \"{}\" have the same key", spec.name));
                }
            }
        }
        problems
    }

    /// Puts a new declaration into force. Tenants that stay keep what they have used.
    pub fn replace(&self, specs: &[TenantSpec]) {
        let before = Arc::clone(&self.table.read());
        let mut specs = specs.to_vec();
        let open = specs.is_empty();
        if open {
            specs.push(TenantSpec::named(ANONYMOUS));
        }
        let mut table = Table::default();
        for spec in specs {
            let tenant = match before.by_name.get(spec.name.as_str()) {
                Some(known) => {
                    *known.spec.write() = Arc::new(spec.clone());
                    Arc::clone(known)
                }
                None => Tenant::new(spec.clone()),
            };
            for key in spec.keys.iter().filter_map(|key| parsed(key)) {
                table.by_key.insert(key, Arc::clone(&tenant));
            }
            if &*tenant.name == ANONYMOUS && spec.keys.is_empty() {
                table.keyless = Some(Arc::clone(&tenant));
            }
            table.by_name.insert(Arc::clone(&tenant.name), tenant);
        }
        *self.table.write() = Arc::new(table);
    }

    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let mut all: Vec<_> = self.table.read().by_name.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whose key this is.
    pub fn of_key(&self, key: Option<&str>) -> Answer<Arc<Tenant>> {
        let table = Arc::clone(&self.table.read());
        let Some(key) = key else {
            return table.keyless.clone().ok_or_else(|| {
                Refusal::unauthorized(
                    "a key is needed here: send it as `authorization: Bearer KEY` or `x-api-key: KEY`",
                )
            });
        };
        // Looking a digest up tells an attacker by its timing something about digests, not about keys.
        match table.by_key.get(blake3::hash(key.as_bytes()).as_bytes()) {
            Some(tenant) => Ok(Arc::clone(tenant)),
            // Where nobody needs a key, one that is sent all the same is ignored.
            None if table.by_key.is_empty() => table.keyless.clone().ok_or_else(unknown),
            None => Err(unknown()),
        }
    }

    pub fn of_headers(&self, headers: &HeaderMap) -> Answer<Arc<Tenant>> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")));
        let key = bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()));
        self.of_key(key.map(str::trim))
    }
}

fn unknown() -> Refusal {
    Refusal::unauthorized("this key belongs to no tenant; ask whoever runs the server for one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, key: &str) -> TenantSpec {
        TenantSpec { keys: vec![digest_of(key)], ..TenantSpec::named(name) }
    }

    #[test]
    fn keys_name_their_tenant_and_changes_keep_what_was_used() {
        let tenants = Tenants::default();
        assert_eq!(&*tenants.of_key(None).unwrap().name, ANONYMOUS);
        tenants.replace(&[spec("a", "ka"), spec("b", "kb")]);
        assert_eq!(tenants.of_key(None).err().unwrap().status, 401);
        assert_eq!(tenants.of_key(Some("kc")).err().unwrap().status, 401);
        let a = tenants.of_key(Some("ka")).unwrap();
        a.usage.rows.fetch_add(7, Relaxed);
        tenants.replace(&[TenantSpec { weight: 3.0, ..spec("a", "new") }]);
        assert!(tenants.of_key(Some("ka")).is_err() && tenants.of_key(Some("kb")).is_err());
        let a = tenants.of_key(Some("new")).unwrap();
        assert_eq!((a.usage.rows.load(Relaxed), a.spec().weight), (7, 3.0));
    }

    #[test]
    fn a_quota_says_when_to_come_again() {
        let tenant = Tenant::new(TenantSpec { rows_per_second: Some(10.0), ..TenantSpec::named("a") });
        let start = Instant::now();
        assert!(tenant.spend(10, start).is_ok());
        let refused = tenant.spend(5, start).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.reason, refused.retry_after_s), (429, "quota", Some(1)));
        assert!(tenant.spend(5, start + Duration::from_millis(500)).is_ok());
        // More than a second's worth passes once the bucket is full, and is paid back.
        assert!(tenant.spend(30, start + Duration::from_secs(3)).is_ok());
        assert!(tenant.spend(1, start + Duration::from_secs(4)).is_err());
        assert!(tenant.spend(1, start + Duration::from_millis(5200)).is_ok());
    }

    #[test]
    fn what_is_declared_wrongly_is_said() {
        let bad = [
            TenantSpec { weight: 0.0, ..TenantSpec::named("a") },
            TenantSpec { keys: vec!["secret".into()], ..TenantSpec::named("b") },
            TenantSpec::named("b"),
            TenantSpec::named("c d"),
        ];
        let problems = Tenants::problems(&bad).join("\n");
        for what in ["weight = 0", "is not blake3:", "declared twice", "\"c d\""] {
            assert!(problems.contains(what), "{problems}");
        }
    }
}
