//! The body of a request, and what becomes of the part that nobody read.
//!
//! A handler may answer before it has read the body, most of all where it refuses. If the connection were closed
//! then, its client would find it broken while it still writes, and many would never look for the answer. So what is
//! left is read and forgotten, beside the answer that is already on its way; within limits, since a client may write
//! without an end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Bytes of a refused request that are read and forgotten, at most: more than any build context is.
const DRAINED_MAX: usize = 4 << 30;

/// For how long they are.
const DRAINED_FOR: Duration = Duration::from_secs(60);

/// The body of a request, for its handler to take; clones are the same body.
#[derive(Clone)]
pub struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    /// A body that nobody has read from.
    pub fn new(body: Incoming) -> Unread {
        Unread(Arc::new(Mutex::new(Some(body))))
    }

    /// The body, for one who reads it.
    pub fn take(&self) -> Option<Incoming> {
        self.0.lock().expect("no holder of the body panics").take()
    }

    /// Leaves the rest of a taken body to whoever comes after.
    pub fn give_back(&self, body: Incoming) {
        *self.0.lock().expect("no holder of the body panics") = Some(body);
    }

    /// Reads what is left in a task of its own, and forgets it.
    pub fn drain(&self) {
        if let Some(body) = self.take().filter(|body| !body.is_end_stream()) {
            tokio::spawn(drain(body));
        }
    }
}

/// Reads a body up to its end or to the limits, and forgets it.
pub async fn drain(mut body: Incoming) {
    let reading = async {
        let mut left = DRAINED_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // A client that is slower than this finds its connection closed, and its answer in front of that.
    let _ = tokio::time::timeout(DRAINED_FOR, reading).await;
}
