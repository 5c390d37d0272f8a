//! How user and group ids of a container stand to those of the machine.

/// Ids that a container with mapped ids has, 0 to 65535.
pub const COUNT: u32 = 1 << 16;

/// What the kernel shows for an id that is not mapped (/proc/sys/kernel/overflowuid).
const NOBODY: u32 = 65534;

/// A container's ids, one after the other, in the machine's numbers; the default is the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdMap {
    first: Option<u32>,
}

/// An id of a container that the machine has no number for. The text is dockerd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("container ID {0} cannot be mapped to a host ID")]
pub struct NotMapped(pub u32);

impl IdMap {
    /// The container's 0 is the machine's `first`.
    #[must_use]
    pub fn from(first: Option<u32>) -> IdMap {
        IdMap { first }
    }

    /// Whether the numbers differ.
    #[must_use]
    pub fn is_mapped(self) -> bool {
        self.first.is_some()
    }

    /// The machine's number of the container's root.
    #[must_use]
    pub fn root(self) -> u32 {
        self.first.unwrap_or(0)
    }

    /// The machine's number.
    ///
    /// # Errors
    /// The container has no such id.
    pub fn to_host(self, id: u32) -> Result<u32, NotMapped> {
        match self.first {
            None => Ok(id),
            Some(first) if id < COUNT => first.checked_add(id).ok_or(NotMapped(id)),
            Some(_) => Err(NotMapped(id)),
        }
    }

    /// The number that the container sees: nobody's where it is none of its own.
    #[must_use]
    pub fn seen(self, id: u32) -> u32 {
        match self.first {
            None => id,
            Some(first) => id.checked_sub(first).filter(|id| *id < COUNT).unwrap_or(NOBODY),
        }
    }

    /// The words of /proc/PID/uid_map and gid_map; empty where the numbers are the same.
    #[must_use]
    pub fn words(self) -> String {
        self.first.map_or_else(String::new, |first| format!("0 {first} {COUNT}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_moved_both_ways() {
        let map = IdMap::from(Some(100_000));
        assert_eq!((map.to_host(0), map.to_host(65535)), (Ok(100_000), Ok(165_535)));
        assert_eq!(map.to_host(65536), Err(NotMapped(65536)));
        assert_eq!((map.seen(100_000), map.seen(165_535)), (0, 65535));
        assert_eq!((map.seen(0), map.seen(99_999), map.seen(165_536)), (NOBODY, NOBODY, NOBODY));
        assert_eq!(map.words(), "0 100000 65536");
        assert_eq!(map.root(), 100_000);
    }

    #[test]
    fn without_a_map_nothing_changes() {
        let map = IdMap::default();
        assert_eq!((map.to_host(70_000), map.seen(70_000), map.root()), (Ok(70_000), 70_000, 0));
        assert!(!map.is_mapped());
    }
}
