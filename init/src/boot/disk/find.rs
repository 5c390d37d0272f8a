//! From the name in the settings to a device file.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::DiskError;

const PAUSE: Duration = Duration::from_millis(20);

/// Waits for the device, since those behind slow buses come late; one that is missing shall not hang the boot.
pub fn wait(wanted: &str, patience: Duration) -> Result<PathBuf, DiskError> {
    let until = Instant::now() + patience;
    loop {
        if let Some(device) = find(wanted, Path::new("/sys/block"), Path::new("/dev"))? {
            return Ok(device);
        }
        if Instant::now() >= until {
            return Err(DiskError::Missing { wanted: wanted.to_owned(), seconds: patience.as_secs() });
        }
        sleep(PAUSE);
    }
}

/// A path below `dev` as it is; else the disk whose serial number it is. Two with one number, such as a disk and its
/// restored copy, are a toss-up whose loser is somebody's data: neither is taken.
fn find(wanted: &str, sys_block: &Path, dev: &Path) -> Result<Option<PathBuf>, DiskError> {
    if wanted.starts_with('/') {
        let path = PathBuf::from(wanted);
        return Ok(path.exists().then_some(path));
    }
    let disks = fs::read_dir(sys_block).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let same = disks.filter(|disk| serial(disk).as_deref() == Some(wanted));
    let devices = same.filter_map(|disk| Some(dev.join(disk.file_name()?))).filter(|device| device.exists());
    let mut devices: Vec<PathBuf> = devices.collect();
    devices.sort();
    match &devices[..] {
        [first, second, ..] => {
            Err(DiskError::Twice { wanted: wanted.to_owned(), first: first.clone(), second: second.clone() })
        }
        _ => Ok(devices.pop()),
    }
}

/// virtio keeps it beside the disk, NVMe and MMC beside the controller; SCSI in its page 80, after 4 bytes of header.
fn serial(disk: &Path) -> Option<String> {
    let text = |file: &str| fs::read_to_string(disk.join(file)).ok();
    let page = || {
        let page = fs::read(disk.join("device/vpd_pg80")).ok()?;
        Some(String::from_utf8_lossy(page.get(4..)?).into_owned())
    };
    let serial = text("serial").or_else(|| text("device/serial")).or_else(page)?;
    Some(serial.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_any_kind_of_serial_or_by_path() {
        let root = tempfile::tempdir().unwrap();
        let (block, dev) = (root.path().join("block"), root.path().join("dev"));
        fs::create_dir_all(&dev).unwrap();
        let files = [
            ("vda", "serial", b"other".to_vec()),
            ("vdb", "serial", b"pinnace-data".to_vec()),
            ("nvme0n1", "device/serial", b"NV1     \n".to_vec()),
            ("sda", "device/vpd_pg80", b"\0\x80\0\x04SC1\0".to_vec()),
        ];
        for (disk, file, bytes) in files {
            let path = block.join(disk).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            fs::write(dev.join(disk), "").unwrap();
        }
        let check = |wanted: &str, name: Option<&str>| {
            let found = find(wanted, &block, &dev).unwrap();
            assert_eq!(found, name.map(|name| dev.join(name)), "{wanted}");
        };
        check("pinnace-data", Some("vdb"));
        check("NV1", Some("nvme0n1"));
        check("SC1", Some("sda"));
        check("absent", None);
        check(dev.join("vda").to_str().unwrap(), Some("vda"));
        check("/dev/does-not-exist", None);
        fs::write(block.join("vda/serial"), "NV1").unwrap();
        let error = find("NV1", &block, &dev).unwrap_err().to_string();
        let (first, second) = (dev.join("nvme0n1"), dev.join("vda"));
        let both = format!("{} and {}", first.display(), second.display());
        assert!(error.starts_with(&format!("data disk NV1 is there twice, as {both}")), "{error}");
    }
}
