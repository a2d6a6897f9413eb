//! `quickstart`: the bundled flights of 2013 through the whole loop. Learns January to March, serves, replays April to
//! December over HTTP in the order of events, with each outcome arriving when the flight lands. The server is a process
//! of its own: should it die, it is started again and the replay goes on from the last hour that was done.

mod layout;
mod report;
mod timeline;

use crate::cli::Quickstart;
use crate::client::{Client, Refused};
use crate::output;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::StreamExt;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use timeline::{Hour, Timeline};
use tokio::process::{Child, Command};
use vocabulary::{Span, Timestamp};

pub const MODEL: &str = "arrival";
/// Midnight in New York: the first model learns from what was known before it, the replay begins at it.
pub const LEARN_UNTIL: &str = "2013-04-01T04:00:00Z";
/// Requests under way at once.
const CONCURRENT_REQUESTS: usize = 4;
/// How long a starting server may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How often a server that died is started again before that is called a failure.
const RESTARTS_MAX: u32 = 20;

pub async fn run(args: Quickstart, json: bool) -> Result<bool> {
    let started = Instant::now();
    let until = args.until.as_deref().map(str::parse::<Timestamp>).transpose()?;
    if let Some(speed) = args.speed
        && !(speed.is_finite() && speed > 0.0)
    {
        bail!("--speed {speed}: give seconds of event time a second, such as 86400 for a day a second");
    }
    port_is_free(args.port).await?;
    layout::lay_out(&args)?;
    let project = Project::load(&args.dir.canonicalize()?)?;
    learn(&project, &args).await?;
    let mut server = Server::start(&project, args.port).await?;
    eprintln!("the page: http://127.0.0.1:{}", server.port);
    let rows = crate::training::file_rows(&project, project.model(MODEL)?).await?;
    let timeline = Timeline::new(&project, rows, LEARN_UNTIL.parse()?, until)?;
    let result = tokio::select! {
        result = replay(&mut server, &timeline, args.speed) => result,
        _ = tokio::signal::ctrl_c() => {
            server.stop().await;
            bail!("stopped; the same command goes on from here");
        }
    };
    if let Err(error) = result {
        server.stop().await;
        return Err(error);
    }
    let memory = server.peak_memory_bytes();
    let report = report::collect(&server.client, &timeline, &project, memory, started.elapsed()).await?;
    if args.exit_when_done {
        server.stop().await;
        output::show(json, &report, || report::sentence(&report))?;
        return Ok(report["lost"] == 0);
    }
    output::show(json, &report, || report::sentence(&report))?;
    eprintln!("\nthe server goes on at http://127.0.0.1:{}; Ctrl-C ends it", server.port);
    let _ = tokio::signal::ctrl_c().await;
    server.stop().await;
    Ok(report["lost"] == 0)
}

async fn port_is_free(port: u16) -> Result<()> {
    match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
        Ok(_) => Ok(()),
        Err(error) => bail!("port {port} can't be used ({error}); choose another with --port (0 takes any free one)"),
    }
}

/// Trains the first version, unless an earlier run did.
async fn learn(project: &Project, args: &Quickstart) -> Result<()> {
    if !project.catalog().await?.versions(Some(MODEL)).await?.is_empty() {
        return Ok(());
    }
    eprintln!("learning from January to March 2013 …");
    let status = Command::new(crate::clock::own_program()?)
        .args(["train", MODEL, "--json", "--to", LEARN_UNTIL])
        .args(["--seed", &args.seed.to_string(), "--threads", &args.threads.to_string()])
        .arg("--project")
        .arg(&project.root)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .context("can't start training")?;
    if !status.success() {
        bail!("the first training failed ({status}); what it said is above");
    }
    Ok(())
}

/// The server's process, started again when it dies.
struct Server {
    child: Child,
    client: Client,
    port: u16,
    root: std::path::PathBuf,
    state: std::path::PathBuf,
    restarts: u32,
}

impl Server {
    async fn start(project: &Project, port: u16) -> Result<Server> {
        let (root, state) = (project.root.clone(), project.state());
        let (child, client, port) = launch(&root, &state, port).await?;
        Ok(Server { child, client, port, root, state, restarts: 0 })
    }

    /// Brings the server back if it died. False if it lives.
    async fn revive(&mut self) -> Result<bool> {
        let Some(status) = self.child.try_wait()? else { return Ok(false) };
        self.restarts += 1;
        if self.restarts > RESTARTS_MAX {
            bail!(
                "the server died {} times ({status}); see {}",
                self.restarts,
                self.state.join("server.log").display()
            );
        }
        eprintln!("the server ended ({status}); starting it again");
        let (child, client, _) = launch(&self.root, &self.state, self.port).await?;
        (self.child, self.client) = (child, client);
        Ok(true)
    }

