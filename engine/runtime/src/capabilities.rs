//! Sets of capabilities, see capabilities(7): their names, the default set of a container and the algebra of
//! adding to it and dropping from it.
//!
//! It does not set anything on a process; the launcher does that with [`Capabilities::bits`].

use std::fmt;
use std::sync::OnceLock;

/// Names by bit number, without `CAP_`: linux/capability.h up to CAP_CHECKPOINT_RESTORE (5.9).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// CAP_SYS_ADMIN.
    pub const SYS_ADMIN: Capability = Capability(21);

    /// The bit number of linux/capability.h.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Reads a name in any case, with or without `CAP_`.
    #[must_use]
    pub fn named(name: &str) -> Option<Capability> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == bare)?;
        u8::try_from(number).ok().map(Capability)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CAP_{}", NAMES[usize::from(self.0)])
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(u64);

/// What a container gets without being asked (moby `daemon/pkg/oci/caps/defaults.go`): CHOWN, DAC_OVERRIDE,
/// FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE and
/// SETFCAP.
pub const CONTAINER_DEFAULT: Capabilities = Capabilities(0xa804_25fb);

impl Capabilities {
    /// No capability.
    pub const NONE: Capabilities = Capabilities(0);
    /// Every capability this build knows.
    pub const KNOWN: Capabilities = Capabilities((1 << NAMES.len()) - 1);

    /// As the kernel counts: bit *n* is capability number *n*.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The known capabilities among the kernel's bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Capabilities {
        Capabilities(bits & Self::KNOWN.0)
    }

    /// Whether `capability` is in the set.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// The set with `capability`.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Capabilities {
        Capabilities(self.0 | 1 << capability.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// The members by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..64).filter(move |number| self.0 & (1 << number) != 0).map(Capability)
    }

    /// What this process may hand on: its bounding set. Read once; the engine never lowers its own.
    #[must_use]
    pub fn available() -> Capabilities {
        static AVAILABLE: OnceLock<Capabilities> = OnceLock::new();
        *AVAILABLE.get_or_init(|| {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            bounding(&status).unwrap_or(Capabilities::KNOWN)
        })
    }
}

/// The `CapBnd:` line of proc_pid_status(5).
fn bounding(status: &str) -> Option<Capabilities> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(hex.trim(), 16).ok().map(Capabilities::from_bits)
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(members: I) -> Capabilities {
        members.into_iter().fold(Capabilities::NONE, Capabilities::with)
    }
}

/// Why a name is no capability for this container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No kernel has it.
    #[error("unknown capability: {name:?}")]
    Unknown {
        /// In upper case with `CAP_`.
        name: String,
    },
    /// This kernel has it not, or the engine itself may not hand it on.
    #[error("capability not supported by your kernel or not available in the current environment: {name:?}")]
    Unavailable {
        /// In upper case with `CAP_`.
        name: String,
    },
}

/// Which of the two lists was wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdjustError {
    /// The list of additions.
    #[error("invalid CapAdd: {0}")]
    Add(#[source] NameError),
    /// The list of removals.
    #[error("invalid CapDrop: {0}")]
    Drop(#[source] NameError),
}

/// A list of names: the named ones, and whether `ALL` was among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Listed {
    named: Capabilities,
    all: bool,
}

fn listed(names: &[impl AsRef<str>], available: Capabilities) -> Result<Listed, NameError> {
    let mut listed = Listed::default();
    for name in names.iter().map(AsRef::as_ref) {
        if name.eq_ignore_ascii_case("ALL") {
            listed.all = true;
            continue;
        }
        let capability = Capability::named(name).ok_or_else(|| NameError::Unknown { name: full(name) })?;
        if !available.has(capability) {
            return Err(NameError::Unavailable { name: full(name) });
        }
        listed.named = listed.named.with(capability);
    }
    Ok(listed)
}

