//! `stream run`, `stream status`, `stream features`.

use crate::cli::StreamAction;
use crate::client::{Client, Refused};
use crate::output;
use crate::project::Project;
use crate::streams::{self, Live, Runner, Until};
use crate::{clock, runs};
use anyhow::{Context, Result};
use features::windows::Engine;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use storage::streams::Store;
use tokio::runtime::Handle;
use vocabulary::Timestamp;
use vocabulary::stream::StreamSpec;

pub async fn run(project: &Project, action: &StreamAction, json: bool) -> Result<bool> {
    match action {
        StreamAction::Run { stream, until_end, close } => {
            let until = match (until_end, close) {
                (false, _) => Until::Stopped,
                (true, false) => Until::End,
                (true, true) => Until::Closed,
            };
            take_in(project, project.stream(stream)?, until, json).await
        }
        StreamAction::Status { stream } => status(project, stream.as_deref(), json).await,
        StreamAction::Features { stream, key, at } => {
            let at = at.as_ref().map(|text| text.parse()).transpose()?.unwrap_or_else(clock::wall);
            features(project, project.stream(stream)?, key, at, json).await
        }
    }
}

async fn take_in(project: &Project, spec: &StreamSpec, until: Until, json: bool) -> Result<bool> {
    runs::stop_when_asked()?;
    let live = Arc::new(Live::new(spec)?);
    let runtime = Handle::current();
    let begun = Instant::now();
    let shared = Arc::clone(&live);
    let project = project.clone();
    let bar = output::bar(&spec.name);
    // Sources wait for their connections, which the runtime's own threads must not.
    let ran = std::thread::Builder::new().name(format!("stream-{}", spec.name)).spawn(move || {
        let mut runner = Runner::open(&project, &shared, until, &runtime, &Default::default())?;
        let ran = runner.run(runs::stop(), &mut |live| {
            let shown = streams::shown(live);
            bar.set_message(told(&shown));
            bar.tick();
        });
        bar.finish_and_clear();
        ran.map(|()| runner.rows())
    })?;
    let joined = tokio::task::spawn_blocking(move || ran.join()).await?;
    let rows = joined.map_err(|_| anyhow::anyhow!("the stream's thread broke off"))??;
    let mut shown = streams::shown(&live);
    let seconds = begun.elapsed().as_secs_f64();
    shown["rows"] = json!(rows);
    shown["seconds"] = json!(seconds);
    shown["rows_per_second"] = json!((rows as f64 / seconds).round());
    output::show(json, &shown, || format!("{}: {}", spec.name, told(&shown)))?;
    Ok(true)
}

/// One line about a stream.
fn told(shown: &Value) -> String {
    let count = |name: &str| shown[name].as_u64().unwrap_or(0);
    let lag = match (shown["lag"]["rows"].as_u64(), shown["lag"]["bytes"].as_u64()) {
        (Some(rows), _) => format!("{rows} rows"),
        (None, Some(bytes)) => format!("{bytes} bytes"),
        (None, None) => "not known".to_owned(),
    };
    format!(
        "{} accepted ({} late), {} duplicates, {} too late, {} malformed, {} refused; watermark {}, lag {lag}",
        count("accepted"),
        count("late"),
        count("duplicates"),
        count("too_late"),
        count("malformed"),
        count("refused") + count("ahead"),
        shown["watermark"].as_str().unwrap_or("-"),
    )
}

async fn status(project: &Project, stream: Option<&str>, json: bool) -> Result<bool> {
    let specs: Vec<&StreamSpec> = match stream {
        Some(name) => vec![project.stream(name)?],
        None => project.streams.values().collect(),
    };
    let listed = specs.iter().map(|spec| streams::stored(project, spec)).collect::<Result<Vec<Value>>>()?;
    output::show(json, &json!({ "streams": listed }), || {
        let rows: Vec<Vec<String>> = listed
            .iter()
            .map(|shown| {
                let text = |name: &str| shown[name].as_str().unwrap_or("-").to_owned();
                vec![text("stream"), text("source"), text("state"), told(shown), text("because")]
            })
            .collect();
        output::table(&["stream", "source", "state", "events", "because"], &rows)
    })?;
    Ok(true)
}

/// From the server that runs the stream, or from what was committed.
async fn features(project: &Project, spec: &StreamSpec, key: &str, at: Timestamp, json: bool) -> Result<bool> {
    // A key that is none is said here, where the words are those of the command.
    let parsed = streams::key_of(spec, key)?;
    let shown = match Client::running(&project.state()).await {
        Some(client) => {
            let query = format!("key={}&at={}", escaped(key), escaped(&at.to_string()));
            match client.get(&format!("/v1/streams/{}/features?{query}", spec.name)).await {
                Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 503) => None,
                answered => Some(answered?),
            }
        }
        None => None,
    };
    let shown = match shown {
        Some(shown) => shown,
        None => {
            let folder = streams::folder(project, &spec.name);
            let committed = Store::read(&folder)?.with_context(|| {
                format!("stream \"{0}\" has taken no event yet; run `homeostat stream run {0}`", spec.name)
            })?;
            streams::features(&Engine::from_bytes(spec, &committed.engine)?, &parsed, at)?
        }
    };
    output::show(json, &shown, || {
        let features = shown["features"].as_object().into_iter().flatten();
        let rows: Vec<Vec<String>> = features.map(|(name, value)| vec![name.clone(), value.to_string()]).collect();
        output::table(&["feature", "value"], &rows)
    })?;
    Ok(true)
}

/// For a query: everything but letters, digits and a few marks as `%XX`.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