    /// Waits until the server answers again, starting it again if it died; gives up with `cause` when it does neither.
    async fn back(&mut self, cause: &anyhow::Error) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while !self.revive().await? && self.client.get("/v2/health/live").await.is_err() {
            if Instant::now() > deadline {
                bail!("the server lives but does not answer: {cause:#}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }

    async fn stop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

async fn launch(root: &Path, state: &Path, port: u16) -> Result<(Child, Client, u16)> {
    std::fs::create_dir_all(state)?;
    let log = state.join("server.log");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
    let _ = std::fs::remove_file(state.join(crate::client::PLACE_FILE));
    let mut child = Command::new(crate::clock::own_program()?)
        .args(["serve", "--with-parent", "--port", &port.to_string()])
        .arg("--project")
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .kill_on_drop(true)
        .spawn()
        .context("can't start the server")?;
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().last().unwrap_or_default();
            bail!("the server could not start ({status}): {last}; see {}", log.display());
        }
        if let Some(place) = crate::client::Place::read(state)
            && let Some(client) = Client::running(state).await
        {
            return Ok((child, client, place.port));
        }
        if Instant::now() > deadline {
            bail!("the server did not answer within {} s; see {}", START_PATIENCE.as_secs(), log.display());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Replays hour by hour. After each hour the loop's clock moves; a restarted server says where that clock stands.
async fn replay(server: &mut Server, timeline: &Timeline, speed: Option<f64>) -> Result<()> {
    let bar = output::bar("replaying");
    bar.set_length(timeline.flights() as u64);
    let mut at = resume_point(&server.client, timeline).await?;
    let (began, began_at) = (Instant::now(), at);
    while at < timeline.end() {
        let hour = timeline.hour(at);
        if let Some(speed) = speed {
            let due = began + Duration::from_secs_f64(((at - began_at).as_seconds() / speed).max(0.0));
            tokio::time::sleep_until(due.into()).await;
        }
        match one_hour(&server.client, timeline, &hour, at).await {
            Ok(()) => {
                at = at + Span::hours(1);
                show_progress(&bar, timeline, at);
            }
            Err(error) => {
                // A server that refused has a reason that trying again won't change.
                if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status.as_u16() != 429) {
                    return Err(error.context(format!("the server refused an event of the hour after {at}")));
                }
                server.back(&error).await?;
                at = resume_point(&server.client, timeline).await?;
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

async fn resume_point(client: &Client, timeline: &Timeline) -> Result<Timestamp> {
    let status = client.get(&format!("/v1/models/{MODEL}")).await?;
    let at = status["event_time"].as_str().map(str::parse::<Timestamp>).transpose()?;
    match at {
        Some(at) => Ok(at.max(timeline.begin())),
        None => {
            // The loop's clock begins where the replay does.
            client.post("/v1/clock", &json!({ "now": timeline.begin() })).await?;
            Ok(timeline.begin())
        }
    }
}

async fn one_hour(client: &Client, timeline: &Timeline, hour: &Hour, at: Timestamp) -> Result<()> {
    let path = format!("/v1/models/{MODEL}/predict");
    let requests = hour.predictions.iter().map(|group| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            let (body, key) = timeline.predict_body(group)?;
            let answer = client.post_bytes(&path, body, &[("idempotency-key", &key)]).await?;
            let answered = answer["predictions"].as_array().map_or(0, Vec::len);
            if answered != group.len() {
                bail!("{answered} of {} rows were answered", group.len());
            }
            Ok(())
        }
    });
    settle(requests).await?;
    let requests = hour.outcomes.iter().map(|group| {
        let client = client.clone();
        async move {
            let answer = client.post_bytes("/v1/outcomes", timeline.outcome_body(group)?, &[]).await?;
            if answer["unknown"] != 0 {
                bail!(
                    "outcomes of {} predictions that were acknowledged are unknown: {}",
                    answer["unknown"],
                    answer["unknown_ids"]
                );
            }
            Ok(())
        }
    });
    settle(requests).await?;
    let next = at + Span::hours(1);
    let progress = json!({ "from": timeline.begin(), "to": timeline.end(), "at": next,
        "done": timeline.flights_before(next), "total": timeline.flights() });
    client.post("/v1/clock", &json!({ "now": next, "replay": progress })).await?;
    Ok(())
}

/// Runs the requests, a few at a time, in order of their start.
async fn settle<F: Future<Output = Result<()>>>(requests: impl Iterator<Item = F>) -> Result<()> {
    let mut running = futures::stream::iter(requests).buffered(CONCURRENT_REQUESTS);
    while let Some(result) = running.next().await {
        result?;
    }
    Ok(())
}

fn show_progress(bar: &ProgressBar, timeline: &Timeline, at: Timestamp) {
    bar.set_position(timeline.flights_before(at) as u64);
    bar.set_message(at.date());
}

/// A body's bytes from its JSON.
pub fn bytes_of(value: &Value) -> Result<Bytes> {
    Ok(serde_json::to_vec(value)?.into())
}
