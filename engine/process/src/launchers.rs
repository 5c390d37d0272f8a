//! The threads that launch processes, and nothing else: clone3(2) keeps its caller until the new process executes its
//! program, and no other work of the engine may have to wait for that.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Most launches at one time; the others wait for their turn.
const THREADS_MAX: usize = 128;
/// Threads that stay when there is nothing to do, since making one costs a launch 50 µs.
const KEPT: usize = 4;
/// How long the others stay.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes.
const STACK: usize = 512 * 1024;

static POOL: Pool = Pool { state: Mutex::new(State::new()), wake: Condvar::new() };

struct Pool {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl State {
    const fn new() -> State {
        State { jobs: VecDeque::new(), threads: 0, idle: 0 }
    }
}

/// Runs `work` on a launching thread. Goes on when the caller is dropped; `None` where it panicked or where the machine
/// has no thread left.
pub async fn launch<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    // Nobody waits for the answer any more where the caller is gone.
    POOL.submit(Box::new(move || drop(answer.send(work()))));
    answered.await.ok()
}

impl Pool {
    fn submit(&'static self, job: Job) {
        let mut state = self.state();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.wake.notify_one();
        } else if state.threads < THREADS_MAX {
            let thread = std::thread::Builder::new().name("launcher".to_owned()).stack_size(STACK);
            match thread.spawn(|| self.serve()) {
                Ok(_) => state.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "cannot make a thread to launch with");
                    // Nobody will ever come to it: its caller is told by its end.
                    if state.threads == 0 {
                        state.jobs.clear();
                    }
                }
            }
        }
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            // Whoever waits for the answer sees that there is none; the thread goes on.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
        }
    }

    /// The next job; `None` where this thread is one too many.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let (woken, waited) =
                self.wake.wait_timeout(state, PATIENCE).expect("no holder of the launching threads panics");
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() && state.threads > KEPT {
                state.threads -= 1;
                return None;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the launching threads panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_waits_holds_up_no_other() {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let stuck = tokio::spawn(launch(move || gone.recv().is_ok()));
        for n in 0..50 {
            assert_eq!(launch(move || n).await, Some(n));
        }
        go.send(()).unwrap();
        assert_eq!(stuck.await.unwrap(), Some(true));
    }

    #[tokio::test]
    async fn a_panic_is_no_answer_and_no_end() {
        let panicked: Option<()> = launch(|| panic!("on purpose")).await;
        assert_eq!(panicked, None);
        assert_eq!(launch(|| 1).await, Some(1));
    }
}
