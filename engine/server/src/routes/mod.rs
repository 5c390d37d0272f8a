//! The endpoints: which path goes to which handler, and what every answer carries.
//!
//! Handlers verify and convert; they hold no lock and decide nothing. An endpoint that Docker has and this engine
//! has not yet is in [`LATER`], so that its client is told so.

mod change;
mod containers;
mod df;
mod events;
mod exec;
mod files;
mod images;
mod lifecycle;
mod logs;
mod networks;
mod ps;
mod system;
mod usage;
mod volumes;

use std::io::Write;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, SERVER};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use crate::app::App;
use crate::body::Unread;
use crate::call::Call;
use crate::raw;
use crate::reply::{self, ApiError, Reply};
use crate::version::{ApiVersion, NEWEST, OLDEST};

type Handler = fn(Arc<App>, Call) -> BoxFuture<'static, Result<Reply, ApiError>>;

/// One endpoint.
struct Route {
    method: &'static str,
    path: &'static str,
    handler: Handler,
}

/// A route whose handler is an `async fn(Arc<App>, Call)`.
macro_rules! route {
    ($method:literal, $path:literal, $handler:path) => {
        Route { method: $method, path: $path, handler: |app, call| Box::pin($handler(app, call)) }
    };
}

/// What is served.
const ROUTES: &[Route] = &[
    route!("GET", "/_ping", system::ping),
    route!("HEAD", "/_ping", system::ping),
    route!("GET", "/version", system::version),
    route!("GET", "/info", system::info),
    route!("GET", "/system/df", df::df),
    route!("GET", "/plugins", system::plugins),
    route!("POST", "/auth", system::auth),
    route!("GET", "/events", events::stream),
    route!("POST", "/containers/create", containers::create),
    route!("GET", "/containers/json", ps::list),
    route!("POST", "/containers/prune", change::prune),
    route!("GET", "/containers/{id}/json", containers::inspect),
    route!("DELETE", "/containers/{id}", lifecycle::remove),
    route!("POST", "/containers/{id}/start", lifecycle::start),
    route!("POST", "/containers/{id}/stop", lifecycle::stop),
    route!("POST", "/containers/{id}/restart", lifecycle::restart),
    route!("POST", "/containers/{id}/kill", lifecycle::kill),
    route!("POST", "/containers/{id}/pause", lifecycle::pause),
    route!("POST", "/containers/{id}/unpause", lifecycle::unpause),
    route!("POST", "/containers/{id}/rename", change::rename),
    route!("POST", "/containers/{id}/update", change::update),
    route!("POST", "/containers/{id}/wait", lifecycle::wait),
    route!("POST", "/containers/{id}/resize", lifecycle::resize),
    route!("GET", "/containers/{id}/logs", logs::logs),
    route!("POST", "/containers/{id}/attach", logs::attach),
    route!("GET", "/containers/{id}/attach/ws", logs::attach_websocket),
    route!("HEAD", "/containers/{id}/archive", files::stat),
    route!("GET", "/containers/{id}/archive", files::get),
    route!("PUT", "/containers/{id}/archive", files::put),
    route!("GET", "/containers/{id}/top", usage::top),
    route!("GET", "/containers/{id}/stats", usage::stats),
    route!("GET", "/containers/{id}/changes", files::changes),
    route!("GET", "/containers/{id}/export", files::export),
    route!("POST", "/containers/{id}/exec", exec::create),
    route!("POST", "/exec/{id}/start", exec::start),
    route!("POST", "/exec/{id}/resize", exec::resize),
    route!("GET", "/exec/{id}/json", exec::inspect),
    route!("GET", "/networks", networks::list),
    route!("POST", "/networks/create", networks::create),
    route!("POST", "/networks/prune", networks::prune),
    route!("GET", "/networks/{id}", networks::inspect),
    route!("DELETE", "/networks/{id}", networks::remove),
    route!("POST", "/networks/{id}/connect", networks::connect),
    route!("POST", "/networks/{id}/disconnect", networks::disconnect),
    route!("GET", "/volumes", volumes::list),
    route!("POST", "/volumes/create", volumes::create),
    route!("POST", "/volumes/prune", volumes::prune),
    route!("GET", "/volumes/{name}", volumes::inspect),
    route!("PUT", "/volumes/{name}", volumes::update),
    route!("DELETE", "/volumes/{name}", volumes::remove),
    route!("POST", "/images/create", images::create),
    route!("GET", "/images/json", images::list),
    route!("GET", "/images/{name*}/json", images::inspect),
    route!("GET", "/images/{name*}/history", images::history),
    route!("POST", "/images/{name*}/tag", images::tag),
    route!("POST", "/images/prune", images::prune),
    route!("DELETE", "/images/{name*}", images::delete),
];

