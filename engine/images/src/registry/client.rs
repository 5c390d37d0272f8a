//! The client of the distribution protocol: which servers to ask, in which order, and what to make of answers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LINK, RANGE,
};
use hyper::{Method, Response, StatusCode, Uri};
use serde::Deserialize;

use super::auth::{self, Challenge, Credentials};
use super::http::{Asked, Http, Trust, collect, nonsense, stream};
use super::insecure::Insecure;
use super::{BoxFuture, RawManifest, Registry, RegistryError, Repository};
use model::reference::{Digest, Reference};

/// Docker Hub's name in references, and its server.
const HUB: (&str, &str) = ("docker.io", "https://registry-1.docker.io");
/// Longest manifest, in bytes; the distribution specification asks registries to take 4 MiB.
const MANIFEST_MAX: usize = 4 << 20;
/// Longest error body, in bytes.
const ERROR_MAX: usize = 256 << 10;
/// Longest list of tags, all its pages together, in bytes.
const TAGS_MAX: usize = 16 << 20;
/// Most pages of a list of tags.
const PAGES_MAX: usize = 10_000;

const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What the settings say about registries.
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    /// PEM file of trusted CAs.
    pub ca_certificates: PathBuf,
    /// `HOST[:PORT]` or `ADDRESS/PREFIX`, spoken to without TLS verification, then without TLS. Loopback
    /// always is.
    pub insecure: Vec<String>,
    /// Addresses (`https://mirror.test`) asked before Docker Hub.
    pub mirrors: Vec<String>,
}

/// Speaks to registries over HTTP.
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    http: Http,
    insecure: Insecure,
    mirrors: Vec<String>,
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(config: ClientConfig) -> Client {
        let http = Http::new(config.ca_certificates);
        let insecure = Insecure::new(&config.insecure);
        Client { shared: Arc::new(Shared { http, insecure, mirrors: config.mirrors }) }
    }
}

impl Registry for Client {
    fn open(&self, name: &Reference, credentials: Credentials) -> Arc<dyn Repository> {
        let chosen = Mutex::new(None);
        Arc::new(Session { shared: self.shared.clone(), name: name.clone(), credentials, chosen })
    }

    fn login<'a>(
        &'a self,
        name: &'a Reference,
        credentials: Credentials,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let (shared, name, chosen) = (self.shared.clone(), name.clone(), Mutex::new(None));
        Box::pin(async move { Session { shared, name, credentials, chosen }.login().await })
    }
}

/// One server that may have the repository.
#[derive(Debug, Clone)]
struct Endpoint {
    /// `https://host:port`, without a slash at the end.
    base: String,
    trust: Trust,
    mirror: bool,
    /// The header that was accepted last.
    authorization: Option<HeaderValue>,
}

struct Session {
    shared: Arc<Shared>,
    name: Reference,
    credentials: Credentials,
    /// The endpoint that answered, asked first and alone from then on.
    chosen: Mutex<Option<Endpoint>>,
}

impl Repository for Session {
    fn manifest<'a>(&'a self, which: &'a str) -> BoxFuture<'a, Result<RawManifest, RegistryError>> {
        Box::pin(self.fetch_manifest(which))
    }

    fn blob<'a>(
        &'a self,
        digest: &'a Digest,
        offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError>> {
        Box::pin(self.fetch_blob(digest, offset))
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        Box::pin(self.fetch_tags())
    }
}

