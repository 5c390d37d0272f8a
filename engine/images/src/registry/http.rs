//! HTTP/1.1 requests without a body, with redirects and time limits.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use super::{RegistryError, tls, uplink};

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// Longest silence in the middle of a body.
const BODY_LIMIT: Duration = Duration::from_secs(60);
const IDLE_LIMIT: Duration = Duration::from_secs(20);
const REDIRECTS_MAX: usize = 10;

type Inner = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Whether a server must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    Verified,
    Unverified,
}

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Reading the certificates takes longer than all else of an engine's start, so it is left to the first request.
pub(super) struct Http {
    ca_certificates: PathBuf,
    verified: OnceLock<Inner>,
    unverified: OnceLock<Inner>,
}

impl Http {
    pub(super) fn new(ca_certificates: PathBuf) -> Http {
        Http { ca_certificates, verified: OnceLock::new(), unverified: OnceLock::new() }
    }

    fn verified(&self) -> Result<&Inner, RegistryError> {
        if self.verified.get().is_none() {
            // A second one, made by somebody else at the same time, is dropped.
            let _ = self.verified.set(connect_with(tls::verified(&self.ca_certificates)?));
        }
        Ok(self.verified.get().expect("it was just set"))
    }

    /// Sends the request and follows its redirects. Credentials go to the first host only.
    pub(super) async fn send(
        &self,
        mut asked: Asked,
        trust: Trust,
    ) -> Result<Response<Incoming>, RegistryError> {
        for _ in 0..REDIRECTS_MAX {
            let response = self.send_once(&asked, trust).await?;
            let Some(target) = redirect(&asked.url, &response)? else { return Ok(response) };
            if target.scheme() == Some(&Scheme::HTTP)
                && asked.url.scheme() == Some(&Scheme::HTTPS)
                && trust == Trust::Verified
            {
                return Err(nonsense(&asked.url, "it redirects from https to http"));
            }
            if target.authority() != asked.url.authority() {
                asked.headers.remove(AUTHORIZATION);
            }
            asked.url = target;
        }
        Err(nonsense(&asked.url, "too many redirects"))
    }

    async fn send_once(&self, asked: &Asked, trust: Trust) -> Result<Response<Incoming>, RegistryError> {
        uplink::wait(&asked.url).await;
        let inner = match trust {
            Trust::Verified => self.verified()?,
            Trust::Unverified => self.unverified.get_or_init(|| connect_with(tls::unverified())),
        };
        let mut request = Request::new(Full::new(asked.body.clone()));
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = asked.url.clone();
        *request.headers_mut() = asked.headers.clone();
        let agent = HeaderValue::from_static(concat!("pinnace/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        match timeout(HEAD_LIMIT, inner.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreachable(&asked.url, causes(&error))),
            Err(_) => Err(unreachable(&asked.url, "no answer within a minute".to_owned())),
        }
    }
}

/// The whole body, refused when longer than `limit` bytes.
pub(super) async fn collect(
    url: &Uri,
    response: Response<Incoming>,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let mut whole = Vec::new();
    let mut chunks = stream(url.clone(), response);
    while let Some(chunk) = chunks.next().await {
        whole.extend_from_slice(&chunk?);
        if whole.len() > limit {
            return Err(nonsense(url, &format!("the answer is longer than {limit} bytes")));
        }
    }
    Ok(whole.into())
}

/// The body as it arrives.
pub(super) fn stream(
    url: Uri,
    response: Response<Incoming>,
) -> BoxStream<'static, Result<Bytes, RegistryError>> {
    unfold(Some((url, response.into_body())), |state| async {
        let (url, mut body) = state?;
        loop {
            let reason = match timeout(BODY_LIMIT, body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Some((Ok(data), Some((url, body)))),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) => causes(&error),
                Err(_) => "no data for a minute".to_owned(),
            };
            return Some((Err(RegistryError::Interrupted { url: url.to_string(), reason }), None));
        }
    })
    .boxed()
}

pub(super) fn nonsense(url: &Uri, reason: &str) -> RegistryError {
    RegistryError::Nonsense { url: url.to_string(), reason: reason.to_owned() }
}

fn unreachable(url: &Uri, reason: String) -> RegistryError {
    RegistryError::Unreachable { url: url.to_string(), reason }
}

fn connect_with(config: rustls::ClientConfig) -> Inner {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_LIMIT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(4)
        .build(connector)
}

fn redirect(from: &Uri, response: &Response<Incoming>) -> Result<Option<Uri>, RegistryError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| nonsense(from, "it redirects to nowhere"))?;
    resolve(from, location).map(Some).ok_or_else(|| nonsense(from, "it redirects to no address"))
}

/// RFC 3986 section 5.2 for what registries send: absolute, scheme-relative, path-absolute, path-relative.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let (scheme, authority) = (from.scheme_str()?, from.authority()?.as_str());
    let absolute = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    absolute.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
}

/// An error with its causes, since hyper's own texts say only `client error (Connect)`.
fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    // The system's own words as Docker's users know them: "connection refused".
    model::in_go_words(&deepest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let from: Uri = "https://r.test:5000/v2/a/blobs/x".parse().unwrap();
        for (location, expected) in [
            ("https://cdn.test/b?c=d", Some("https://cdn.test/b?c=d")),
            ("//cdn.test/b", Some("https://cdn.test/b")),
            ("/b?c", Some("https://r.test:5000/b?c")),
            ("y#part", Some("https://r.test:5000/v2/a/blobs/y")),
            ("ftp://x/y", None),
        ] {
            let got = resolve(&from, location).map(|uri| uri.to_string());
            assert_eq!(got.as_deref(), expected, "{location}");
        }
    }
}
