//! The listening sockets and the connections on them.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use contract::vsock::HOST_CID;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sys::listen::Peer;
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::sync::mpsc;

use crate::app::App;
use crate::raw::Handover;
use crate::routes;

/// Serves the sockets that PID 1 gave, for ever.
///
/// # Errors
/// There is no unix socket to serve.
pub async fn serve(app: Arc<App>, unix: Option<OwnedFd>, vsock: Option<OwnedFd>) -> anyhow::Result<()> {
    let unix = listener(unix.context("PID 1 gave no API socket")?)?;
    if let Some(socket) = vsock {
        let vsock = listener(socket)?;
        let app = app.clone();
        tokio::spawn(async move { accept(vsock, app).await });
    }
    tracing::info!("the API is served");
    // As a task of its own, so that the threads which serve connections accept them, too: a wake-up less for each.
    tokio::spawn(accept(unix, app)).await.context("the API's listener ended")
}

/// Serves the host's door beside the API: the host that dialled last is asked.
///
/// # Errors
/// The socket cannot be polled.
pub fn serve_door(socket: OwnedFd, door: networks::ports::Server) -> anyhow::Result<()> {
    let listener = listener(socket)?;
    let (arrived, connections) = mpsc::channel(1);
    tokio::spawn(door.serve(connections));
    tokio::spawn(async move {
        loop {
            match accept_one(&listener).await {
                Ok(Some(stream)) => drop(arrived.send(stream).await),
                Ok(None) => tracing::warn!("a vsock peer other than the host was turned away"),
                Err(error) => {
                    tracing::error!(%error, "cannot accept the host at its door");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

/// tokio has no vsock, and its unix listener knows only unix peers; its datagram socket lends its readiness.
fn listener(socket: OwnedFd) -> anyhow::Result<UnixDatagram> {
    let listener = std::os::unix::net::UnixDatagram::from(socket);
    listener.set_nonblocking(true).context("make the API socket non-blocking")?;
    UnixDatagram::from_std(listener).context("poll the API socket")
}

async fn accept(listener: UnixDatagram, app: Arc<App>) {
    loop {
        match accept_one(&listener).await {
            Ok(Some(stream)) => drop(tokio::spawn(serve_connection(stream, app.clone()))),
            Ok(None) => tracing::warn!("a vsock peer other than the host was turned away"),
            Err(error) => {
                // Out of descriptors or memory: those who wait in the queue are served when it is over.
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn accept_one(listener: &UnixDatagram) -> std::io::Result<Option<UnixStream>> {
    let take = || sys::listen::accept(listener.as_fd());
    let (socket, peer) = listener.async_io(Interest::READABLE, take).await?;
    match peer {
        // A container without seccomp could open a vsock to its own machine; only the host is served.
        Peer::Vsock { cid } if cid != HOST_CID => Ok(None),
        _ => UnixStream::from_std(socket.into()).map(Some),
    }
}

async fn serve_connection(stream: UnixStream, app: Arc<App>) {
    let (hand_over, mut handed) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, hand_over) = (app.clone(), hand_over.clone());
        Box::pin(async move {
            let mut reply = routes::dispatch(app, request).await;
            if let Some(handover) = Handover::of(&mut reply) {
                // hyper waits here for an answer, and is gone as soon as this arrives.
                let _ = hand_over.send(handover).await;
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(reply)
        })
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let mut connection = http.title_case_headers(true).serve_connection(TokioIo::new(stream), service);
    let handover = tokio::select! {
        biased;
        handover = handed.recv() => handover,
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
            // A client may close its side at once after its request.
            handed.try_recv().ok()
        }
    };
    if let Some(handover) = handover {
        let parts = connection.into_parts();
        handover.run(parts.io.into_inner(), parts.read_buf).await;
    }
}
