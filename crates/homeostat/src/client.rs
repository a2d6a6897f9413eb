//! Talking to a running server: the command line's and the replay's side of HTTP.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Where a server listens, as it wrote it down: `server.json` in the state folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    pub pid: u32,
    pub host: String,
    pub port: u16,
    #[serde(default)]
    pub grpc_port: Option<u16>,
}

pub const PLACE_FILE: &str = "server.json";

/// The running server's key for whoever may change what is served; readable by its owner alone.
pub const OPERATOR_FILE: &str = "operator.key";

impl Place {
    pub fn read(state: &Path) -> Option<Place> {
        serde_json::from_slice(&std::fs::read(state.join(PLACE_FILE)).ok()?).ok()
    }
}

#[derive(Clone)]
pub struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    base: String,
    /// Shows that this program may read the project's state folder.
    operator: Option<String>,
}

/// An answer other than 200.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    pub status: StatusCode,
    pub error: String,
}

impl Client {
    pub fn new(host: &str, port: u16) -> Client {
        let host = if host == "0.0.0.0" { "127.0.0.1" } else { host };
        let http = HyperClient::builder(TokioExecutor::new()).build_http();
        Client { http, base: format!("http://{host}:{port}"), operator: None }
    }

    /// The server of the project whose state folder this is, if it answers.
    pub async fn running(state: &Path) -> Option<Client> {
        let place = Place::read(state)?;
        let mut client = Client::new(&place.host, place.port);
        client.operator = std::fs::read_to_string(state.join(OPERATOR_FILE)).ok();
        client.get("/v2/health/live").await.ok().map(|_| client)
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, Bytes::new(), &[]).await
    }

    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value> {
        self.post_bytes(path, serde_json::to_vec(body)?.into(), &[]).await
    }

    pub async fn post_bytes(&self, path: &str, body: Bytes, headers: &[(&str, &str)]) -> Result<Value> {
        self.send(Method::POST, path, body, headers).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes, headers: &[(&str, &str)]) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url).header("content-type", "application/json");
        if let Some(operator) = &self.operator {
            request = request.header(crate::serve::data_plane::OPERATOR_HEADER, operator);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            self.http.request(request.body(Full::new(body))?).await.with_context(|| format!("no answer from {url}"))?;
        let status = response.status();
        let bytes = response.into_body().collect().await.with_context(|| format!("{url} broke off"))?.to_bytes();
        let value: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{url} answered {status} with something that is not JSON"))?;
        if status.is_success() {
            return Ok(value);
        }
        match value["error"].as_str() {
            Some(error) => Err(Refused { status, error: error.to_owned() }.into()),
            None => bail!("{url} answered {status}"),
        }
    }
}
