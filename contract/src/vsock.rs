//! The vsock ports of the guest, see vsock(7).

/// CID of the host, the only peer the guest's listeners accept (vsock(7) `VMADDR_CID_HOST`).
pub const HOST_CID: u32 = 2;

/// The Docker Engine API, HTTP/1.1.
pub const API_PORT: u32 = 2375;

/// The control line of [`crate::line`], served by `init`.
pub const CONTROL_PORT: u32 = 2374;
