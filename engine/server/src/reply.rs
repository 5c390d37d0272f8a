//! Answers: JSON, streams, and the one map from errors to statuses.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use model::{ErrorKind, in_go_words};
use serde::Serialize;
use tokio::sync::mpsc;

/// Body of every answer. An error cuts the connection, so that its client cannot take the part for the whole.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// An answer.
pub type Reply = Response<Body>;

/// A request failed: what its client is told.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Text of the answer.
    pub message: String,
}

impl ApiError {
    /// 400.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// 404 for a path or method nobody serves.
    pub fn page_not_found() -> ApiError {
        ApiError { status: StatusCode::NOT_FOUND, message: "page not found".to_owned() }
    }

    /// Any kind, with its text, in which the system speaks as it does in Go.
    pub fn of(kind: ErrorKind, message: impl AsRef<str>) -> ApiError {
        ApiError { status: status(kind), message: in_go_words(message.as_ref()) }
    }
}

/// The status of each kind.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl ApiError {
    /// The answer as plain text, as Go writes errors.
    pub fn into_text(self) -> Reply {
        let mut reply = Response::new(full(format!("{}\n", self.message)));
        *reply.status_mut() = self.status;
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }
}

impl From<containers::ContainerError> for ApiError {
    fn from(error: containers::ContainerError) -> ApiError {
        ApiError::of(error.kind(), error.to_string())
    }
}

impl From<networks::NetworksError> for ApiError {
    fn from(error: networks::NetworksError) -> ApiError {
        ApiError::of(error.kind(), error.to_string())
    }
}

impl From<model::platform::UnknownPlatform> for ApiError {
    fn from(error: model::platform::UnknownPlatform) -> ApiError {
        ApiError::of(ErrorKind::InvalidArgument, error.to_string())
    }
}

impl From<volumes::VolumeError> for ApiError {
    fn from(error: volumes::VolumeError) -> ApiError {
        ApiError::of(error.kind(), error.to_string())
    }
}

impl From<images::ImageError> for ApiError {
    fn from(error: images::ImageError) -> ApiError {
        ApiError::of(error.kind(), error.to_string())
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Reply {
        if error.status == StatusCode::NOT_MODIFIED {
            return empty(StatusCode::NOT_MODIFIED);
        }
        json(error.status, &serde_json::json!({ "message": error.message }))
    }
}

/// No body.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(full(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// A body that is known whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// JSON with the newline and without the charset that Go's clients expect.
pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut bytes = serde_json::to_vec(value).expect("answers have string keys only");
    bytes.push(b'\n');
    let mut reply = Response::new(full(bytes));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// 200 with JSON.
pub fn ok(value: &impl Serialize) -> Reply {
    json(StatusCode::OK, value)
}

/// 200 with a chunked body that ends with the channel; every item is a chunk of its own. Dropping the answer
/// (the client went away) closes the channel.
pub fn streaming(content_type: &'static str, receiver: mpsc::Receiver<Bytes>) -> Reply {
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok(Frame::data(bytes)), receiver))
    });
    streamed(content_type, frames)
}

/// [`streaming`] of something that can fail on the way.
pub fn streaming_or_cut(content_type: &'static str, receiver: mpsc::Receiver<io::Result<Bytes>>) -> Reply {
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((bytes.map(Frame::data), receiver))
    });
    streamed(content_type, frames)
}

fn streamed(
    content_type: &'static str,
    frames: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static,
) -> Reply {
    let mut reply = Response::new(StreamBody::new(frames).boxed_unsync());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}
