//! Sandboxes made ahead, so that a start does not wait for the kernel to make a namespace and a veth pair.
//!
//! ```text
//!   take() ──► one from the stock (or one made on the spot) ──► configure: one system call
//!     └ wakes the maker thread, which fills up when nothing was taken for a moment
//! ```
//!
//! The stock is only descriptors: when the engine dies, however it dies, the kernel removes namespaces and pairs.
//! A used sandbox never comes back to the stock; what a container did to it would reach the next.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::bridge::Bridge;
use super::cable::Cable;
use super::link::Route;
use super::name_sockets::NameSockets;
use super::netlink::NetworkError;
use super::sandbox::{self, Sandbox};
use crate::ids::IdMap;

/// How long nothing must have been taken before the stock is filled up: making a namespace holds the kernel's
/// networking lock, which a start under way needs too.
const QUIET: Duration = Duration::from_millis(20);

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// A sandbox that is plugged into a bridge and has no addresses yet.
#[derive(Debug)]
pub struct Ready {
    /// The namespace.
    pub sandbox: Sandbox,
    /// Its connection to the bridge.
    pub cable: Cable,
}

/// A sandbox with a name server's sockets and a cable that is in no bridge yet.
#[derive(Debug)]
pub struct Loose {
    /// The namespace.
    pub sandbox: Sandbox,
    /// Its cable.
    pub cable: Cable,
    /// Where its processes ask for names.
    pub names: NameSockets,
}

/// What is done to a new sandbox before it is ready.
type Finish<T> = dyn Fn(Sandbox) -> Result<T, NetworkError> + Send + Sync;

/// Sandboxes held ready: plugged into one bridge, or with nothing but a loopback interface.
pub struct Stock<T> {
    shared: Arc<Shared<T>>,
    ids: IdMap,
    finish: Arc<Finish<T>>,
    maker: Option<thread::JoinHandle<()>>,
}

struct Shared<T> {
    shelf: Mutex<Shelf<T>>,
    changed: Condvar,
}

struct Shelf<T> {
    ready: VecDeque<T>,
    size: usize,
    quiet: Duration,
    /// Counts the takings.
    taken: u64,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Shelf<T>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock<Ready> {
    /// Begins to hold `size` sandboxes ready that are plugged into `bridge`, each in a user namespace of its own where
    /// `ids` are mapped. It must be called in the engine's network
    /// namespace.
    ///
    /// # Errors
    /// No netlink socket, no /proc, or no thread.
    pub fn plugged(bridge: &Bridge, size: usize, ids: IdMap) -> Result<Stock<Ready>, NetworkError> {
        let (route, bridge) = (Route::open()?, bridge.clone());
        Stock::new(size, QUIET, ids, move |sandbox| {
            let cable = Cable::plug(&route, &bridge, &sandbox)?;
            Ok(Ready { sandbox, cable })
        })
    }
}

impl Stock<Loose> {
    /// Begins to hold `size` sandboxes ready for whichever bridge, as [`Stock::plugged`] does.
    ///
    /// # Errors
    /// No netlink socket, no /proc, or no thread.
    pub fn loose(mtu: u32, size: usize, ids: IdMap) -> Result<Stock<Loose>, NetworkError> {
        let route = Route::open()?;
        Stock::new(size, QUIET, ids, move |sandbox| {
            let cable = Cable::plug(&route, &Bridge::none(mtu), &sandbox)?;
            let names = NameSockets::open(&sandbox)?;
            Ok(Loose { sandbox, cable, names })
        })
    }
}

impl Stock<Sandbox> {
    /// Begins to hold `size` sandboxes ready for containers without a network, as [`Stock::plugged`] does. It must be called in the engine's network
    /// namespace.
    ///
    /// # Errors
    /// No /proc, or no thread.
    pub fn bare(size: usize, ids: IdMap) -> Result<Stock<Sandbox>, NetworkError> {
        // The start under way needs no lock of the network.
        Stock::new(size, Duration::ZERO, ids, Ok)
    }
}

impl<T: Send + 'static> Stock<T> {
    fn new(
        size: usize,
        quiet: Duration,
        ids: IdMap,
        finish: impl Fn(Sandbox) -> Result<T, NetworkError> + Send + Sync + 'static,
    ) -> Result<Stock<T>, NetworkError> {
        let shelf = Shelf { ready: VecDeque::with_capacity(size), size, quiet, taken: 0, closed: false };
        let shared = Arc::new(Shared { shelf: Mutex::new(shelf), changed: Condvar::new() });
        let finish: Arc<Finish<T>> = Arc::new(finish);
        let maker = Maker::new(shared.clone(), ids, finish.clone())?;
        let thread = thread::Builder::new().name("sandbox-stock".to_owned()).stack_size(256 * 1024);
        let maker = thread.spawn(move || maker.run())?;
        Ok(Stock { shared, ids, finish, maker: Some(maker) })
    }

