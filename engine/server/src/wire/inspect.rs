//! A container as `GET /containers/{id}/json` shows it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use containers::{Config, Container, Ended, Health, Record, Snapshot, State};
use networks::{Endpoint, Networks, Plug};
use serde_json::{Value, json};

use super::endpoint::endpoints;
use super::mounts;
use crate::app::App;
use crate::version::ApiVersion;

/// The whole answer.
pub fn inspect(container: &Container, app: &App, version: ApiVersion) -> Value {
    let networks = &*app.networks;
    let place = |name: &str| app.volumes.mountpoint(name).display().to_string();
    let (record, snapshot) = (container.record(), container.snapshot());
    let command = record.command();
    let (path, args) = command.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let file = |name: &str| container.folder.join(name).display().to_string();
    let log = container.log_path().map(|path| path.display().to_string()).unwrap_or_default();
    let execs = container.exec_ids();
    let mut value = json!({
        "Id": record.id, "Created": record.created.rfc3339(), "Path": path, "Args": args,
        "State": state(&snapshot.state, &record), "Image": record.image_id,
        "ResolvConfPath": file("resolv.conf"), "HostnamePath": file("hostname"), "HostsPath": file("hosts"),
        "LogPath": log, "Name": format!("/{}", record.name), "RestartCount": record.restarts.count, "Driver": "overlay2",
        "Platform": "linux", "MountLabel": "", "ProcessLabel": "", "AppArmorProfile": "",
        "ExecIDs": if execs.is_empty() { Value::Null } else { json!(execs) },
        "HostConfig": host(&record, version), "Mounts": mounts::show(&record, place), "Config": config(&record.config),
        "NetworkSettings": network_settings(&record, &snapshot, networks, version),
    });
    let mac = record.endpoint_settings().mac;
    if version < ApiVersion(1, 52) && !mac.is_empty() {
        value["Config"]["MacAddress"] = json!(mac);
    }
    if version < ApiVersion(1, 52) {
        value["Config"]["OnBuild"] = Value::Null;
        value["GraphDriver"] = json!({ "Name": "overlay2", "Data": null });
    } else {
        value["Storage"] = json!({ "RootFS": { "Snapshot": { "Name": "overlay2" } } });
    }
    value
}

fn state(state: &State, record: &Record) -> Value {
    let running = state.running();
    let none = Ended::default();
    let ended = state.ended().unwrap_or(&none);
    let started = running.map_or(ended.started_at, |running| running.started_at);
    let mut value = json!({
        "Status": state.status(), "Running": state.is_active(),
        "Paused": running.is_some_and(|running| running.paused), "Restarting": matches!(state, State::Restarting(_)),
        "OOMKilled": ended.oom_killed, "Dead": matches!(state, State::Damaged(_)), "Pid": running.map_or(0, |running| running.pid),
        "ExitCode": ended.exit_code, "Error": ended.error, "StartedAt": started.rfc3339(),
        "FinishedAt": if running.is_some() { record.finished_at } else { ended.finished_at }.rfc3339(),
    });
    if let Some(health) = &record.health {
        value["Health"] = self::health(health);
    }
    value
}

fn health(health: &Health) -> Value {
    let log = health.log.iter().map(|probe| {
        json!({
            "Start": probe.start.rfc3339(), "End": probe.end.rfc3339(), "ExitCode": probe.exit_code,
            "Output": probe.output,
        })
    });
    let log: Vec<Value> = log.collect();
    json!({ "Status": health.status.as_str(), "FailingStreak": health.failing_streak, "Log": log })
}

