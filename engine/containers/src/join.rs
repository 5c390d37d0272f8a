//! Namespaces that a container shares with another one or with the machine. The texts are dockerd's.

// All of it runs on a launching thread.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use runtime::ids::IdMap;
use runtime::launch::{BindMount, Join, JoinPid, Namespaces, Shm, UserNamespace};
use runtime::rootfs;
use runtime::view::View;

use super::config::HostConfig;
use super::container::Container;
use super::error::ContainerError;
use super::launch::start_error;
use super::registry::Shared;
use super::state::State;
use networks::{Attachment, Owner};

/// Where the machine's shared memory is.
const SHM: &str = "/dev/shm";

/// What a container with mapped ids cannot have.
///
/// # Errors
/// [`ContainerError::Invalid`] with dockerd's words.
pub(super) fn meet_mapped_ids(host: &HostConfig, ids: IdMap) -> Result<(), ContainerError> {
    if !ids.is_mapped() || host.userns_mode == "host" {
        return Ok(());
    }
    let refused = [
        (
            host.privileged,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
             when running privileged mode",
        ),
        (
            host.network_mode == "host",
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (host.pid_mode == "host", "cannot share the host PID namespace when user namespaces are enabled"),
    ];
    match refused.into_iter().find(|(asked, _)| *asked) {
        Some((_, text)) => Err(ContainerError::Invalid(text.to_owned())),
        None => Ok(()),
    }
}

/// Whose namespaces a container's are: whoever shares another one's processes or memory shares its user namespace.
///
/// # Errors
/// As [`namespaces`].
pub(super) fn owner(shared: &Shared, host: &HostConfig) -> Result<Owner, ContainerError> {
    if !shared.ids(host).is_mapped() {
        return Ok(Owner::Machine);
    }
    if let Some(id) = host.pid_mode.strip_prefix("container:") {
        return process_namespace(shared, id, "user").map(Owner::Other);
    }
    match host.ipc_mode.strip_prefix("container:") {
        Some(id) => Ok(Owner::Other(namespace(&*donor(shared, id)?, "user")?)),
        None => Ok(Owner::Own),
    }
}

/// The namespaces that are not the container's own.
///
/// # Errors
/// Another container is missing, does not run, or keeps its memory to itself.
pub(super) fn namespaces(
    shared: &Shared,
    host: &HostConfig,
    attachment: Attachment,
) -> Result<Namespaces, ContainerError> {
    let machine = |mode: &str| (mode == "host").then_some(Join::Host);
    let ids = shared.ids(host);
    Ok(Namespaces {
        user: attachment.userns.map(|file| UserNamespace { file, ids }),
        net: match attachment.netns {
            Some(netns) => Some(Join::Namespace(netns)),
            None => machine(&host.network_mode),
        },
        pid: match host.pid_mode.strip_prefix("container:") {
            Some(id) => Some(processes(shared, id)?),
            None => (host.pid_mode == "host").then_some(JoinPid::Host),
        },
        ipc: match host.ipc_mode.strip_prefix("container:") {
            Some(id) => Some(Join::Namespace(namespace(&*donor(shared, id)?, "ipc")?)),
            None => machine(&host.ipc_mode),
        },
        uts: machine(&host.uts_mode),
        cgroup: machine(&host.cgroupns_mode),
    })
}

/// What stands at /dev/shm.
///
/// # Errors
/// As [`namespaces`].
pub(super) fn shm(shared: &Shared, host: &HostConfig) -> Result<Shm, ContainerError> {
    match host.ipc_mode.as_str() {
        "none" => Ok(Shm::None),
        "host" => {
            let machine = BindMount { source: PathBuf::from(SHM), readonly: false, recursive: false };
            rootfs::bind(&machine).map(Shm::Mount).map_err(start_error)
        }
        mode => match mode.strip_prefix("container:") {
            Some(id) => mount_of(&*donor(shared, id)?).map(Shm::Mount),
            None => Ok(Shm::New { bytes: host.shm_size }),
        },
    }
}

fn running(shared: &Shared, id: &str) -> Result<Arc<Container>, ContainerError> {
    let other = shared.index().by_id.get(id).cloned();
    let other = other.ok_or_else(|| ContainerError::Invalid(format!("No such container: {id}")))?;
    match other.snapshot().state {
        State::Running(_) => Ok(other),
        State::Restarting(_) => {
            let text = format!("container {id} is restarting, wait until the container is running");
            Err(ContainerError::Conflict(text))
        }
        _ => Err(ContainerError::Conflict(format!("container {id} is not running"))),
    }
}

/// What is wrong with the other's processes is a failure of the start, not of its request.
fn process_namespace(shared: &Shared, id: &str, kind: &str) -> Result<OwnedFd, ContainerError> {
    running(shared, id).and_then(|other| namespace(&other, kind)).map_err(joining_pid)
}

fn joining_pid(error: ContainerError) -> ContainerError {
    ContainerError::unprepared(format!("failed to join PID namespace: {error}"))
}

/// The other's pid namespace with a view of it.
fn processes(shared: &Shared, id: &str) -> Result<JoinPid, ContainerError> {
    let namespace = process_namespace(shared, id, "pid")?;
    let proc = running(shared, id).and_then(|other| {
        let view = View::of_process(pid(&other)?, other.id());
        let proc = view.and_then(|view| view.proc(namespace.as_fd()));
        proc.map_err(ContainerError::machine("share /proc of a container"))
    });
    Ok(JoinPid::Container { namespace, proc: proc.map_err(joining_pid)? })
}

/// A container that shares its memory.
fn donor(shared: &Shared, id: &str) -> Result<Arc<Container>, ContainerError> {
    let joining = |error: ContainerError| {
        let text = format!("failed to join IPC namespace: {error}");
        if matches!(error, ContainerError::Conflict(_)) {
            ContainerError::Conflict(text)
        } else {
            ContainerError::Invalid(text)
        }
    };
    let other = running(shared, id).map_err(joining)?;
    let mode = other.record().host.ipc_mode.clone();
    if mode == "shareable" || mode == "host" || mode.starts_with("container:") {
        return Ok(other);
    }
    let text =
        format!("container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)");
    Err(joining(ContainerError::Invalid(text)))
}

fn pid(container: &Container) -> Result<u32, ContainerError> {
    let gone = || ContainerError::Conflict(format!("container {} is not running", container.id()));
    container.snapshot().state.running().map(|running| running.pid).ok_or_else(gone)
}

fn namespace(container: &Container, kind: &str) -> Result<OwnedFd, ContainerError> {
    let file = File::open(format!("/proc/{}/ns/{kind}", pid(container)?));
    file.map(OwnedFd::from)
        .map_err(ContainerError::machine(format!("open the {kind} namespace of a container")))
}

fn mount_of(container: &Container) -> Result<OwnedFd, ContainerError> {
    let view = View::of_process(pid(container)?, container.id());
    let mount = view.and_then(|view| view.mount(SHM.as_bytes()));
    mount.map_err(ContainerError::machine("share the memory of a container"))
}
