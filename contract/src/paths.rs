//! Where things are in the guest's root tree, and which descriptor numbers `engined` inherits.

/// PID 1.
pub const INIT: &str = "/init";
/// The engine that [`INIT`] starts and restarts.
pub const ENGINED: &str = "/sbin/engined";
/// The engine that the host sent for the rest of this boot; it goes before [`ENGINED`].
pub const ENGINED_UPGRADE: &str = "/run/pinnace/engined";
/// Folder of the decompressed kernel modules and of their lists.
pub const MODULES: &str = "/lib/modules";
/// Modules needed before the engine can serve: one path relative to [`MODULES`] a line, in load order; behind a space the
/// parameters, where there are some.
pub const MODULES_BOOT: &str = "/lib/modules/boot.list";
/// Modules that containers and networks need; loaded while the engine already serves.
pub const MODULES_LATE: &str = "/lib/modules/late.list";
/// The blank data disk's ext4 image without its zeros: for each run of bytes its offset (u64) and length (u32), both
/// little-endian, then the bytes; offsets ascend. The last run has no bytes and the image's size as its offset.
pub const DATA_TEMPLATE: &str = "/usr/share/pinnace/data.ext4.runs";
/// Repairs the data disk; gone from the memory once that is mounted.
pub const E2FSCK: &str = "/sbin/e2fsck";
/// CA certificates in PEM form.
pub const CA_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Mount point of the data disk; all that must survive a power cut is below it.
pub const DATA: &str = "/var/lib/pinnace";
/// What may vanish with the power: a tmpfs.
pub const RUN: &str = "/run/pinnace";
/// `init`'s control socket for the namespace backend (a stream with [`crate::line`]).
pub const CONTROL_SOCKET: &str = "/run/pinnace/control.sock";
/// The engine's host door for the namespace backend (a stream with [`crate::door`]).
pub const DOOR_SOCKET: &str = "/run/pinnace/door.sock";
/// `carrier`'s socket for the namespace backend (streams with [`crate::carrier`]).
pub const CARRIER_SOCKET: &str = "/run/pinnace/carrier.sock";
/// The Docker Engine API; `/var/run` is a link to `/run`.
pub const DOCKER_SOCKET: &str = "/run/docker.sock";
/// Where containers mount the ssh agent of the host's user from, as with Docker Desktop. `carrier` serves it.
pub const SSH_AGENT_SOCKET: &str = "/run/host-services/ssh-auth.sock";
/// Folder of the mount points of the host's folders, which are named `0`, `1`, … in the order of the configuration document.
pub const HOST_FOLDERS: &str = "/mnt/host";
/// What changes in them is read from here, where the file exists: a change at a time, as a word and one or two paths below
/// [`HOST_FOLDERS`], each ended by a NUL; nothing when there is no more.
pub const HOST_CHANGES: &str = "/mnt/host/changes";
/// The name of the virtiofs file system that has them all, where they are not mounted already.
pub const HOST_FOLDERS_TAG: &str = "host";
/// Resolver configuration that DHCP or the settings gave.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Exists when every module of [`MODULES_LATE`] was tried.
pub const MODULES_READY: &str = "/run/pinnace/modules-ready";
/// Mount point of the unified cgroup hierarchy.
pub const CGROUP: &str = "/sys/fs/cgroup";
/// Cgroup of every container is a child of this one, relative to [`CGROUP`].
pub const CGROUP_CONTAINERS: &str = "docker";
/// Cgroup of `engined`, relative to [`CGROUP`].
pub const CGROUP_ENGINE: &str = "pinnace/engine";
/// Cgroup of `carrier`, relative to [`CGROUP`].
pub const CGROUP_CARRIER: &str = "pinnace/carrier";
/// Cgroup of `init`, relative to [`CGROUP`].
pub const CGROUP_INIT: &str = "pinnace/init";

/// `engined`'s end of the keeper socket.
pub const KEEPER_FD: i32 = 3;
/// Listening unix socket of the API.
pub const API_UNIX_FD: i32 = 4;
/// Listening vsock socket of the API; closed where there is no vsock.
pub const API_VSOCK_FD: i32 = 5;
/// The configuration document, a sealed file to be read from its start by position; closed where this boot has none.
pub const CONFIG_FD: i32 = 6;
/// Listening socket of the host door: vsock in a machine, unix in namespaces.
pub const DOOR_FD: i32 = 7;
/// Socket of the name server at [`crate::host::NAME_SERVER`], for UDP.
pub const NAMES_UDP_FD: i32 = 8;
/// The same, listening for TCP.
pub const NAMES_TCP_FD: i32 = 9;

/// The same of `carrier`: its own listening socket.
pub const CARRIER_FD: i32 = 3;
/// And the ssh agent's.
pub const AGENT_FD: i32 = 4;
/// And that of [`crate::host::ADDRESS`].
pub const HOST_FD: i32 = 5;
