//! Where spans go and which of them: what a configuration may say, checked once.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Grpc,
    /// Protobuf in HTTP/1.1.
    Http,
}

impl Protocol {
    /// What OTLP sets down for a collector on this machine.
    fn default_endpoint(self) -> &'static str {
        match self {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::Http => "http://localhost:4318",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Protocol::Grpc => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Protocol::Http => "/v1/traces",
        }
    }
}

#[derive(Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpanOptions {
    /// `http://HOST:PORT` of the collector, on this machine where it is left out. Over HTTP a path may follow, which
    /// then replaces `/v1/traces`.
    pub endpoint: Option<String>,
    pub protocol: Protocol,
    /// Sent with every batch; the place for a collector's key.
    pub headers: BTreeMap<String, String>,
    /// The part of the traces begun here that is exported, from 0 to 1. A caller's decision on its own trace stands.
    pub ratio: f64,
    pub service_name: String,
}

impl Default for SpanOptions {
    fn default() -> Self {
        SpanOptions {
            endpoint: None,
            protocol: Protocol::default(),
            headers: BTreeMap::new(),
            ratio: 1.0,
            service_name: "homeostat".to_owned(),
        }
    }
}

/// Headers may carry a key: only their names are shown.
impl fmt::Debug for SpanOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanOptions")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers.keys())
            .field("ratio", &self.ratio)
            .field("service_name", &self.service_name)
            .finish()
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanOptionsError {
    #[error("endpoint \"{0}\" is no address of a collector; write http://HOST:PORT")]
    Endpoint(String),
    #[error(
        "endpoint \"{0}\": spans are sent without TLS; name a collector on this machine or network by http:// and let \
         it forward them"
    )]
    Tls(String),
    #[error("endpoint \"{0}\": gRPC knows no path; leave it out, or say protocol = \"http\"")]
    Path(String),
    #[error("header \"{0}\" has a name or a value that HTTP does not allow; use letters, digits and - in its name")]
    Header(String),
    #[error("ratio = {0} is not between 0 and 1")]
    Ratio(String),
    #[error("service_name is empty; name what the spans come from, or leave it out")]
    Service,
}

/// An address that was checked.
pub(super) struct Target {
    pub uri: Uri,
    pub protocol: Protocol,
    pub headers: HeaderMap,
}

impl SpanOptions {
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), SpanOptionsError> {
        self.target().map(|_| ())
    }

    pub(super) fn target(&self) -> Result<Target, SpanOptionsError> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(SpanOptionsError::Ratio(self.ratio.to_string()));
        }
        if self.service_name.trim().is_empty() {
            return Err(SpanOptionsError::Service);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let named = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::from_str(value).ok());
            let (known, value) = named.ok_or_else(|| SpanOptionsError::Header(name.clone()))?;
            headers.insert(known, value);
        }
        Ok(Target { uri: self.uri()?, protocol: self.protocol, headers })
    }

    fn uri(&self) -> Result<Uri, SpanOptionsError> {
        let endpoint = self.endpoint.as_deref().unwrap_or(self.protocol.default_endpoint());
        let wrong = || SpanOptionsError::Endpoint(endpoint.to_owned());
        let given: Uri = endpoint.parse().map_err(|_| wrong())?;
        let path = match (self.protocol, given.path()) {
            (protocol, "" | "/") => protocol.path().to_owned(),
            (Protocol::Http, _) => given.path_and_query().map(|path| path.to_string()).unwrap_or_default(),
            (Protocol::Grpc, _) => return Err(SpanOptionsError::Path(endpoint.to_owned())),
        };
        match given.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(SpanOptionsError::Tls(endpoint.to_owned())),
            _ => return Err(wrong()),
        }
        let authority = given.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
        Uri::builder().scheme("http").authority(authority.as_str()).path_and_query(path).build().map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(protocol: Protocol, endpoint: &str) -> Result<String, SpanOptionsError> {
        let options = SpanOptions { endpoint: Some(endpoint.to_owned()), protocol, ..SpanOptions::default() };
        options.target().map(|target| target.uri.to_string())
    }

    #[test]
    fn an_address_becomes_the_one_that_the_protocol_means() {
        let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        assert_eq!(uri(Protocol::Grpc, "http://c:4317").unwrap(), format!("http://c:4317{export}"));
        assert_eq!(uri(Protocol::Http, "http://c:4318/").unwrap(), "http://c:4318/v1/traces");
        assert_eq!(uri(Protocol::Http, "http://c/otlp?team=a").unwrap(), "http://c/otlp?team=a");
        for (protocol, port) in [(Protocol::Grpc, "4317"), (Protocol::Http, "4318")] {
            let target = SpanOptions { protocol, ..SpanOptions::default() }.target().unwrap();
            assert_eq!(target.uri.authority().unwrap().as_str(), format!("localhost:{port}"));
        }
    }

    #[test]
    fn what_is_declared_wrongly_is_said() {
        let said = |options: SpanOptions| options.check().unwrap_err().to_string();
        assert!(uri(Protocol::Grpc, "collector:4317").unwrap_err().to_string().contains("write http://HOST:PORT"));
        assert!(uri(Protocol::Grpc, "http://c/x").unwrap_err().to_string().contains("no path"));
        assert!(uri(Protocol::Http, "https://c").unwrap_err().to_string().contains("without TLS"));
        for ratio in [-0.1, 1.5, f64::NAN] {
            assert!(said(SpanOptions { ratio, ..SpanOptions::default() }).contains("not between 0 and 1"));
        }
        let headers = BTreeMap::from([("a b".to_owned(), "x".to_owned())]);
        assert!(said(SpanOptions { headers, ..SpanOptions::default() }).contains("header \"a b\""));
        assert!(said(SpanOptions { service_name: " ".into(), ..SpanOptions::default() }).contains("service_name"));
    }

    #[test]
    fn a_configuration_is_read_and_its_keys_stay_secret() {
        let read = |text: &str| serde_json::from_str::<SpanOptions>(text);
        assert_eq!(read("{}").unwrap(), SpanOptions::default());
        let options = read(r#"{"protocol": "http", "ratio": 0.25, "headers": {"x-key": "hush"}}"#).unwrap();
        assert_eq!((options.protocol, options.ratio), (Protocol::Http, 0.25));
        assert!(!format!("{options:?}").contains("hush"));
        assert!(read(r#"{"rate": 1}"#).unwrap_err().to_string().contains("unknown field `rate`"));
    }
}
