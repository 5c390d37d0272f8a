//! Peers that are gone altogether, told by epoll(7) with one descriptor and one thread for all connections.
//!
//! EPOLLHUP means that both directions of a socket ended, EPOLLRDHUP that one did, and a runtime that waits for readers and
//! writers cannot wait for the first alone. A set that asks for no event at all is told just that one.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;

static HANGUPS: OnceLock<Hangups> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

struct Hangups {
    epoll: Epoll,
    waiting: Mutex<HashMap<u64, Arc<Notify>>>,
}

/// Waits until the peer of a socket has closed it.
pub async fn hung_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let watched = Watched::begin(socket)?;
    watched.told.notified().await;
    Ok(())
}

/// A socket in the set, as long as somebody waits for it.
struct Watched<'a> {
    socket: BorrowedFd<'a>,
    token: u64,
    told: Arc<Notify>,
}

impl<'a> Watched<'a> {
    fn begin(socket: BorrowedFd<'a>) -> io::Result<Watched<'a>> {
        let hangups = Hangups::get()?;
        let (token, told) = (NEXT.fetch_add(1, Ordering::Relaxed), Arc::new(Notify::new()));
        hangups.waiting().insert(token, told.clone());
        // One that is gone already is told at once.
        let event = EpollEvent::new(EpollFlags::EPOLLONESHOT, token);
        match hangups.epoll.add(socket, event) {
            Ok(()) => Ok(Watched { socket, token, told }),
            Err(errno) => {
                hangups.waiting().remove(&token);
                Err(errno.into())
            }
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Some(hangups) = HANGUPS.get() {
            // A socket that was added above is in the set until it is closed, which the borrow forbids.
            let _ = hangups.epoll.delete(self.socket);
            hangups.waiting().remove(&self.token);
        }
    }
}

impl Hangups {
    fn get() -> io::Result<&'static Hangups> {
        if let Some(hangups) = HANGUPS.get() {
            return Ok(hangups);
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let fresh = Hangups { epoll, waiting: Mutex::default() };
        if HANGUPS.set(fresh).is_ok() {
            std::thread::Builder::new().name("hangups".to_owned()).spawn(listen)?;
        }
        Ok(HANGUPS.get().expect("it was set above or by another thread"))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen() {
    let hangups = HANGUPS.get().expect("it was set before this thread began");
    let mut events = [EpollEvent::empty(); 64];
    loop {
        // An interrupted wait told nothing.
        let count = hangups.epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
        let waiting = hangups.waiting();
        for event in &events[..count] {
            if let Some(told) = waiting.get(&event.data()) {
                told.notify_one();
            }
        }
    }
}
