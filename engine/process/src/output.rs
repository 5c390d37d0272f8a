//! The handle on the task that reads what a process prints, whoever gets it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// A process's output on its way. Clones are the same output; dropping them stops nothing.
#[derive(Debug, Clone)]
pub struct Output {
    over: Arc<watch::Sender<bool>>,
    done: watch::Receiver<()>,
}

/// The reading task's side. Its end is the end of the output.
#[derive(Debug)]
pub struct Reading {
    over: watch::Receiver<bool>,
    _done: watch::Sender<()>,
}

impl Output {
    /// For a task that is about to begin.
    pub fn begin() -> (Output, Reading) {
        let (over, asked) = watch::channel(false);
        let (ends, done) = watch::channel(());
        (Output { over: Arc::new(over), done }, Reading { over: asked, _done: ends })
    }

    /// Of a process whose output nobody reads.
    pub fn none() -> Output {
        Output::begin().0
    }

    /// Waits until every writer has closed the output and all of it was handed on.
    pub async fn drained(&self) {
        let mut done = self.done.clone();
        while done.changed().await.is_ok() {}
    }

    /// The process has ended. What it left behind may go on printing for `grace`, or for ever: then what lies in the
    /// pipes is the last that counts. False where the output did not end by itself.
    pub async fn settle(&self, grace: Duration) -> bool {
        if tokio::time::timeout(grace, self.drained()).await.is_ok() {
            return true;
        }
        self.over.send_replace(true);
        false
    }
}

impl Reading {
    /// Comes when only what lies in the pipes counts any more.
    pub async fn over(&mut self) {
        if self.over.wait_for(|over| *over).await.is_err() {
            // Nobody can ask any more: the output ends when its writers say so.
            std::future::pending::<()>().await;
        }
    }
}
