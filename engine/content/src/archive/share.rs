//! Memory for what a container's files make the engine remember.
//!
//! A container may have millions of names, and 64 requests may look at them at one time. Most need little. Who needs more
//! than [`LITTLE`] waits for one of [`PLACES`] places, so that all together never take more than a part of a small
//! machine's memory: 64 x 2 MiB + 3 x 64 MiB.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::sync::{Condvar, Mutex};

/// Bytes that everybody may take.
const LITTLE: usize = 2 << 20;
/// Bytes that one list may take.
const MOST: usize = 64 << 20;
/// Threads that may take more than a little.
const PLACES: usize = 3;

static FREE: Mutex<usize> = Mutex::new(PLACES);
static FREED: Condvar = Condvar::new();

thread_local! {
    /// How many lists of this thread have grown large: it needs one place for all of them, or it might wait for
    /// others that wait for it.
    static LARGE_LISTS: Cell<usize> = const { Cell::new(0) };
}

/// The memory that one list takes.
#[derive(Debug, Default)]
pub struct Share {
    taken: usize,
    place: Option<Place>,
}

/// The thread's right to take more than a little.
#[derive(Debug)]
struct Place(PhantomData<*const ()>);

impl Share {
    /// Takes more; waits where too many others have much.
    ///
    /// # Errors
    /// It would be more than one list may take.
    pub fn grow(&mut self, bytes: usize) -> io::Result<()> {
        let taken = self.taken.saturating_add(bytes);
        if taken > MOST {
            return Err(io::Error::other("the folders have too many names"));
        }
        if taken > LITTLE && self.place.is_none() {
            self.place = Some(Place::wait());
        }
        self.taken = taken;
        Ok(())
    }

    /// Gives some back.
    pub fn shrink(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
        if self.taken <= LITTLE {
            self.place = None;
        }
    }
}

impl Place {
    fn wait() -> Place {
        if LARGE_LISTS.get() == 0 {
            let free = FREE.lock().expect("no holder of the places panics");
            let mut free = FREED.wait_while(free, |free| *free == 0).expect("no holder of the places panics");
            *free -= 1;
        }
        LARGE_LISTS.set(LARGE_LISTS.get() + 1);
        Place(PhantomData)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        LARGE_LISTS.set(LARGE_LISTS.get() - 1);
        if LARGE_LISTS.get() == 0 {
            *FREE.lock().expect("no holder of the places panics") += 1;
            FREED.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn few_have_much_at_one_time() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let (mut one, mut other) = (Share::default(), Share::default());
                    one.grow(LITTLE + 1).unwrap();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // A second list of the same thread waits for nobody.
                    other.grow(LITTLE + 1).unwrap();
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= PLACES);
    }

    #[test]
    fn one_list_has_an_end() {
        let mut share = Share::default();
        share.grow(MOST).unwrap();
        assert!(share.grow(1).is_err());
        share.shrink(MOST);
        share.grow(1).unwrap();
    }
}