fn config(config: &Config) -> Value {
    let set = |names: &std::collections::BTreeSet<String>| -> Value {
        if names.is_empty() {
            return Value::Null;
        }
        names.iter().map(|name| (name.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let mut value = json!({
        "Hostname": config.hostname, "Domainname": config.domainname, "User": config.user,
        "AttachStdin": config.attach_stdin, "AttachStdout": config.attach_stdout,
        "AttachStderr": config.attach_stderr, "Tty": config.tty, "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once, "Env": config.env, "Cmd": config.cmd, "Image": config.image,
        "Volumes": set(&config.volumes), "WorkingDir": config.working_dir, "Entrypoint": config.entrypoint,
        "Labels": config.labels,
    });
    let optional = [
        ("ExposedPorts", set(&config.exposed_ports)),
        ("StopSignal", if config.stop_signal.is_empty() { Value::Null } else { json!(config.stop_signal) }),
        ("StopTimeout", json!(config.stop_timeout)),
        ("Shell", json!(config.shell)),
        ("Healthcheck", config.healthcheck.as_ref().map_or(Value::Null, super::images::health)),
    ];
    for (key, field) in optional.into_iter().filter(|(_, field)| !field.is_null()) {
        value[key] = field;
    }
    value
}

/// Fields that this engine does not do yet show the value they then must have had.
fn host(record: &Record, version: ApiVersion) -> Value {
    let host = &record.host;
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let ulimits: Vec<Value> = host
        .ulimits
        .iter()
        .map(|(name, soft, hard)| json!({ "Name": name, "Soft": soft, "Hard": hard }))
        .collect();
    let devices = host.devices.iter().map(|device| {
        json!({
            "PathOnHost": device.on_host, "PathInContainer": device.in_container,
            "CgroupPermissions": device.permissions,
        })
    });
    let devices: Vec<Value> = devices.collect();
    let requests = host.device_requests.iter().map(|request| {
        json!({
            "Driver": request.driver, "Count": request.count, "DeviceIDs": list(&request.device_ids),
            "Capabilities": request.capabilities, "Options": request.options,
        })
    });
    let requests: Vec<Value> = requests.collect();
    let mut value = json!({
        "Binds": list(&host.binds), "ContainerIDFile": "",
        "LogConfig": { "Type": host.log_driver, "Config": host.log_options }, "NetworkMode": host.network_mode,
        "PortBindings": host.port_bindings, "RestartPolicy": { "Name": host.restart.name(), "MaximumRetryCount": host.restart.retries() },
        "AutoRemove": host.auto_remove, "VolumeDriver": host.volume_driver, "VolumesFrom": list(&host.volumes_from),
        "ConsoleSize": [host.console_size.0, host.console_size.1], "CapAdd": list(&host.cap_add),
        "CapDrop": list(&host.cap_drop), "CgroupnsMode": host.cgroupns_mode, "Dns": host.dns,
        "DnsOptions": host.dns_options, "DnsSearch": host.dns_search, "ExtraHosts": list(&host.extra_hosts),
        "GroupAdd": list(&host.group_add), "IpcMode": host.ipc_mode, "Cgroup": "", "Links": links(record),
        "OomScoreAdj": host.oom_score_adj, "PidMode": host.pid_mode, "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all_ports, "ReadonlyRootfs": host.readonly_rootfs, "SecurityOpt": list(&host.security_opt),
        "Tmpfs": if host.tmpfs.is_empty() { Value::Null } else { json!(host.tmpfs) },
        "Sysctls": if host.sysctls.is_empty() { Value::Null } else { json!(host.sysctls) },
        "UTSMode": host.uts_mode, "UsernsMode": host.userns_mode, "ShmSize": host.shm_size, "Runtime": "runc", "Isolation": "",
        "CgroupParent": host.cgroup_parent, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "Devices": devices,
        "DeviceCgroupRules": list(&host.device_cgroup_rules),
        "DeviceRequests": if requests.is_empty() { Value::Null } else { json!(requests) },
        "Ulimits": ulimits, "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
        "MaskedPaths": if host.privileged { Value::Null } else { json!(host.masked()) },
        "ReadonlyPaths": if host.privileged { Value::Null } else { json!(host.readonly()) },
    });
    if version >= ApiVersion(1, 43) && !host.annotations.is_empty() {
        value["Annotations"] = json!(host.annotations);
    }
    if let Some(init) = host.init {
        value["Init"] = json!(init);
    }
    if !host.mounts.is_empty() {
        value["Mounts"] = json!(host.mounts);
    }
    if let (Some(all), Value::Object(limits)) =
        (value.as_object_mut(), super::resources::show(&host.resources))
    {
        all.extend(limits);
    }
    value
}

/// `/target:/container/alias`, as dockerd shows them.
fn links(record: &Record) -> Value {
    let shown = |link: &String| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        json!(format!("/{}:/{}/{alias}", target.trim_start_matches('/'), record.name))
    };
    let links: Vec<Value> = record.host.links.iter().map(shown).collect();
    if links.is_empty() { Value::Null } else { links.into() }
}

/// The place on the default bridge while the container runs; before and after it the addresses are empty.
fn default_place<'a>(record: &'a Record, snapshot: &Snapshot) -> Option<&'a Endpoint> {
    record.endpoints.get(networks::DEFAULT).filter(|_| snapshot.state.running().is_some())
}

/// Whether the container runs and has a place on some bridge: ports are published there alone.
pub fn has_place(record: &Record, snapshot: &Snapshot) -> bool {
    let bridged = record.endpoints.values().any(|place| place.plug == Plug::Bridge);
    bridged && snapshot.state.running().is_some()
}

fn network_settings(record: &Record, snapshot: &Snapshot, networks: &Networks, version: ApiVersion) -> Value {
    let place = default_place(record, snapshot);
    let mut value = json!({
        "SandboxID": "", "SandboxKey": "", "Ports": ports(record, has_place(record, snapshot)),
        "Networks": endpoints(record, snapshot, networks),
    });
    if version < ApiVersion(1, 52) {
        let legacy = json!({
            "Bridge": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
            "EndpointID": place.map_or("", |p| p.endpoint_id.as_str()),
            "Gateway": place.and_then(|p| p.gateway).map_or(String::new(), |gateway| gateway.to_string()),
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "IPAddress": place.and_then(|p| p.address).map_or(String::new(), |net| net.addr().to_string()),
            "IPPrefixLen": place.and_then(|p| p.address).map_or(0, |net| net.prefix_len()), "IPv6Gateway": "",
            "MacAddress": place.map_or("", |p| p.mac.as_str()),
        });
        if let (Some(all), Value::Object(legacy)) = (value.as_object_mut(), legacy) {
            all.extend(legacy);
        }
    }
    value
}

/// The ports of a container that has a place on a bridge; null for one that is exposed and not published.
fn ports(record: &Record, has_place: bool) -> Value {
    let all = if has_place { super::ports::all(record) } else { BTreeMap::new() };
    let place = |(ip, port): (IpAddr, u16)| json!({ "HostIp": ip.to_string(), "HostPort": port.to_string() });
    let places = |places: Vec<_>| match places.is_empty() {
        true => Value::Null,
        false => places.into_iter().map(place).collect(),
    };
    all.into_iter().map(|(port, all)| (port, places(all))).collect::<serde_json::Map<_, _>>().into()
}