impl Session {
    async fn fetch_manifest(&self, which: &str) -> Result<RawManifest, RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
        let (url, response) = self.get(&format!("manifests/{which}"), headers).await?;
        let media_type = media_type(response.headers());
        let bytes = collect(&url, response, MANIFEST_MAX).await?;
        let digest = Digest::of(&bytes);
        if which.parse::<Digest>().is_ok_and(|wanted| wanted != digest) {
            return Err(nonsense(&url, &format!("manifest verification failed for digest {which}")));
        }
        Ok(RawManifest { media_type, digest, bytes })
    }

    async fn fetch_blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers
                .insert(RANGE, HeaderValue::try_from(format!("bytes={offset}-")).expect("digits are ASCII"));
        }
        let (url, response) = self.get(&format!("blobs/{digest}"), headers).await?;
        let begins =
            if response.status() == StatusCode::PARTIAL_CONTENT { range_start(&response) } else { Some(0) };
        match begins {
            Some(start) if start == offset => Ok(stream(url, response)),
            Some(0) => Ok(skip(stream(url, response), offset)),
            _ => Err(nonsense(&url, "it sends another range than asked for")),
        }
    }

    async fn fetch_tags(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let (mut path, mut all, mut size) = ("tags/list".to_owned(), Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let (url, response) = self.get(&path, HeaderMap::new()).await?;
            let next = next_page(response.headers());
            let body = collect(&url, response, TAGS_MAX - size).await?;
            size += body.len();
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|error| nonsense(&url, &format!("no list of tags: {error}")))?;
            all.extend(page.tags.unwrap_or_default());
            let Some(query) = next else { return Ok(all) };
            path = format!("tags/list?{query}");
        }
        Err(RegistryError::Nonsense { url: path, reason: "the list of tags has no end".to_owned() })
    }

    /// Asks the endpoints in turn. The next one is asked when one cannot be reached, and when a mirror does
    /// not have it; otherwise its answer stands.
    async fn get(&self, path: &str, headers: HeaderMap) -> Result<(Uri, Response<Incoming>), RegistryError> {
        let mut failed = None;
        for mut endpoint in self.endpoints().await {
            match self.get_from(&mut endpoint, path, headers.clone()).await {
                Ok(answer) => {
                    *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = Some(endpoint);
                    return Ok(answer);
                }
                Err(error) if endpoint.mirror || matches!(error, RegistryError::Unreachable { .. }) => {
                    tracing::debug!("{}: {error}", endpoint.base);
                    failed = Some(prefer(failed, error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.expect("there is always one endpoint"))
    }

    async fn get_from(
        &self,
        endpoint: &mut Endpoint,
        path: &str,
        headers: HeaderMap,
    ) -> Result<(Uri, Response<Incoming>), RegistryError> {
        let url = format!("{}/v2/{}/{path}", endpoint.base, self.name.path());
        let url: Uri = url
            .parse()
            .map_err(|_| RegistryError::Nonsense { url, reason: "this is no address".to_owned() })?;
        let mut response = self.ask(endpoint, &url, &headers).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && self.authorize(endpoint, response.headers(), &self.pull_scope()).await?
        {
            response = self.ask(endpoint, &url, &headers).await?;
        }
        if response.status().is_success() {
            return Ok((url, response));
        }
        let status = response.status().as_u16();
        let lacks_scope = auth::lacks_scope(response.headers());
        let body = collect(&url, response, ERROR_MAX).await?;
        Err(if lacks_scope {
            RegistryError::denied(status)
        } else {
            RegistryError::from_answer(status, &body)
        })
    }

    /// Asks the server itself. Once one has refused the user, no other is told the password, least of all in
    /// the clear.
    async fn login(&self) -> Result<(), RegistryError> {
        let mut failed = None;
        for mut endpoint in self.endpoints().await.into_iter().filter(|endpoint| !endpoint.mirror) {
            match self.login_at(&mut endpoint).await {
                Err(error) if !error.is_unauthorized() => failed = Some(prefer(failed, error)),
                answer => return answer,
            }
        }
        Err(failed.expect("there is always one endpoint that is no mirror"))
    }

    async fn login_at(&self, endpoint: &mut Endpoint) -> Result<(), RegistryError> {
        let text = format!("{}/v2/", endpoint.base);
        let url: Uri = text.parse().map_err(|_| RegistryError::Nonsense {
            url: text.clone(),
            reason: "this is no address".to_owned(),
        })?;
        let mut response = self.ask(endpoint, &url, &HeaderMap::new()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let answered = self.authorize(endpoint, response.headers(), "").await;
            if answered
                .map_err(|cause| RegistryError::NotLetIn { url: text.clone(), cause: Box::new(cause) })?
            {
                response = self.ask(endpoint, &url, &HeaderMap::new()).await?;
            }
        }
        match response.status() {
            StatusCode::OK => Ok(()),
            status => Err(RegistryError::LoginFailed { url: text, status }),
        }
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        url: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut headers = headers.clone();
        headers.extend(endpoint.authorization.clone().map(|value| (AUTHORIZATION, value)));
        let asked = Asked { method: Method::GET, url: url.clone(), headers, body: Bytes::new() };
        self.shared.http.send(asked, endpoint.trust).await
    }

    /// Answers a challenge; whether there is something new to try. A mirror never sees Docker Hub's password.
    async fn authorize(
        &self,
        endpoint: &mut Endpoint,
        headers: &HeaderMap,
        scope: &str,
    ) -> Result<bool, RegistryError> {
        let Some(challenge) = Challenge::read(headers) else { return Ok(false) };
        let anonymous = Credentials::Anonymous;
        let credentials = if endpoint.mirror { &anonymous } else { &self.credentials };
        let answer = challenge.answer(&self.shared.http, endpoint.trust, credentials, scope).await?;
        let is_new = answer.is_some() && answer != endpoint.authorization;
        endpoint.authorization = answer;
        Ok(is_new)
    }

    fn pull_scope(&self) -> String {
        format!("repository:{}:pull", self.name.path())
    }

    async fn endpoints(&self) -> Vec<Endpoint> {
        if let Some(chosen) = self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return vec![chosen];
        }
        let domain = self.name.domain();
        if domain == HUB.0 {
            let mirrors = self.shared.mirrors.iter().map(|base| base.trim_end_matches('/'));
            let mut endpoints = Vec::new();
            for base in mirrors {
                let authority = base.split_once("://").map_or(base, |(_, rest)| rest);
                let insecure = self.shared.insecure.covers(authority).await;
                let trust = if insecure { Trust::Unverified } else { Trust::Verified };
                endpoints.push(Endpoint::new(base.to_owned(), trust, true));
            }
            endpoints.push(Endpoint::new(HUB.1.to_owned(), Trust::Verified, false));
            return endpoints;
        }
        let secure = format!("https://{domain}");
        if !self.shared.insecure.covers(domain).await {
            return vec![Endpoint::new(secure, Trust::Verified, false)];
        }
        let plain = Endpoint::new(format!("http://{domain}"), Trust::Unverified, false);
        vec![Endpoint::new(secure, Trust::Unverified, false), plain]
    }
}

impl Endpoint {
    fn new(base: String, trust: Trust, mirror: bool) -> Endpoint {
        Endpoint { base, trust, mirror, authorization: None }
    }
}

/// Of two failures the one that says more: a refusal over silence, the later over the earlier.
fn prefer(earlier: Option<RegistryError>, later: RegistryError) -> RegistryError {
    match earlier {
        Some(earlier @ RegistryError::Refused { .. }) if !matches!(later, RegistryError::Refused { .. }) => {
            earlier
        }
        _ => later,
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

/// The query of the next page, which `Link: <…?last=x&n=2>; rel="next"` names (RFC 5988). Only the query is taken: where
/// the rest of the address leads is not the registry's to say, to whom the credentials were given.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |word: &str| matches!(word.trim(), "rel=next" | "rel=\"next\"");
        parameters.split(';').any(is_next).then_some(address)
    })?;
    Some(next.split_once('?')?.1.split('#').next()?.to_owned())
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response<Incoming>) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Drops the first `count` bytes, for servers that ignore `Range`.
fn skip(
    body: BoxStream<'static, Result<Bytes, RegistryError>>,
    mut count: u64,
) -> BoxStream<'static, Result<Bytes, RegistryError>> {
    body.map(move |chunk| {
        chunk.map(|mut bytes| {
            let dropped = count.min(bytes.len() as u64);
            count -= dropped;
            bytes.split_off(dropped as usize)
        })
    })
    .boxed()
}
