//! Load generator of the serving benchmark. It shares the machine with the server it loads, so it costs little: one
//! thread, requests rendered beforehand, and only as much HTTP/1.1 as an answer needs. It knows no model and no peer.

mod closed;
mod connection;
mod noop;
mod open;
mod report;
mod requests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::report::Report;
use crate::requests::Requests;

/// Longest measurement: each latency is kept, eight bytes a request.
const SECONDS_MAX: f64 = 600.0;

#[derive(Parser)]
#[command(about = "Loads a server on this machine and prints one JSON document")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Closed loop: each connection sends its next request when the last one was answered
    Closed {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 8)]
        connections: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Seconds of load before the measured ones
        #[arg(long, default_value_t = 0.5)]
        warmup: f64,
    },
    /// Open loop: requests are due at a given rate whatever the server does; latency counts from when each was due
    Open {
        #[command(flatten)]
        target: Target,
        /// Requests a second
        #[arg(long)]
        rate: f64,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        #[arg(long, value_enum, default_value = "poisson")]
        arrivals: open::Arrivals,
        /// Most requests at the server at once; more of them wait here, and that counts as latency
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Seconds that late answers are awaited after the last request was due
        #[arg(long, default_value_t = 10.0)]
        drain: f64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Closed loops over several numbers of connections: the highest throughput whose p99 keeps a limit
    Search {
        #[command(flatten)]
        target: Target,
        #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
        connections: Vec<usize>,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        #[arg(long, default_value_t = 0.5)]
        warmup: f64,
        #[arg(long, default_value_t = 10.0)]
        p99_ms: f64,
    },
    /// A server that reads each body and answers with the same bytes: what the transport alone can do
    Noop {
        #[arg(long, default_value_t = 0)]
        port: u16,
        #[arg(long, default_value_t = 100)]
        response_bytes: usize,
        /// It stops by itself after this many seconds
        #[arg(long, default_value_t = 600.0)]
        seconds: f64,
    },
}

#[derive(Args)]
struct Target {
    /// Port of the server on 127.0.0.1; no other machine is ever loaded
    #[arg(long)]
    port: u16,
    /// Folder with request.json and the bodies that it names
    #[arg(long)]
    bodies: PathBuf,
    /// One more header for each request, `name: value`
    #[arg(long = "header")]
    headers: Vec<String>,
}

impl Target {
    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn requests(&self) -> Result<Rc<Requests>> {
        Ok(Rc::new(Requests::read(&self.bodies, self.address(), &self.headers)?))
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Closed { target, connections, seconds, warmup } => {
            let plan = closed::Plan { connections, seconds: span(seconds)?, warmup: span(warmup)? };
            let report = alone(closed::run(target.address(), target.requests()?, plan))?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Command::Open { target, rate, seconds, arrivals, connections, drain, seed } => {
            ensure!(rate > 0.0 && rate <= 1e6, "--rate {rate}: give 1 to 1000000 requests a second");
            let plan = open::Plan { rate, seconds: span(seconds)?, arrivals, connections, drain: span(drain)?, seed };
            let report = alone(open::run(target.address(), target.requests()?, plan))?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Command::Search { target, connections, seconds, warmup, p99_ms } => {
            let (seconds, warmup) = (span(seconds)?, span(warmup)?);
            let requests = target.requests()?;
            let plans = connections.into_iter().map(|connections| closed::Plan { connections, seconds, warmup });
            println!("{}", serde_json::to_string(&search(target.address(), &requests, plans, p99_ms)?)?);
        }
        Command::Noop { port, response_bytes, seconds } => noop::serve(port, response_bytes, span(seconds)?)?,
    }
    Ok(())
}

/// The client has one thread, as its share of the machine is to be small and known.
fn alone<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn span(seconds: f64) -> Result<Duration> {
    ensure!((0.0..=SECONDS_MAX).contains(&seconds), "{seconds} seconds: give 0 to {SECONDS_MAX}");
    Ok(Duration::from_secs_f64(seconds))
}

#[derive(serde::Serialize)]
struct Found {
    p99_limit_ms: f64,
    /// The level with the highest throughput that kept the limit and was refused nothing; none may do so.
    best: Option<Report>,
    levels: Vec<Report>,
}

fn search(
    address: SocketAddr,
    requests: &Rc<Requests>,
    plans: impl Iterator<Item = closed::Plan>,
    p99_ms: f64,
) -> Result<Found> {
    let mut levels: Vec<Report> = Vec::new();
    for plan in plans {
        let report = alone(closed::run(address, requests.clone(), plan))?;
        // More connections only add to the queue from here on.
        let hopeless = report.latency_ms.p99 > 2.0 * p99_ms;
        levels.push(report);
        if hopeless {
            break;
        }
    }
    let kept = levels.iter().filter(|level| level.is_clean() && level.latency_ms.p99 <= p99_ms);
    let best = kept.max_by(|a, b| a.throughput.total_cmp(&b.throughput)).cloned();
    Ok(Found { p99_limit_ms: p99_ms, best, levels })
}
