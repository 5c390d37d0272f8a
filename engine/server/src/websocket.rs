//! Attach over a websocket (RFC 6455), for pages in a browser: what a container prints in binary messages, never framed by
//! stream, and messages of either kind as its input.

use bytes::Bytes;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use process::Chunk;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::call::Call;
use crate::hijack::{Input, LINGER, Typed};
use crate::raw::{self, Raw};
use crate::reply::{self, ApiError, Reply};

/// Turns the connection into a websocket: `output` to the client, the client's messages to `input`. It is closed when
/// `output` ends, or when the client detaches or is gone.
///
/// # Errors
/// The request asks for no websocket.
pub fn upgrade(call: &Call, output: mpsc::Receiver<Chunk>, input: impl Input) -> Result<Reply, ApiError> {
    let asks = call.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let key = call
        .header("sec-websocket-key")
        .filter(|_| asks && call.header("sec-websocket-version") == Some("13"));
    let key = key.ok_or_else(|| ApiError::bad_request("not a websocket handshake (RFC 6455, version 13)"))?;
    let accept =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header's text");
    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", accept);
    let taken = raw::take_over(&mut reply);
    tokio::spawn(async move {
        if let Ok(Raw { connection, typed }) = taken.await {
            let typed = typed.to_vec();
            let socket = WebSocketStream::from_partially_read(connection, typed, Role::Server, None).await;
            copy(socket, output, input).await;
        }
    });
    Ok(reply)
}

async fn copy(socket: WebSocketStream<UnixStream>, mut output: mpsc::Receiver<Chunk>, mut input: impl Input) {
    let (mut to_client, mut from_client) = socket.split();
    let (leaving, mut left) = oneshot::channel::<()>();
    // A task of its own: a program that takes no input for now must not hold back its own output.
    let mut reading = tokio::spawn(async move {
        while let Some(bytes) = message(&mut from_client).await {
            // An error says that the program takes no more; what it prints is wanted still.
            if matches!(input.write(&bytes).await, Ok(Typed::Detach)) {
                break;
            }
        }
        drop(leaving);
        input.finish().await;
    });
    loop {
        let chunk = tokio::select! {
            chunk = output.recv() => chunk,
            _ = &mut left => None,
        };
        let Some(chunk) = chunk else { break };
        if to_client.send(Message::Binary(chunk.bytes)).await.is_err() {
            break;
        }
    }
    // A client that has gone needs no farewell.
    let _ = to_client.close().await;
    if tokio::time::timeout(LINGER, &mut reading).await.is_err() {
        reading.abort();
    }
}

/// The next thing that the client sent, up to its end; a websocket cannot be half closed.
async fn message(from: &mut SplitStream<WebSocketStream<UnixStream>>) -> Option<Bytes> {
    loop {
        match from.next().await? {
            Ok(Message::Binary(bytes)) => return Some(bytes),
            Ok(Message::Text(text)) => return Some(text.into()),
            // The library answers pings.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Close(_)) | Err(_) => return None,
        }
    }
}
