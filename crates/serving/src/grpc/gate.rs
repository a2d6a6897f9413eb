//! What happens before a message is read: the caller is authorized by its metadata and an inference is let in or turned
//! away, so that nobody without a place makes the server hold a body. Answers are compressed for callers that compress:
//! most clients say that they can read gzip, few gain by it.

use super::{SERVICE, status};
use crate::call::{Call, Stage, Trace};
use crate::http::stamp;
use crate::plane::Plane;
use crate::refusal::{Answer, Refusal};
use crate::tenant::Tenant;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use futures::future::BoxFuture;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::Service;

const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const ENCODING: &str = "grpc-encoding";

/// A caller that was authorized.
#[derive(Clone)]
pub struct Arrived {
    pub tenant: Arc<Tenant>,
    pub received: Instant,
    pub deadline: Option<Instant>,
    authorizing: Duration,
    /// Whether its message could be read.
    reached: Arc<AtomicBool>,
}

impl Arrived {
    fn of(plane: &Plane, headers: &HeaderMap) -> Answer<Arrived> {
        let received = Instant::now();
        let deadline = timeout(headers)?.map(|timeout| received + timeout);
        let tenant = plane.tenants.of_headers(headers)?;
        Ok(Arrived { tenant, received, deadline, authorizing: received.elapsed(), reached: Arc::default() })
    }

    /// The next request of the same stream: it came now, and needs no authorizing any more.
    pub fn again(&self) -> Arrived {
        Arrived { received: Instant::now(), authorizing: Duration::ZERO, ..self.clone() }
    }

    pub fn reached(&self) {
        self.reached.store(true, Relaxed);
    }

    pub fn call(&self, trace: Trace) -> Call {
        let mut call = Call::new(Arc::clone(&self.tenant), trace, self.received);
        call.deadline = self.deadline;
        call.took(Stage::Authorize, Duration::ZERO, self.authorizing);
        call
    }
}

/// The protocol's `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Answer<Option<Duration>> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = plain.then(|| digits.parse().ok())??;
        match unit {
            "H" => Some(Duration::from_secs(number * 3600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    });
    // Longer than a week is no deadline, and could overflow a clock.
    let bounded = |timeout: Duration| (timeout < Duration::from_secs(7 * 86_400)).then_some(timeout);
    let malformed = || Refusal::malformed("grpc-timeout is not up to eight digits and one of H, M, S, m, u, n");
    parsed.map(bounded).ok_or_else(malformed)
}

/// Leaves only the caller's own encoding among those that it accepts.
fn mirror_encoding(headers: &mut HeaderMap) {
    match headers.get(ENCODING).filter(|encoding| ["gzip", "deflate"].iter().any(|known| encoding == known)) {
        Some(encoding) => {
            let encoding: HeaderValue = encoding.clone();
            headers.insert(ACCEPT_ENCODING, encoding);
        }
        None => {
            headers.remove(ACCEPT_ENCODING);
        }
    }
}

/// Stands before the service.
#[derive(Clone)]
pub struct Gate<S> {
    pub plane: Arc<Plane>,
    pub inner: S,
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE));
        let (one, many) = (method == Some("/ModelInfer"), method == Some("/ModelStreamInfer"));
        mirror_encoding(request.headers_mut());
        if !one && !many {
            return Box::pin(self.inner.call(request));
        }
        let arrived = match Arrived::of(&self.plane, request.headers()) {
            Ok(arrived) => arrived,
            Err(refusal) => {
                self.plane.refuse(None, &refusal);
                return Box::pin(async move { Ok(status(&refusal).into_http()) });
            }
        };
        let trace = self.plane.trace(request.headers());
        request.extensions_mut().insert(arrived.clone());
        if many {
            return Box::pin(self.inner.call(request));
        }
        let (plane, answering) = (Arc::clone(&self.plane), self.inner.clone());
        // The one that was polled ready answers; its copy takes its place.
        let mut inner = std::mem::replace(&mut self.inner, answering);
        Box::pin(async move {
            let _admitted = match plane.admit(&arrived.tenant) {
                Ok(admitted) => admitted,
                Err(refusal) => return Ok(unread(&plane, &arrived, trace, &refusal, status(&refusal).into_http())),
            };
            let mut answering = std::pin::pin!(inner.call(request));
            let response = match tokio::time::timeout(plane.limits.body_time_max, &mut answering).await {
                Ok(response) => response?,
                Err(_) if arrived.reached.load(Relaxed) => answering.await?,
                Err(_) => {
                    let refusal = Refusal::too_slow(plane.limits.body_time_max);
                    return Ok(unread(&plane, &arrived, trace, &refusal, status(&refusal).into_http()));
                }
            };
            match (arrived.reached.load(Relaxed), refusal_of(&response)) {
                (false, Some(refusal)) => Ok(unread(&plane, &arrived, trace, &refusal, response)),
                _ => Ok(response),
            }
        })
    }
}

/// Why a message was not read, by the status that the codec made of it.
fn refusal_of(response: &Response<Body>) -> Option<Refusal> {
    let code = Code::from_bytes(response.headers().get("grpc-status")?.as_bytes());
    let what = format!("the message can't be read ({code:?})");
    Some(match code {
        Code::OutOfRange | Code::ResourceExhausted => Refusal::too_large(what),
        _ => Refusal::malformed(what),
    })
}

/// Counts a request whose message, and with it the model's name, was not read.
fn unread(
    plane: &Plane,
    arrived: &Arrived,
    trace: Trace,
    refusal: &Refusal,
    mut response: Response<Body>,
) -> Response<Body> {
    let call = arrived.call(trace);
    plane.finish("", "", 0, &call, Err(refusal));
    stamp(response.headers_mut(), &call);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        let read = |text: &'static str| {
            timeout(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap(),
                HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            )]))
        };
        assert_eq!(read("250m").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999u").unwrap(), Some(Duration::from_micros(99_999_999)));
        assert_eq!(read("2H").unwrap(), Some(Duration::from_secs(7200)));
        assert_eq!(read("99999999H").unwrap(), None, "an age is no deadline");
        for broken in ["", "m", "250", "-1m", "999999999m", "1 S", "1µ"] {
            assert!(read(broken).is_err(), "{broken}");
        }
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn only_callers_that_compress_get_compressed_answers() {
        let accepted = |own: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity, deflate, gzip"));
            if let Some(own) = own {
                headers.insert(ENCODING, HeaderValue::from_static(own));
            }
            mirror_encoding(&mut headers);
            headers.get(ACCEPT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(accepted(None), None);
        assert_eq!(accepted(Some("identity")), None);
        assert_eq!(accepted(Some("gzip")).as_deref(), Some("gzip"));
        assert_eq!(accepted(Some("deflate")).as_deref(), Some("deflate"));
    }
}
