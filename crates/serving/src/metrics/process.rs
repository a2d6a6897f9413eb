//! The process as the system sees it, under the names that Prometheus's own client libraries give.

use crate::plane::process_cpu_ns;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::process::{Resource, getrlimit};

/// CPU time, memory, threads and files of this process; what the system does not tell is left out. Registered without a
/// prefix.
#[derive(Debug)]
pub struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let encoder = &mut encoder;
        let cpu = process_cpu_ns() as f64 / 1e9;
        super::single(encoder, "process_cpu_seconds", "CPU time of the process, user and system", cpu)?;
        if let Some(stat) = Stat::read() {
            super::gauge(encoder, "process_resident_memory_bytes", "Resident memory", stat.resident_bytes)?;
            super::gauge(encoder, "process_virtual_memory_bytes", "Virtual memory", stat.virtual_bytes)?;
            super::gauge(encoder, "process_threads", "Threads", stat.threads)?;
            if let Some(booted) = booted_at() {
                let started = booted + stat.started_seconds;
                super::gauge(encoder, "process_start_time_seconds", "Start, since 1970", started)?;
            }
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // Reading the folder has opened one more.
            super::gauge(encoder, "process_open_fds", "Open files", open.count().saturating_sub(1) as u64)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            super::gauge(encoder, "process_max_fds", "Files that may be open", most)?;
        }
        Ok(())
    }
}

/// Of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    threads: u64,
    /// After the system's start.
    started_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    fn read() -> Option<Stat> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        Stat::parse(&text, rustix::param::clock_ticks_per_second(), rustix::param::page_size())
    }

    fn parse(text: &str, ticks: u64, page: usize) -> Option<Stat> {
        // The name, in parentheses, may hold anything; the third field comes after it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            threads: field(20)?,
            started_seconds: field(22)? as f64 / ticks.max(1) as f64,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page as u64,
        })
    }
}

/// When the system started, in seconds since 1970.
fn booted_at() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 9 0 0 0 5 6 0 0 20 0 17 0 250 1048576 300 18446744073709551615";
        let stat = Stat { threads: 17, started_seconds: 2.5, virtual_bytes: 1 << 20, resident_bytes: 300 << 12 };
        assert_eq!(Stat::parse(text, 100, 4096), Some(stat));
        assert_eq!(Stat::parse("42 (a) S 1", 100, 4096), None);
        assert!(Stat::read().is_none_or(|stat| stat.threads > 0 && stat.resident_bytes > 0));
    }
}
