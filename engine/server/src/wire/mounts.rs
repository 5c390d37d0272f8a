//! What is mounted into containers: `HostConfig.Mounts` on its way in, `Mounts` on its way out.

use containers::{BindOptions, Mount, MountKind, Record};
use serde_json::{Value, json};

use crate::reply::ApiError;
use crate::version::ApiVersion;

/// What the version of a client knows of `Mounts`: newer fields are refused or mean nothing, as in dockerd.
///
/// # Errors
/// 400 with dockerd's words.
pub fn check(mounts: &mut [Mount], version: ApiVersion) -> Result<(), ApiError> {
    for mount in mounts {
        let kind = mount.r#type.clone();
        if version < ApiVersion(1, 42) {
            // Combinations that were not refused yet.
            mount.volume_options = mount.volume_options.take().filter(|_| kind == "volume");
            mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| kind == "tmpfs");
            mount.bind_options = mount.bind_options.take().filter(|_| kind == "bind");
        }
        if let Some(options) = &mut mount.bind_options {
            forget(options, version)?;
        }
        let subpath = mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty());
        if subpath && version < ApiVersion(1, 45) {
            return Err(ApiError::bad_request("VolumeOptions.Subpath needs API v1.45 or newer"));
        }
        if kind == "image" && version < ApiVersion(1, 48) {
            return Err(ApiError::bad_request("Mount type \"Image\" needs API v1.48 or newer"));
        }
        let options = [
            ("BindOptions", mount.bind_options.is_some(), "bind"),
            ("VolumeOptions", mount.volume_options.is_some(), "volume"),
            ("ImageOptions", mount.image_options.is_some(), "image"),
            ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
        ];
        if let Some((name, _, _)) = options.iter().find(|(_, given, own)| *given && *own != kind) {
            let text = format!("{name} must not be specified on mount type {kind:?}");
            return Err(ApiError::bad_request(text));
        }
    }
    Ok(())
}

fn forget(options: &mut BindOptions, version: ApiVersion) -> Result<(), ApiError> {
    options.non_recursive &= version >= ApiVersion(1, 40);
    options.create_mountpoint &= version >= ApiVersion(1, 42);
    options.read_only_non_recursive &= version >= ApiVersion(1, 44);
    if options.read_only_force_recursive && version < ApiVersion(1, 44) {
        return Err(ApiError::bad_request("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
    }
    Ok(())
}

/// `Mounts` of a container. `place` tells where the folder of a volume is.
pub fn show(record: &Record, place: impl Fn(&str) -> String) -> Vec<Value> {
    let points = record.mount_points();
    let row = |point: &containers::MountPoint| {
        let source = match point.kind {
            MountKind::Volume => place(&point.name),
            _ => point.source.clone(),
        };
        let mut value = json!({
            "Type": point.kind.as_str(), "Source": source, "Destination": point.destination, "Mode": point.mode,
            "RW": point.writable, "Propagation": point.propagation,
        });
        if !point.name.is_empty() {
            value["Name"] = json!(point.name);
        }
        if point.kind == MountKind::Volume {
            value["Driver"] = json!(volumes::DRIVER);
        }
        value
    };
    points.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_with_versions() {
        let check = |minor: u16, json: Value, expected: Result<(), &str>| {
            let mut mounts = vec![serde_json::from_value::<Mount>(json.clone()).unwrap()];
            let got = check(&mut mounts, ApiVersion(1, minor)).map_err(|error| error.message);
            assert_eq!(got.as_ref().copied().map_err(|text| text.as_str()), expected, "{minor} {json}");
        };
        let subpath = json!({ "Type": "volume", "VolumeOptions": { "Subpath": "a" } });
        check(44, subpath.clone(), Err("VolumeOptions.Subpath needs API v1.45 or newer"));
        check(45, subpath, Ok(()));
        let image = json!({ "Type": "image" });
        check(47, image.clone(), Err("Mount type \"Image\" needs API v1.48 or newer"));
        check(48, image, Ok(()));
        let force = json!({ "Type": "bind", "BindOptions": { "ReadOnlyForceRecursive": true } });
        check(43, force.clone(), Err("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
        check(44, force, Ok(()));
        let odd = json!({ "Type": "bind", "VolumeOptions": {} });
        check(41, odd.clone(), Ok(()));
        check(42, odd, Err("VolumeOptions must not be specified on mount type \"bind\""));
    }
}