/// What Docker serves and this engine does not yet: answered with 501.
const LATER: &[(&str, &str)] = &[
    ("POST", "/build"),
    ("POST", "/build/cancel"),
    ("POST", "/build/prune"),
    ("POST", "/commit"),
    ("GET", "/containers/{id}/checkpoints"),
    ("POST", "/containers/{id}/checkpoints"),
    ("DELETE", "/containers/{id}/checkpoints/{checkpoint}"),
    ("GET", "/distribution/{name*}/json"),
    ("POST", "/grpc"),
    ("GET", "/images/get"),
    ("POST", "/images/load"),
    ("GET", "/images/search"),
    ("GET", "/images/{name*}/attestations"),
    ("GET", "/images/{name*}/get"),
    ("POST", "/images/{name*}/push"),
    ("POST", "/plugins/create"),
    ("GET", "/plugins/privileges"),
    ("POST", "/plugins/pull"),
    ("POST", "/session"),
];

/// Endpoints that are newer than the oldest version: method, path, dockerd's words for the path, and the minor
/// version they need.
const NEWER: &[(&str, &str, &str, u16)] = &[
    ("GET", "/system/df", "/system/df", 25),
    ("POST", "/containers/prune", "/containers/prune", 25),
    ("POST", "/images/prune", "/images/prune", 25),
    ("POST", "/networks/prune", "/networks/prune", 25),
    ("POST", "/volumes/prune", "/volumes/prune", 25),
    ("GET", "/distribution/{name*}/json", "/distribution/{name:.*}/json", 30),
    ("POST", "/build/prune", "/build/prune", 31),
    ("PUT", "/volumes/{name}", "/volumes/{name:.*}", 42),
];

/// First folders of everything that only a swarm manager has.
const SWARM: [&str; 6] = ["/swarm", "/services", "/tasks", "/nodes", "/secrets", "/configs"];

/// Prints `METHOD path` of everything served, for the coverage table.
pub fn print() {
    let mut out = std::io::stdout().lock();
    for route in ROUTES {
        // A closed pipe needs no answer.
        let _ = writeln!(out, "{} {}", route.method, route.path.replace("*}", "}"));
    }
}

/// Answers one request.
pub async fn dispatch(app: Arc<App>, request: Request<Incoming>) -> Reply {
    let asked = format!("{} {}", request.method(), request.uri().path());
    let version = ApiVersion::split(request.uri().path()).0;
    let (head, body) = request.into_parts();
    let body = Unread::new(body);
    let mut reply = match answer(app, head, body.clone()).await {
        Ok(reply) => reply,
        // Whoever speaks so old a version reads errors as text.
        Err(error) if version.is_some_and(|version| version < OLDEST) => error.into_text(),
        Err(error) => {
            if error.status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(asked, error = error.message, "request failed");
            }
            error.into()
        }
    };
    if !raw::is_taken(&reply) {
        body.drain();
    }
    let headers = reply.headers_mut();
    let fixed = [("api-version", "1.55"), ("ostype", "linux"), ("docker-experimental", "false")];
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
        .insert(SERVER, HeaderValue::from_static(concat!("Docker/", env!("CARGO_PKG_VERSION"), " (linux)")));
    reply
}

async fn answer(app: Arc<App>, head: Parts, body: Unread) -> Result<Reply, ApiError> {
    let path = head.uri.path().to_owned();
    let (version, path) = ApiVersion::split(&path);
    let version = supported(version)?;
    let method = head.method.as_str();
    old_enough(method, path, version)?;
    for route in ROUTES {
        if route.method == method
            && let Some(name) = matched(route.path, path)
        {
            return (route.handler)(app, Call::new(version, name, head, body)).await;
        }
    }
    Err(unserved(&head.method, path))
}

