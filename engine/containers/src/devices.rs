//! Devices of the machine in a container: which nodes it gets and which it may open.

use std::path::Path;

use runtime::devices::{self, CONTAINER_DEFAULT, Kind, Rule};
use runtime::launch::Device;
use serde::{Deserialize, Serialize};

use super::config::HostConfig;
use super::error::ContainerError;

/// A device of the machine and where it stands in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// A node, or a folder of them.
    pub on_host: String,
    /// Below /dev.
    pub in_container: String,
    /// Of `r`, `w` and `m`.
    pub permissions: String,
}

/// A request that a driver outside the engine would have to meet; there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Name of the driver, or any.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Which.
    pub device_ids: Vec<String>,
    /// Alternatives of sets.
    pub capabilities: Vec<Vec<String>>,
    /// For the driver.
    pub options: std::collections::BTreeMap<String, String>,
}

/// What can be refused before anything exists.
///
/// # Errors
/// dockerd's words.
pub(super) fn validate(host: &HostConfig) -> Result<(), ContainerError> {
    for rule in &host.device_cgroup_rules {
        if rule.parse::<Rule>().is_err() {
            return Err(ContainerError::Invalid(format!("invalid device cgroup rule format: '{rule}'")));
        }
    }
    for device in &host.devices {
        let known = |letter: char| "rwm".contains(letter);
        if !device.permissions.chars().all(known) {
            let text = format!("invalid device permissions: {}", device.permissions);
            return Err(ContainerError::Invalid(text));
        }
        if !device.in_container.starts_with("/dev/") {
            let text =
                format!("the device {} is not below /dev, which is not supported yet", device.in_container);
            return Err(ContainerError::NotSupported(text));
        }
    }
    Ok(())
}

/// The first request, which nobody meets.
///
/// # Errors
/// dockerd's words.
pub(super) fn meet(requests: &[DeviceRequest]) -> Result<(), ContainerError> {
    let Some(request) = requests.first() else { return Ok(()) };
    // As Go prints a list of lists.
    let sets: Vec<String> = request.capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    let (driver, sets) = (&request.driver, sets.join(" "));
    Err(ContainerError::Invalid(format!(
        "could not select device driver \"{driver}\" with capabilities: [{sets}]"
    )))
}

/// The nodes beyond the default ones, each with what may be done with it.
///
/// # Errors
/// One is not there, or is no device.
pub(super) fn nodes(host: &HostConfig) -> Result<Vec<(Device, String)>, ContainerError> {
    let mut all = Vec::new();
    for mapping in &host.devices {
        let found = devices::devices_at(Path::new(&mapping.on_host)).map_err(|error| {
            let what = "error gathering device information while adding custom device";
            ContainerError::unprepared(format!("{what} \"{}\": {error}", mapping.on_host))
        })?;
        for mut device in found {
            let below = device.path.strip_prefix(&mapping.on_host).unwrap_or_default();
            device.path = format!("{}{below}", mapping.in_container);
            all.push((device, mapping.permissions.clone()));
        }
    }
    Ok(all)
}

/// What the container may open; `None` is what every container may.
///
/// # Errors
/// As [`nodes`].
pub(super) fn rules(host: &HostConfig) -> Result<Option<Vec<Rule>>, ContainerError> {
    if host.devices.is_empty() && host.device_cgroup_rules.is_empty() {
        return Ok(None);
    }
    let mut rules = CONTAINER_DEFAULT.to_vec();
    for (device, permissions) in nodes(host)? {
        let kind = if device.block { Kind::Block } else { Kind::Character };
        if let Some(access) = devices::access(&permissions) {
            rules.push(Rule::allow(kind, Some(device.major), Some(device.minor), access));
        }
    }
    // Checked when it was created.
    rules.extend(host.device_cgroup_rules.iter().filter_map(|rule| rule.parse::<Rule>().ok()));
    Ok(Some(rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_refused_as_dockerd_does_without_a_driver() {
        let gpu = DeviceRequest {
            capabilities: vec![vec!["gpu".to_owned()], vec!["a".to_owned(), "b".to_owned()]],
            ..DeviceRequest::default()
        };
        let text = meet(&[gpu]).unwrap_err().to_string();
        assert_eq!(text, "could not select device driver \"\" with capabilities: [[gpu] [a b]]");
        assert!(meet(&[]).is_ok());
    }

    #[test]
    fn rules_follow_the_devices() {
        let null = DeviceMapping {
            on_host: "/dev/null".to_owned(),
            in_container: "/dev/nothing".to_owned(),
            permissions: "r".to_owned(),
        };
        let host = HostConfig {
            devices: vec![null],
            device_cgroup_rules: vec!["c 42:* rmw".to_owned()],
            ..HostConfig::default()
        };
        assert!(validate(&host).is_ok());
        let nodes = nodes(&host).unwrap();
        assert_eq!((nodes[0].0.path.as_str(), nodes[0].0.major, nodes[0].0.minor), ("/dev/nothing", 1, 3));
        assert_eq!(rules(&host).unwrap().unwrap().len(), CONTAINER_DEFAULT.len() + 2);
        assert_eq!(rules(&HostConfig::default()).unwrap(), None);
        let bad = HostConfig { device_cgroup_rules: vec!["x".to_owned()], ..HostConfig::default() };
        assert!(validate(&bad).unwrap_err().to_string().contains("invalid device cgroup rule format: 'x'"));
    }
}
