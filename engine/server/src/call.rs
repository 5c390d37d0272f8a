//! One request on its way to its handler.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::body::{Unread, drain};

use crate::fold;
use crate::query::Query;
use crate::reply::ApiError;
use crate::version::ApiVersion;

/// Longest JSON body, in bytes.
const JSON_MAX: usize = 4 << 20;

/// A routed request.
pub struct Call {
    /// What the client speaks.
    pub version: ApiVersion,
    /// The decoded name or id in the path, empty where the route has none.
    pub name: String,
    /// The query.
    pub query: Query,
    /// Headers.
    pub headers: HeaderMap,
    method: Method,
    body: Unread,
}

impl Call {
    /// Takes a request apart.
    pub fn new(version: ApiVersion, name: String, head: Parts, body: Unread) -> Call {
        let query = Query::parse(head.uri.query().unwrap_or_default());
        Call { version, name, query, headers: head.headers, method: head.method, body }
    }

    /// The method.
    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Whether the client asks for a raw connection.
    pub fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// Reads a body whose length is told and forgets it: clients send JSON where nothing is asked for, and on a
    /// raw connection it would be taken for what the user typed.
    ///
    /// # Errors
    /// 400 where the client goes.
    pub async fn skip_body(&mut self) -> Result<(), ApiError> {
        if self.headers.contains_key(CONTENT_LENGTH) { self.bytes().await.map(drop) } else { Ok(()) }
    }

    /// Header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The rest of the body, piece by piece; the receiver ends with it, or with an error where the client goes.
    pub fn pieces(&mut self) -> mpsc::Receiver<std::io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(4);
        let Some(mut body) = self.body.take() else { return receiver };
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let piece = match frame.map(Frame::into_data) {
                    Ok(Ok(bytes)) => Ok(bytes),
                    // Trailers mean nothing here.
                    Ok(Err(_)) => continue,
                    Err(error) => Err(std::io::Error::other(error)),
                };
                if sender.send(piece).await.is_err() {
                    // The handler has seen enough, its client goes on writing.
                    return drain(body).await;
                }
            }
        });
        receiver
    }

    async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let Some(mut body) = self.body.take() else { return Ok(Bytes::new()) };
        let collected = Limited::new(&mut body, JSON_MAX).collect().await;
        self.body.give_back(body);
        collected.map(|body| body.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return ApiError::bad_request("request body too large");
            }
            ApiError::bad_request(format!("cannot read the request: {error}"))
        })
    }

    /// The JSON body; `None` where it is empty.
    ///
    /// # Errors
    /// 400 with dockerd's words.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        check_type(content_type.unwrap_or_default())?;
        let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter::<serde_json::Value>();
        let invalid = |error: serde_json::Error| ApiError::bad_request(format!("invalid JSON: {error}"));
        let mut value = match values.next() {
            None => return Err(ApiError::bad_request("invalid JSON: EOF")),
            Some(value) => value.map_err(invalid)?,
        };
        if values.next().is_some() {
            return Err(ApiError::bad_request("unexpected content after JSON"));
        }
        if value.is_null() {
            value = serde_json::Value::Object(serde_json::Map::new());
        }
        drop_nulls(&mut value);
        fold::from_value(value).map(Some).map_err(invalid)
    }
}

/// A body is JSON and says so.
fn check_type(content_type: &str) -> Result<(), ApiError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = if media.is_empty() {
        format!("malformed Content-Type header ({content_type}): mime: no media type")
    } else {
        format!("unsupported Content-Type header ({content_type}): must be 'application/json'")
    };
    Err(ApiError::bad_request(text))
}

/// Go reads a null as an absent field; clients send dozens of them.
fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