fn full(name: &str) -> String {
    let upper = name.to_uppercase();
    if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

/// The set of a container that asked to add and to drop: with `ALL` added everything available but what is
/// dropped, with `ALL` dropped exactly what is added, else `base` without what is dropped and with what is added.
///
/// Names are in any case, `CAP_` is optional.
///
/// # Errors
/// A name that is unknown, or known but not in `available`.
pub fn adjust(
    base: Capabilities,
    add: &[impl AsRef<str>],
    drop: &[impl AsRef<str>],
    available: Capabilities,
) -> Result<Capabilities, AdjustError> {
    let drop = listed(drop, available).map_err(AdjustError::Drop)?;
    let add = listed(add, available).map_err(AdjustError::Add)?;
    if add.all {
        return Ok(available.minus(drop.named));
    }
    let kept = if drop.all { Capabilities::NONE } else { base.and(available).minus(drop.named) };
    Ok(kept.or(add.named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Capabilities {
        names.iter().map(|name| Capability::named(name).unwrap()).collect()
    }

    #[test]
    fn the_default_set_is_the_fourteen() {
        let names = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP \
                     NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";
        let names: Vec<&str> = names.split_whitespace().collect();
        assert_eq!(set(&names), CONTAINER_DEFAULT);
        assert_eq!(CONTAINER_DEFAULT.iter().count(), 14);
    }

    #[test]
    fn names_are_read_in_every_form() {
        for name in ["cap_net_admin", "NET_ADMIN", "Cap_Net_Admin", "net_admin"] {
            let capability = Capability::named(name).unwrap();
            assert_eq!((capability.number(), capability.to_string().as_str()), (12, "CAP_NET_ADMIN"));
        }
        for name in ["", "CAP_", "CAP_CAP_KILL", "ALL", "NET ADMIN"] {
            assert_eq!(Capability::named(name), None, "{name}");
        }
        assert_eq!(Capability::named("SYS_ADMIN"), Some(Capability::SYS_ADMIN));
    }

    fn check(add: &[&str], drop: &[&str], expected: Result<Capabilities, &str>) {
        let available = Capabilities::KNOWN.minus(set(&["SYS_RESOURCE"]));
        let got = adjust(CONTAINER_DEFAULT, add, drop, available).map_err(|error| error.to_string());
        assert_eq!(got, expected.map_err(str::to_owned), "add {add:?} drop {drop:?}");
    }

    #[test]
    fn adding_and_dropping() {
        let available = Capabilities::KNOWN.minus(set(&["SYS_RESOURCE"]));
        check(&[], &[], Ok(CONTAINER_DEFAULT));
        check(
            &["net_admin"],
            &["CAP_KILL"],
            Ok(CONTAINER_DEFAULT.minus(set(&["KILL"])).or(set(&["NET_ADMIN"]))),
        );
        check(&["all"], &["MKNOD"], Ok(available.minus(set(&["MKNOD"]))));
        check(&["KILL"], &["ALL"], Ok(set(&["KILL"])));
        check(&[], &["ALL"], Ok(Capabilities::NONE));
        check(&["ALL"], &["ALL"], Ok(available));
        check(&["KILL"], &["KILL"], Ok(CONTAINER_DEFAULT));
        check(&["x"], &[], Err("invalid CapAdd: unknown capability: \"CAP_X\""));
        check(&[], &["cap_y"], Err("invalid CapDrop: unknown capability: \"CAP_Y\""));
        check(
            &["sys_resource"],
            &[],
            Err(
                "invalid CapAdd: capability not supported by your kernel or not available in the current environment: \"CAP_SYS_RESOURCE\"",
            ),
        );
    }

    #[test]
    fn the_bounding_set_is_found() {
        let status = "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t000001fffeffffff\n";
        assert_eq!(bounding(status), Some(Capabilities::KNOWN.minus(set(&["SYS_RESOURCE"]))));
        assert_eq!(bounding("Name:\tx\n"), None);
    }
}
