//! Attach over a websocket (RFC 6455), for pages in a browser: what a container prints in binary messages, never framed by
//! stream, and messages of either kind as its input.

use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use process::Chunk;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::call::Call;
use crate::hijack::{Input, Typed};
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

async fn copy<S>(mut socket: WebSocketStream<S>, mut output: mpsc::Receiver<Chunk>, mut input: impl Input)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        tokio::select! {
            chunk = output.recv() => {
                let Some(chunk) = chunk else { break };
                if socket.send(Message::Binary(chunk.bytes)).await.is_err() {
                    break;
                }
            }
            message = socket.next() => {
                let bytes = match message {
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Text(text))) => text.into(),
                    // The library answers pings.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    // A websocket cannot be half closed.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                };
                // An error says that the program takes no more; what it prints is wanted still.
                if matches!(input.write(&bytes).await, Ok(Typed::Detach)) {
                    break;
                }
            }
        }
    }
    input.finish().await;
    let _ = socket.close(None).await;
}
