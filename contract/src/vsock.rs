//! The vsock ports of the guest, see vsock(7).

/// CID of the host, the only peer the guest's listeners accept (vsock(7) `VMADDR_CID_HOST`).
pub const HOST_CID: u32 = 2;

/// The Docker Engine API, HTTP/1.1.
pub const API_PORT: u32 = 2375;

/// The control line of [`crate::line`], served by `init`.
pub const CONTROL_PORT: u32 = 2374;

/// The host door of [`crate::door`], served by `engined`.
pub const DOOR_PORT: u32 = 2373;

/// The streams of published ports, served by `carrier`: see [`crate::carrier`].
pub const CARRIER_PORT: u32 = 2372;
