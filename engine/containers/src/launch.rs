//! From a record to a running first process: Docker's words on one side, the runtime's on the other.

// All of it runs on a launching thread or a file worker.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use runtime::capabilities::{self, Capabilities};
use runtime::cgroup::{self, Cgroup};
use runtime::devices::{Gate, GateError};
use runtime::launch::{
    BindMount, CapabilitySets, Device, LaunchError, Launched, Process, Registration, Rlimit, Spec,
    VolumeKind, VolumeMount, resource_by_name,
};
use runtime::rootfs::{self, PrepareError, Root};
use runtime::seccomp::{self, Profile};
use runtime::stdio::{Ends, Stdio};
use runtime::user::{self, Identity};

use super::config::{Config, HostConfig};
use super::container::Container;
use super::error::{CREATE_PREFIX, ContainerError, START_PREFIX};
use super::exec::ExecConfig;
use super::join;
use super::note::{Note, key};
use super::record::Record;
use super::registry::Shared;
use super::resources::{Resources, Support};
use super::restart::RestartPolicy;
use images::ImageId;
use model::timestamp::Timestamp;
use networks::ports::Published;
use networks::{Attachment, Endpoint};

/// A started container.
pub(super) struct Started {
    pub process: Launched,
    pub ends: Ends,
    pub endpoints: BTreeMap<String, Endpoint>,
    pub ports: Vec<Published>,
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What can be refused before anything exists.
///
/// # Errors
/// [`ContainerError::Invalid`] with Docker's words.
pub(super) fn validate(config: &Config, host: &HostConfig) -> Result<(), ContainerError> {
    let invalid = |text: String| Err(ContainerError::Invalid(text));
    if config.hostname.len() > 64 {
        return invalid(format!("hostname \"{}\" is too long (maximum 64 bytes)", config.hostname));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        let text = "is invalid, it needs to be an absolute path";
        return invalid(format!("the working directory '{}' {text}", config.working_dir));
    }
    if let Some(word) = config.env.iter().find(|word| word.is_empty() || word.starts_with('=')) {
        return invalid(format!("invalid environment variable: {word}"));
    }
    if !config.stop_signal.is_empty() && super::stop::signal_number(&config.stop_signal).is_none() {
        return invalid(format!("invalid signal: {}", config.stop_signal));
    }
    super::ports::asked(config, host)?;
    process::log::check(&host.log_driver, &host.log_options).or_else(invalid)?;
    if host.auto_remove && host.restart != RestartPolicy::No {
        return invalid("can't create 'AutoRemove' container with restart policy".to_owned());
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        let value = host.oom_score_adj;
        return invalid(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]"));
    }
    for (name, _, _) in &host.ulimits {
        if resource_by_name(name).is_none() {
            return invalid(format!("invalid ulimit type: {name}"));
        }
    }
    super::devices::validate(host)?;
    super::cgroups::check(&host.cgroup_parent).or_else(invalid)?;
    capability_set(host)?;
    SecurityOptions::parse(host)?;
    super::mounts::check(host)
}

/// Prepares what all containers share: the default seccomp program and the device gate.
pub fn warm_up() {
    drop(seccomp::builtin(capabilities::CONTAINER_DEFAULT));
    if let Err(error) = Gate::container_default() {
        tracing::warn!(%error, "devices are not gated");
    }
    if let Err(error) = runtime::launch::start_zygote() {
        tracing::warn!(%error, "the zygote is not started ahead");
    }
}

/// Starts the first process. Blocks; what it made is undone by [`undo`] on failure and after the end.
pub(super) fn start(
    shared: &Shared,
    container: &Container,
    started_at: Timestamp,
) -> Result<Started, ContainerError> {
    let mut steps = super::steps::Steps::begin();
    let record = container.record();
    super::devices::meet(&record.host.device_requests)?;
    super::sysctls::check(&record.host).map_err(|cause| ContainerError::start(CREATE_PREFIX, cause))?;
    let cgroup = make_cgroup(shared, &record)?;
    steps.done("cgroup");
    super::join::meet_mapped_ids(&record.host, shared.settings.ids)?;
    let (owner, ids) = (join::owner(shared, &record.host)?, shared.ids(&record.host));
    let mut attachment = super::places::attach(shared, &record, owner)?;
    steps.done("network");
    let ports = super::ports::publish(shared, &record, &attachment.endpoints)?;
    steps.done("ports");
    // Before anything is written into the container's folder, which a power cut may have taken.
    let root = container.idle.start(|| overlay(shared, container, &record))?;
    steps.done("overlay");
    if let Some(sockets) = attachment.names.take() {
        super::places::serve_names(shared, &record, sockets)?;
    }
    super::network_files::write(shared, container, &record, &attachment.endpoints)?;
    steps.done("files");
    let identity = user::resolve(root.as_fd(), &record.config.user, &record.host.group_add)
        .map_err(ContainerError::unprepared)?;
    let uid = ids.to_host(identity.ids.uid).map_err(ContainerError::unprepared)?;
    let stdio = if record.config.tty {
        let size = record.host.console_size;
        Stdio::terminal(uid, (size != (0, 0)).then_some(size), ids)
    } else {
        Stdio::pipes(uid, record.config.open_stdin)
    };
    let stdio = stdio.map_err(start_error)?;
    steps.done("user+stdio");
    let endpoints = attachment.endpoints.clone();
    let spec = spec(shared, container, &record, &identity, attachment)?;
    steps.done("spec");
    let note = Note {
        container: record.id.clone(),
        exec: false,
        probe: false,
        started_at,
        stdio: Note::number(stdio.kind()),
        endpoint: None,
    };
    super::runs::keep(shared, &record.id, &endpoints)
        .map_err(ContainerError::machine("note the container's place on its network"))?;
    let key = key(&record.id).expect("a container's id is made as 64 hexadecimal digits");
    let registration = Registration { socket: shared.keeper.fd(), key, note: note.encode() };
    let process = runtime::launch::start(&spec, root.as_fd(), &stdio, registration, cgroup.fd())
        .map_err(launch_error)?;
    steps.done("clone..exec");
    steps.tell(&record.id);
    Ok(Started { process, ends: stdio.into_ends(), endpoints, ports })
}

/// Gives back what a run had: its cgroup and its place on the network.
pub(super) fn undo(shared: &Shared, container: &Container) {
    if let Err(error) = cgroup::kill_and_remove(&shared.cgroup(&container.record())) {
        tracing::error!(container = container.id(), %error, "a process of the container does not end");
    }
    container.idle.ended();
    // Until then nobody else may have the address.
    shared.ports.release(container.id());
    super::places::detach(shared, container.id());
    shared.volumes.unmount(container.id());
}

/// The answer to a client whose launch ended in a bug.
pub(super) fn panicked() -> ContainerError {
    ContainerError::machine("start the container")(std::io::Error::other("the launching thread panicked"))
}

pub(super) fn start_error(error: PrepareError) -> ContainerError {
    ContainerError::start(START_PREFIX, error)
}

pub(super) fn launch_error(error: LaunchError) -> ContainerError {
    let executed = matches!(error, LaunchError::Exec { .. });
    let mut told = ContainerError::start(START_PREFIX, error);
    if let ContainerError::Start { registered, .. } = &mut told {
        *registered = executed;
    }
    told
}

fn make_cgroup(shared: &Shared, record: &Record) -> Result<Cgroup, ContainerError> {
    let failed = |error: cgroup::CgroupError| ContainerError::start(START_PREFIX, error);
    let cgroup = shared.make_cgroup(record).map_err(failed)?;
    let host = &record.host;
    let limits =
        limits(shared, &host.resources).map_err(|error| ContainerError::start(START_PREFIX, error))?;
    for (file, value) in limits {
        cgroup.write(file, &value).map_err(failed)?;
    }
    gate(host, &cgroup)?;
    Ok(cgroup)
}

/// Files of the control group and their values.
pub(super) fn limits(shared: &Shared, resources: &Resources) -> std::io::Result<Vec<(&'static str, String)>> {
    // Nothing is asked of the disk where nothing is limited.
    if *resources == Resources::default() {
        return Ok(Vec::new());
    }
    let weight = Support::of(&shared.cgroups()).weight;
    resources.files(weight, |path| {
        let device = runtime::devices::number_of(Path::new(path));
        device.map_err(|error| std::io::Error::new(error.kind(), format!("stat {path}: {error}")))
    })
}

/// Which devices the container may open. A kernel without device programs (an odd host of the namespace backend)
/// is told in the log.
fn gate(host: &HostConfig, cgroup: &Cgroup) -> Result<(), ContainerError> {
    if host.privileged {
        return Ok(());
    }
    let attached = match super::devices::rules(host)? {
        None => Gate::container_default().and_then(|gate| gate.attach(cgroup.fd())),
        Some(rules) => Gate::load(&rules).and_then(|gate| gate.attach(cgroup.fd())),
    };
    match attached {
        Ok(()) => Ok(()),
        Err(error @ GateError::Unsupported { .. }) => {
            tracing::warn!(%error, "devices are not gated");
            Ok(())
        }
        Err(error) => Err(ContainerError::start(START_PREFIX, error)),
    }
}

/// The folders of the image, lowest first.
pub(super) fn layers(shared: &Shared, record: &Record) -> Result<Vec<PathBuf>, ContainerError> {
    let image: ImageId = record.image_id.parse()?;
    let mut layers = vec![shared.settings.data.join("base")];
    layers.extend(shared.images.rootfs(&image)?);
    Ok(layers)
}

/// The image with the container's writable folder over it.
pub(super) fn overlay(
    shared: &Shared,
    container: &Container,
    record: &Record,
) -> Result<std::os::fd::OwnedFd, ContainerError> {
    let layers = layers(shared, record)?;
    let (upper, work) = (container.folder.join("upper"), container.folder.join("work"));
    // A power cut may have come between the record, which is synced, and the container's folders, which are not.
    if !upper.exists() || !work.exists() {
        let root = shared.ids(&record.host).root();
        super::create::make_writable(&container.folder, layers.last(), root)
            .map_err(ContainerError::machine("make the container's folder"))?;
    }
    rootfs::overlay(&Root { layers, upper, work }).map_err(start_error)
}

/// What is mounted into the root.
pub(super) fn mounts(
    shared: &Shared,
    container: &Container,
    record: &Record,
    user: Option<&str>,
) -> Result<Vec<VolumeMount>, ContainerError> {
    let mut mounts = super::mounts::attach(shared, record, user)?;
    for name in ["resolv.conf", "hostname", "hosts"] {
        let source = super::network_files::folder(shared, container, record).join(name);
        let bind = BindMount { source, readonly: record.host.readonly_rootfs, recursive: false };
        mounts.push(VolumeMount { target: format!("/etc/{name}"), kind: VolumeKind::Bind(bind) });
    }
    if has_init(&record.host) {
        // PID 1's own program, which is the container's init under this name.
        let bind =
            BindMount { source: PathBuf::from(contract::paths::INIT), readonly: true, recursive: false };
        mounts.push(VolumeMount { target: INIT.to_owned(), kind: VolumeKind::Bind(bind) });
    }
    Ok(mounts)
}

fn spec(
    shared: &Shared,
    container: &Container,
    record: &Record,
    identity: &Identity,
    attachment: Attachment,
) -> Result<Spec, ContainerError> {
    let host = &record.host;
    let mounts = mounts(shared, container, record, Some(&record.id))?;
    let namespaces = join::namespaces(shared, host, attachment)?;
    Ok(Spec {
        process: first_process(record, identity)?,
        may_share_memory: host.cgroup_parent.is_empty(),
        readonly_root: host.readonly_rootfs,
        hostname: super::network_files::hostname(shared, record),
        domainname: record.config.domainname.clone(),
        namespaces,
        mounts,
        shm: join::shm(shared, host)?,
        devices: nodes(host)?,
        masked_paths: host.masked(),
        readonly_paths: host.readonly(),
        sysctls: host.sysctls.clone().into_iter().collect(),
        writable_sys: host.privileged,
        writable_cgroups: host.privileged || SecurityOptions::parse(host)?.writable_cgroups,
    })
}

fn nodes(host: &HostConfig) -> Result<Vec<Device>, ContainerError> {
    let mut all = if host.privileged { runtime::devices::host_devices() } else { vec![] };
    all.extend(super::devices::nodes(host)?.into_iter().map(|(device, _)| device));
    Ok(all)
}

fn first_process(record: &Record, identity: &Identity) -> Result<Process, ContainerError> {
    let host = &record.host;
    let config = &record.config;
    let bounding = capability_set(host)?;
    let security = SecurityOptions::parse(host)?;
    let seccomp = match security.seccomp {
        SeccompChoice::Builtin if host.privileged => None,
        SeccompChoice::Builtin => Some(seccomp::builtin(bounding)),
        SeccompChoice::Unconfined => None,
        SeccompChoice::Profile(profile) => {
            let filter = profile.filter(&seccomp::Host::this(bounding));
            Some(std::sync::Arc::new(filter.map_err(|error| ContainerError::start(START_PREFIX, error))?))
        }
    };
    let limit = |value: i64| u64::try_from(value).ok();
    let rlimits = host.ulimits.iter().filter_map(|(name, soft, hard)| {
        Some(Rlimit { resource: resource_by_name(name)?, soft: limit(*soft), hard: limit(*hard) })
    });
    Ok(Process {
        args: arguments(record),
        env: environment(config, &config.env, config.tty, &identity.home),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        user: identity.ids.clone(),
        capabilities: capability_sets(bounding),
        signals_held: has_init(host),
        no_new_privileges: security.no_new_privileges,
        seccomp,
        rlimits: rlimits.collect(),
        oom_score_adj: host.oom_score_adj,
        terminal: config.tty,
    })
}

/// The process of an exec: the container's, with what the exec says over it.
pub(super) fn exec_process(
    record: &Record,
    config: &ExecConfig,
    identity: &Identity,
) -> Result<Process, ContainerError> {
    let container = &record.config;
    let mut words = container.env.clone();
    for word in &config.env {
        let key = word.split('=').next().unwrap_or_default();
        words.retain(|other| other.split('=').next() != Some(key));
        words.push(word.clone());
    }
    let mut process = first_process(record, identity)?;
    process.args.clone_from(&config.command);
    process.env = environment(container, &words, config.tty, &identity.home);
    if !config.working_dir.is_empty() {
        process.cwd.clone_from(&config.working_dir);
    }
    if config.privileged {
        process.capabilities = capability_sets(Capabilities::available());
    }
    process.oom_score_adj = 0;
    process.signals_held = false;
    process.terminal = config.tty;
    Ok(process)
}

/// Where Docker's init stands in a container.
const INIT: &str = "/sbin/docker-init";

/// Where processes are the machine's or another container's, somebody else is process 1.
fn has_init(host: &HostConfig) -> bool {
    host.init == Some(true) && matches!(host.pid_mode.as_str(), "" | "private")
}

fn arguments(record: &Record) -> Vec<String> {
    let init = [INIT.to_owned(), "--".to_owned()];
    init.into_iter().filter(|_| has_init(&record.host)).chain(record.command()).collect()
}

fn environment(config: &Config, words: &[String], tty: bool, home: &str) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    for word in words {
        let (key, has_value) = (word.split('=').next().unwrap_or_default(), word.contains('='));
        env.retain(|other| other.split('=').next() != Some(key));
        if has_value {
            env.push(word.clone());
        }
    }
    if !env.iter().any(|word| word.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

fn capability_set(host: &HostConfig) -> Result<Capabilities, ContainerError> {
    if host.privileged {
        return Ok(Capabilities::available());
    }
    let available = Capabilities::available();
    capabilities::adjust(capabilities::CONTAINER_DEFAULT, &host.cap_add, &host.cap_drop, available)
        .map_err(|error| ContainerError::Invalid(error.to_string()))
}

fn capability_sets(set: Capabilities) -> CapabilitySets {
    CapabilitySets { bounding: set.bits(), permitted: set.bits(), effective: set.bits(), inheritable: 0 }
}

enum SeccompChoice {
    Builtin,
    Unconfined,
    Profile(Box<Profile>),
}

struct SecurityOptions {
    writable_cgroups: bool,
    no_new_privileges: bool,
    seccomp: SeccompChoice,
}

impl SecurityOptions {
    fn parse(host: &HostConfig) -> Result<SecurityOptions, ContainerError> {
        let invalid = |text: String| ContainerError::Invalid(text);
        let mut options = SecurityOptions {
            writable_cgroups: false,
            no_new_privileges: false,
            seccomp: SeccompChoice::Builtin,
        };
        for option in &host.security_opt {
            if option == "no-new-privileges" {
                options.no_new_privileges = true;
                continue;
            }
            if option == "writable-cgroups" {
                options.writable_cgroups = true;
                continue;
            }
            let Some((key, value)) = option.split_once(['=', ':']) else {
                return Err(invalid(format!("invalid --security-opt 1: \"{option}\"")));
            };
            match (key, value) {
                ("no-new-privileges", "true" | "false") => options.no_new_privileges = value == "true",
                ("writable-cgroups", "1" | "t" | "T" | "true" | "True" | "TRUE") => {
                    options.writable_cgroups = true
                }
                ("writable-cgroups", "0" | "f" | "F" | "false" | "False" | "FALSE") => {
                    options.writable_cgroups = false;
                }
                ("seccomp", "unconfined") => options.seccomp = SeccompChoice::Unconfined,
                ("seccomp", "builtin") => options.seccomp = SeccompChoice::Builtin,
                ("seccomp", text) => {
                    let profile = Profile::parse(text)
                        .map_err(|error| invalid(format!("Decoding seccomp profile failed: {error}")))?;
                    options.seccomp = SeccompChoice::Profile(Box::new(profile));
                }
                // This kernel has neither; Docker accepts both then.
                ("apparmor" | "label", _) => {}
                _ => return Err(invalid(format!("invalid --security-opt 2: \"{option}\""))),
            }
        }
        Ok(options)
    }
}