    /// A ready sandbox; made on the spot where the stock is empty.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn take(&self) -> Result<T, NetworkError> {
        let ready = {
            let mut shelf = self.shared.lock();
            shelf.taken += 1;
            shelf.ready.pop_front()
        };
        self.shared.changed.notify_all();
        match ready {
            Some(ready) => Ok(ready),
            None => self.make(sandbox::owner(self.ids)?),
        }
    }

    /// One that belongs to the user namespace `user`, or to the engine's, made on the spot.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn make(&self, user: Option<OwnedFd>) -> Result<T, NetworkError> {
        (self.finish)(Sandbox::create(user)?)
    }

    /// How many are ready now.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }
}

impl<T> Drop for Stock<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(maker) = self.maker.take() {
            // A panic of the maker was reported where it happened; the stock is closed in any case.
            drop(maker.join());
        }
    }
}

/// The thread that fills the stock.
struct Maker<T> {
    shared: Arc<Shared<T>>,
    ids: IdMap,
    finish: Arc<Finish<T>>,
    home: OwnedFd,
}

impl<T> Maker<T> {
    fn new(shared: Arc<Shared<T>>, ids: IdMap, finish: Arc<Finish<T>>) -> Result<Maker<T>, NetworkError> {
        let failed = |source| NetworkError::Namespace { action: "opening the network namespace", source };
        let home = sys::netns::current().map_err(failed)?;
        Ok(Maker { shared, ids, finish, home })
    }

    fn run(self) {
        while self.wait_for_need() {
            match self.make() {
                Ok(ready) => self.shared.lock().ready.push_back(ready),
                // Whoever takes from the empty stock meets the same failure and reports it.
                Err(_) => self.pause(RETRY),
            }
        }
    }

    /// Waits until something is missing and a quiet moment has come; false when the stock is closed.
    fn wait_for_need(&self) -> bool {
        let mut shelf = self.shared.lock();
        loop {
            if shelf.closed {
                return false;
            }
            if shelf.ready.len() >= shelf.size {
                shelf = self.shared.changed.wait(shelf).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let seen = shelf.taken;
            if seen == 0 || shelf.quiet.is_zero() {
                return true;
            }
            let quiet = shelf.quiet;
            let waited = self.shared.changed.wait_timeout(shelf, quiet);
            let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            shelf = now;
            if timeout.timed_out() && shelf.taken == seen {
                return !shelf.closed;
            }
        }
    }

    fn pause(&self, time: Duration) {
        let shelf = self.shared.lock();
        // Only the passing of time or a change is of interest.
        drop(self.shared.changed.wait_timeout_while(shelf, time, |shelf| !shelf.closed));
    }

    fn make(&self) -> Result<T, NetworkError> {
        use std::os::fd::AsFd;
        let made = sandbox::owner(self.ids).and_then(sandbox::create_here);
        // A thread that stayed in the namespace would keep it alive behind its container's back.
        sandbox::enter(self.home.as_fd())?;
        (self.finish)(made?)
    }
}
