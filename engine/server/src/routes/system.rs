//! Tag System: ping, version, info.

// The files of /proc are answered by the kernel from memory.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;

use ::images::ImageError;
use contract::VERSION;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA};
use model::ErrorKind;
use serde_json::json;

use crate::app::App;
use crate::call::Call;
use crate::reply::{self, ApiError, Reply};
use crate::version::{ApiVersion, NEWEST, OLDEST};
use crate::wire::images;

/// `GET|HEAD /_ping`: clients negotiate the version with it.
pub async fn ping(_: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let body = if call.is_head() { "" } else { "OK" };
    let mut reply = hyper::Response::new(reply::full(body));
    let headers = reply.headers_mut();
    let fixed = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (PRAGMA, "no-cache"),
        // The classic builder: BuildKit's control is not served.
        (HeaderName::from_static("builder-version"), "1"),
        (HeaderName::from_static("swarm"), "inactive"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(reply)
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `GET /version`.
pub async fn version(_: Arc<App>, _: Call) -> Result<Reply, ApiError> {
    let (api, oldest) = (NEWEST.to_string(), OLDEST.to_string());
    let arch = go_arch();
    let details = json!({
        "ApiVersion": api, "MinAPIVersion": oldest, "GitCommit": VERSION, "GoVersion": "none (Rust)", "Os": "linux",
        "Arch": arch, "BuildTime": "", "KernelVersion": kernel(), "Experimental": "false",
    });
    Ok(reply::ok(&json!({
        "Platform": { "Name": "Pinnace" },
        "Components": [{ "Name": "Engine", "Version": VERSION, "Details": details }],
        "Version": VERSION, "ApiVersion": api, "MinAPIVersion": oldest, "GitCommit": VERSION,
        "GoVersion": "none (Rust)", "Os": "linux", "Arch": arch, "KernelVersion": kernel(), "BuildTime": "",
    })))
}

/// Go's name of the architecture.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /plugins`: there are none.
pub async fn plugins(_: Arc<App>, _: Call) -> Result<Reply, ApiError> {
    Ok(reply::ok(&json!([])))
}

/// `POST /auth`: asks the registry; the client keeps the credentials.
pub async fn auth(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body = call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    let (address, credentials) =
        images::login(body).map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))?;
    app.images.login(&address, credentials).await.map_err(refusal)?;
    Ok(reply::ok(&json!({ "IdentityToken": "", "Status": "Login Succeeded" })))
}

/// Whatever keeps the registry from answering is an internal error, as in dockerd.
fn refusal(error: ImageError) -> ApiError {
    let kind = match &error {
        ImageError::Registry(cause) if cause.is_unauthorized() => ErrorKind::Unauthorized,
        ImageError::Registry(_) => ErrorKind::Internal,
        other => other.kind(),
    };
    ApiError::of(kind, error.to_string())
}

