//! What a scrape tells: that it adds up, and that nobody can make it grow.

use super::*;
use crate::cache::AnswerCache;
use crate::call::{Call, Stage, Trace};
use crate::plane::{Limits, Parts};
use crate::refusal::Refusal;
use crate::registry::{Listed, Opened, Registry as Models, RegistryOptions, Source};
use crate::schedule::{ScheduleOptions, Scheduler};
use crate::tenant::{TenantSpec, digest_of};
use std::time::{Duration, Instant};

struct Nothing;

impl Source for Nothing {
    fn open(&self, _: &str, _: u32) -> Result<Opened, String> {
        Err("there is none".to_owned())
    }
}

fn plane(tenants: usize) -> Arc<Plane> {
    let plane = Plane::new(Parts {
        registry: Models::new(Arc::new(Nothing), RegistryOptions::default()),
        scheduler: Scheduler::start(ScheduleOptions::default()).unwrap(),
        cache: AnswerCache::new(0, [0; 32]),
        cache_shared: false,
        limits: Limits::default(),
        ready: Box::new(|| true),
        observer: None,
        may_operate: Box::new(|_| Ok(())),
    });
    let spec = |i: usize| TenantSpec { keys: vec![digest_of(&key(i))], ..TenantSpec::named(&format!("t{i}")) };
    plane.tenants.replace(&(0..tenants).map(spec).collect::<Vec<_>>());
    Arc::new(plane)
}

fn key(tenant: usize) -> String {
    format!("key of {tenant}")
}

/// A request that took 20 ms and 3 ms of CPU time.
fn finish(plane: &Plane, tenant: usize, model: &str, outcome: Result<(), &Refusal>) {
    let received = Instant::now() - Duration::from_millis(20);
    let mut call = Call::new(plane.tenants.of_key(Some(&key(tenant))).unwrap(), Trace::new(), received);
    call.took(Stage::Queue, Duration::from_millis(1), Duration::from_millis(4));
    call.took(Stage::Infer, Duration::from_millis(5), Duration::from_millis(9));
    call.cpu = Duration::from_millis(3);
    plane.finish(model, "1", 10, &call, outcome);
}

fn scrape(registry: &Registry) -> BTreeMap<String, f64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let sample = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sum(samples: &BTreeMap<String, f64>, family: &str) -> f64 {
    samples.iter().filter(|(name, _)| name.split('{').next() == Some(family)).map(|(_, value)| value).sum()
}

#[test]
fn what_is_told_adds_up() {
    let plane = plane(2);
    let mut registry = Registry::default();
    register(&mut registry, Arc::clone(&plane));
    for _ in 0..5 {
        finish(&plane, 0, "delay", Ok(()));
    }
    finish(&plane, 1, "a \"b\" \\c", Ok(()));
    finish(&plane, 1, "delay", Err(&Refusal::too_late()));
    plane.refuse(None, &Refusal::unauthorized("no key"));
    plane.settle();
    let samples = scrape(&registry);
    let at = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} is missing in {samples:#?}"));
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    for (family, sum) in [("request", 0.1), ("queue", 0.02), ("infer", 0.045)] {
        let labels = "{model=\"delay\",version=\"1\",tenant=\"t0\"}";
        assert_eq!(at(&format!("homeostat_{family}_duration_seconds_count{labels}")), 5.0);
        assert!((at(&format!("homeostat_{family}_duration_seconds_sum{labels}")) - sum).abs() < 0.02, "{family}");
        let whole = format!("homeostat_{family}_duration_seconds_bucket{{le=\"+Inf\",{}", &labels[1..]);
        assert_eq!(at(&whole), 5.0);
    }
    near(at("homeostat_compute_seconds_total{tenant=\"t0\",model=\"delay\"}"), 0.015);
    assert_eq!(at("homeostat_rows_total{tenant=\"t1\",model=\"a \\\"b\\\" \\\\c\"}"), 10.0);
    // Refused requests are on the tenant's receipts, not among the answered ones.
    assert_eq!(sum(&samples, "homeostat_requests_total"), 6.0);
    assert_eq!(at("homeostat_tenant_requests_total{tenant=\"t1\"}"), 2.0);
    near(sum(&samples, "homeostat_tenant_compute_seconds_total"), 0.021);
    assert_eq!(at("homeostat_tenant_requests_refused_total{tenant=\"t1\",reason=\"deadline\"}"), 1.0);
    assert_eq!(at("homeostat_requests_refused_total{reason=\"unauthorized\"}"), 1.0);
    let overhead: u64 = plane.tenants.all().iter().map(|tenant| tenant.usage.overhead_ns.load(Relaxed)).sum();
    near(sum(&samples, "homeostat_overhead_seconds_total"), overhead as f64 / 1e9);
    assert_eq!(at("homeostat_queue_rows"), 0.0);
    assert!(at("process_cpu_seconds_total") > 0.0 && at("process_open_fds") > 2.0);
}

#[test]
fn many_models_and_tenants_share_a_label() {
    let many = SERIES_MAX + 200;
    let plane = plane(many);
    let listed = |names: std::ops::Range<usize>| -> Vec<Listed> {
        let versions = || vec![(1, vec![1])];
        names.map(|i| Listed { name: format!("m{i:05}"), versions: versions(), live: 1, canary: None }).collect()
    };
    let mut registry = Registry::default();
    register(&mut registry, Arc::clone(&plane));
    let hits = |samples: &BTreeMap<String, f64>| {
        let of = |(name, _): &(&String, &f64)| name.starts_with("homeostat_cache_hits_total");
        samples.iter().filter(of).map(|(name, value)| (name.clone(), *value)).collect::<BTreeMap<_, _>>()
    };
    plane.registry.list(&listed(100..100 + many));
    for entry in plane.registry.entries().values() {
        entry.slot(1).unwrap().stats.cache_hit.add(Duration::from_micros(1));
    }
    (0..many).for_each(|tenant| finish(&plane, tenant, "delay", Ok(())));
    let first = scrape(&registry);
    assert_eq!(hits(&first).len(), SERIES_MAX + 1);
    assert_eq!(hits(&first)["homeostat_cache_hits_total{model=\"_other\"}"], 200.0);
    for family in ["homeostat_tenant_requests_total", "homeostat_requests_total"] {
        let labels = first.keys().filter(|name| name.split('{').next() == Some(family)).count();
        assert_eq!((labels, sum(&first, family)), (SERIES_MAX + 1, many as f64), "{family}");
    }
    // Models that come later take nobody's label, though they stand first in the alphabet.
    plane.registry.list(&listed(0..100 + many));
    assert_eq!(hits(&scrape(&registry)), hits(&first));
}