fn supported(version: Option<ApiVersion>) -> Result<ApiVersion, ApiError> {
    match version {
        None => Ok(NEWEST),
        Some(version) if version > NEWEST => Err(ApiError::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {NEWEST}"
        ))),
        Some(version) if version < OLDEST => Err(ApiError::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST}, please upgrade your \
             client to a newer version"
        ))),
        Some(version) => Ok(version),
    }
}

/// 400 for an endpoint that the client's version does not have yet.
fn old_enough(method: &str, path: &str, version: ApiVersion) -> Result<(), ApiError> {
    let newer = |(m, template, _, minor): &&(&str, &str, &str, u16)| {
        *m == method && version < ApiVersion(1, *minor) && matched(template, path).is_some()
    };
    match NEWER.iter().find(newer) {
        None => Ok(()),
        Some((_, _, words, minor)) => {
            Err(ApiError::bad_request(format!("{method} {words} requires minimum API version 1.{minor}")))
        }
    }
}

/// The name in `path` where it fits the template; empty for a template without one. `{name*}` takes slashes.
fn matched(template: &str, path: &str) -> Option<String> {
    let Some((prefix, rest)) = template.split_once('{') else {
        return (template == path.trim_end_matches('/')).then(String::new);
    };
    let (kind, suffix) = rest.split_once('}').unwrap_or((rest, ""));
    if suffix.contains('{') {
        return None;
    }
    let name = path.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let mut name = percent_decode_str(name).decode_utf8_lossy().into_owned();
    // A container's name as inspect shows it.
    if !kind.ends_with('*') && name.starts_with('/') {
        name.remove(0);
    }
    let fits = !name.is_empty() && (kind.ends_with('*') || !name.contains('/'));
    fits.then_some(name)
}

fn unserved(method: &Method, path: &str) -> ApiError {
    if SWARM
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        if path != "/swarm/leave" {
            return not_a_manager();
        }
        let message = "This node is not part of a swarm".to_owned();
        return ApiError { status: StatusCode::SERVICE_UNAVAILABLE, message };
    }
    let later = LATER.iter().any(|(m, template)| *m == method.as_str() && fits_later(template, path));
    if later {
        let message = format!("{method} {path} is not supported by this release of Pinnace yet");
        return ApiError { status: StatusCode::NOT_IMPLEMENTED, message };
    }
    ApiError::page_not_found()
}

/// What only a swarm manager could do.
fn not_a_manager() -> ApiError {
    let text = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
                swarm and try again.";
    ApiError { status: StatusCode::SERVICE_UNAVAILABLE, message: text.to_owned() }
}

fn fits_later(template: &str, path: &str) -> bool {
    let nested = template.matches('{').count() > 1;
    if nested { path.contains("/checkpoints/") } else { matched(template, path).is_some() }
}

/// 204.
fn no_content() -> Reply {
    reply::empty(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_paths() {
        let check = |template: &str, path: &str, expected: Option<&str>| {
            assert_eq!(matched(template, path).as_deref(), expected, "{template} {path}");
        };
        check("/info", "/info", Some(""));
        check("/info", "/info/", Some(""));
        check("/containers/{id}/json", "/containers/ab/json", Some("ab"));
        check("/containers/{id}/json", "/containers/%2Fab/json", Some("ab"));
        check("/containers/{id}/json", "/containers//ab/json", Some("ab"));
        check("/containers/{id}/json", "/containers//json", None);
        check("/containers/{id}/json", "/containers/a/b/json", None);
        check("/images/{name*}/json", "/images/localhost:5000/a%2Fb/json", Some("localhost:5000/a/b"));
        check("/images/{name*}", "/images/repo@sha256:ab", Some("repo@sha256:ab"));
    }

    #[test]
    fn no_path_is_served_and_later() {
        for (method, template) in LATER {
            let served = ROUTES.iter().any(|route| route.method == *method && route.path == *template);
            assert!(!served, "{method} {template}");
        }
    }
}
