//! Which kernel parameters a container may set: those that belong to a namespace of its own. The texts are runc's.

use super::config::HostConfig;

const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// # Errors
/// runc's words.
pub(super) fn check(host: &HostConfig) -> Result<(), String> {
    host.sysctls.keys().try_for_each(|name| one(host, &name.replace('/', ".")))
}

fn one(host: &HostConfig, name: &str) -> Result<(), String> {
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return match host.ipc_mode.as_str() {
            "host" => Err(format!("sysctl \"{name}\" is not allowed in the hosts ipc namespace")),
            _ => Ok(()),
        };
    }
    if name.starts_with("net.") {
        return match host.network_mode.as_str() {
            "host" => Err(format!("sysctl \"{name}\" not allowed in host network namespace")),
            _ => Ok(()),
        };
    }
    match (name, host.uts_mode.as_str()) {
        (_, "host") => {}
        ("kernel.domainname", _) => return Ok(()),
        ("kernel.hostname", _) => {
            let text = "is not allowed as it conflicts with the OCI \"hostname\" field";
            return Err(format!("sysctl \"{name}\" {text}"));
        }
        _ => {}
    }
    Err(format!("sysctl \"{name}\" is not in a separate kernel namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaced_ones_may_be_set() {
        let check = |name: &str, change: fn(&mut HostConfig), expected: Option<&str>| {
            let mut host = HostConfig::default();
            host.sysctls.insert(name.to_owned(), "1".to_owned());
            change(&mut host);
            let got = super::check(&host).err();
            assert_eq!(got.is_some(), expected.is_some(), "{name}: {got:?}");
            assert!(got.unwrap_or_default().contains(expected.unwrap_or_default()), "{name}");
        };
        check("net.ipv4.ip_forward", |_| {}, None);
        check("net/ipv4/ip_forward", |_| {}, None);
        check(
            "net.core.somaxconn",
            |host| host.network_mode = "host".into(),
            Some("not allowed in host network"),
        );
        check("kernel.shmmax", |_| {}, None);
        check("fs.mqueue.msg_max", |host| host.ipc_mode = "host".into(), Some("in the hosts ipc namespace"));
        check("kernel.domainname", |_| {}, None);
        check("kernel.hostname", |_| {}, Some("conflicts with the OCI"));
        check("vm.swappiness", |_| {}, Some("is not in a separate kernel namespace"));
    }
}