/// `GET /info`.
pub async fn info(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let containers = app.containers.list();
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    for container in &containers {
        match container.snapshot().state.status() {
            "running" | "restarting" => running += 1,
            "paused" => paused += 1,
            _ => stopped += 1,
        }
    }
    let limits = Limits::read();
    let uname = rustix::system::uname();
    let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
    let mirrors = &app.config.registry_mirrors;
    let mut insecure = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    insecure.extend(app.config.insecure_registries.iter().filter(|entry| entry.contains('/')).cloned());
    let mut indexes = json!({
        "docker.io": { "Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true },
    });
    for host in app.config.insecure_registries.iter().filter(|entry| !entry.contains('/')) {
        indexes[host] = json!({ "Name": host, "Mirrors": [], "Secure": false, "Official": false });
    }
    let mut security = vec!["name=seccomp,profile=builtin"];
    security.extend(app.config.userns_remap.map(|_| "name=userns"));
    security.push("name=cgroupns");
    let mut info = json!({
        "ID": app.id, "Name": text(uname.nodename()), "ServerVersion": VERSION,
        "Containers": containers.len(), "ContainersRunning": running, "ContainersPaused": paused,
        "ContainersStopped": stopped, "Images": app.images.list().len(),
        "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]],
        "Plugins": {
            "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "MemoryLimit": limits.memory, "SwapLimit": limits.memory, "CpuCfsPeriod": limits.cpu,
        "CpuCfsQuota": limits.cpu, "CPUShares": limits.cpu, "CPUSet": limits.cpuset, "PidsLimit": limits.pids,
        "IPv4Forwarding": true, "Debug": false, "NFd": count_fds(), "OomKillDisable": false,
        "NGoroutines": 0, "SystemTime": model::timestamp::Timestamp::now().rfc3339(),
        "LoggingDriver": "json-file", "CgroupDriver": "cgroupfs", "CgroupVersion": "2",
        "NEventsListener": app.events.listeners(), "KernelVersion": kernel(),
        "OperatingSystem": "Pinnace", "OSVersion": VERSION, "OSType": "linux",
        "Architecture": text(uname.machine()), "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory_total(), "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": insecure, "IndexConfigs": indexes, "Mirrors": mirrors,
        },
        "GenericResources": null, "DockerRootDir": crate::app::data(&app.config), "HttpProxy": "", "HttpsProxy": "",
        "NoProxy": "", "Labels": [], "ExperimentalBuild": false,
        "Runtimes": { "runc": { "path": "pinnace" } }, "DefaultRuntime": "runc",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "docker-init",
        "ContainerdCommit": { "ID": "" }, "RuncCommit": { "ID": "" }, "InitCommit": { "ID": "" },
        "SecurityOptions": security, "CDISpecDirs": [],
        "Warnings": limits.warnings(),
    });
    add_versioned(&mut info, call.version);
    Ok(reply::ok(&info))
}

/// Fields that came and went with the versions. Container Device Interface, containerd and its plugins (`NRI`) are not
/// here, so what tells of them stays away, as it does in a dockerd without them.
fn add_versioned(info: &mut serde_json::Value, version: ApiVersion) {
    if version < ApiVersion(1, 47) {
        info["RegistryConfig"]["AllowNondistributableArtifactsCIDRs"] = json!(null);
        info["RegistryConfig"]["AllowNondistributableArtifactsHostnames"] = json!(null);
    }
    if version < ApiVersion(1, 49) {
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            info[commit]["Expected"] = info[commit]["ID"].clone();
        }
    } else {
        info["FirewallBackend"] = json!({ "Driver": "nftables" });
    }
    if version < ApiVersion(1, 50) {
        info["BridgeNfIptables"] = json!(false);
        info["BridgeNfIp6tables"] = json!(false);
    }
}

/// What the containers' cgroups can limit.
struct Limits {
    memory: bool,
    cpu: bool,
    cpuset: bool,
    pids: bool,
}

impl Limits {
    fn read() -> Limits {
        let path =
            format!("{}/{}/cgroup.controllers", contract::paths::CGROUP, contract::paths::CGROUP_CONTAINERS);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let has = |name: &str| text.split_whitespace().any(|word| word == name);
        Limits { memory: has("memory"), cpu: has("cpu"), cpuset: has("cpuset"), pids: has("pids") }
    }

    fn warnings(&self) -> Option<Vec<&'static str>> {
        let all = [
            (self.memory, "WARNING: No memory limit support"),
            (self.cpu, "WARNING: No cpu cfs quota support"),
            (self.cpuset, "WARNING: No cpuset support"),
            (self.pids, "WARNING: No pids limit support"),
        ];
        let missing: Vec<_> = all.into_iter().filter(|(has, _)| !has).map(|(_, text)| text).collect();
        (!missing.is_empty()).then_some(missing)
    }
}

fn count_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Bytes of memory the kernel manages.
fn memory_total() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
