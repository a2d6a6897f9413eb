//! Listening: connections are accepted up to a named limit, spoken to in HTTP/1.1 or HTTP/2, in the clear or over TLS,
//! and ended gently when the server stops.

use crate::http;
use crate::plane::Plane;
use crate::refusal::Refusal;
use axum::Router;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A caller that opens a connection and doesn't send a request's head in this time is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A TLS handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 1024;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {what}; it must hold {wanted} in PEM form")]
    Pem { path: String, wanted: &'static str, what: String },
    #[error("the certificate of {cert} and the key of {key} can't be used together: {what}")]
    Pair { cert: String, key: String, what: String },
}

/// Reads a certificate chain and its key.
pub fn tls(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let bad = |path: &Path, wanted, what: String| TlsError::Pem { path: path.display().to_string(), wanted, what };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(|certs| certs.collect())
        .map_err(|error| bad(cert, "a certificate chain", error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(cert, "a certificate chain", "it holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, "a private key", error.to_string()))?;
    let pair = |what: String| TlsError::Pair { cert: cert.display().to_string(), key: key.display().to_string(), what };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| pair(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| pair(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop` turns true; returns when every connection has ended or `patience` is over.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    plane: Arc<Plane>,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
    patience: Duration,
) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: others will be freed.
                tracing::warn!("a connection can't be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let open = plane.connections.fetch_add(1, Relaxed);
        if open >= plane.limits.connections_max {
            plane.connections.fetch_sub(1, Relaxed);
            let most = plane.limits.connections_max;
            let what = format!("{most} connections are open already ([server] connections_max)");
            plane.refuse(None, &Refusal::unavailable("connections", what));
            tokio::spawn(turn_away(stream));
            continue;
        }
        let (router, plane, tls, watcher) = (router.clone(), Arc::clone(&plane), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            match tls {
                None => speak(stream, router, Arc::clone(&plane), watcher).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => speak(stream, router, Arc::clone(&plane), watcher).await,
                    Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                },
            }
            plane.connections.fetch_sub(1, Relaxed);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(patience, graceful.shutdown()).await;
}

async fn speak<S>(stream: S, router: Router, plane: Arc<Plane>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    let routed = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let straight = request.method() == Method::POST && http::asked(request.uri().path()).is_some();
        let (routed, plane) = (routed.clone(), Arc::clone(&plane));
        async move { if straight { Ok(http::straight(&plane, request).await) } else { routed.call(request).await } }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!("a connection broke off: {error}");
    }
}

/// Says why, as far as one can without having heard the request.
async fn turn_away(mut stream: TcpStream) {
    let body = r#"{"error":"too many connections are open; try again in a moment"}"#;
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: \
         1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.shutdown().await;
}
