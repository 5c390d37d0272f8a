//! The image's two files, looked at before anything is started.

use crate::backend::BackendError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// `HdrS` at 0x202 of a bzImage (Documentation/arch/x86/boot).
const KERNEL_MAGIC: (u64, &[u8]) = (0x202, b"HdrS");
/// First bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD_MAGIC: (u64, &[u8]) = (0, &[0x28, 0xb5, 0x2f, 0xfd]);

/// Where kernel and initramfs are.
#[derive(Debug, Clone)]
pub struct Image {
    /// The bzImage.
    pub kernel: PathBuf,
    /// The compressed root tree.
    pub initramfs: PathBuf,
}

impl Image {
    /// The files of an image's folder, if they are what they should be.
    pub fn open(folder: &Path) -> Result<Image, BackendError> {
        let image = Image { kernel: folder.join("vmlinuz"), initramfs: folder.join("initramfs.zst") };
        check(&image.kernel, KERNEL_MAGIC, "a Linux kernel")?;
        check(&image.initramfs, ZSTD_MAGIC, "a zstd-compressed initramfs")?;
        check_sizes(folder)?;
        Ok(image)
    }
}

fn check(path: &Path, magic: (u64, &[u8]), what: &'static str) -> Result<(), BackendError> {
    let wrong = || BackendError::NotAnImage { path: path.to_owned(), what };
    match begins(path, magic) {
        Ok(true) => Ok(()),
        Ok(false) => Err(wrong()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(wrong()),
        Err(source) => Err(BackendError::Image { path: path.to_owned(), source }),
    }
}

fn begins(path: &Path, (at, magic): (u64, &[u8])) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut found = vec![0; magic.len()];
    file.read_exact(&mut found)?;
    Ok(found == magic)
}

/// A copy that was cut short still begins rightly; the manifest, where there is one, knows the sizes.
fn check_sizes(folder: &Path) -> Result<(), BackendError> {
    let Ok(text) = std::fs::read(folder.join("manifest.json")) else { return Ok(()) };
    let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(&text) else { return Ok(()) };
    for name in ["vmlinuz", "initramfs.zst"] {
        let path = folder.join(name);
        let size = |source| BackendError::Image { path: path.clone(), source };
        let found = std::fs::metadata(&path).map_err(size)?.len();
        if manifest["files"][name]["bytes"].as_u64().is_some_and(|bytes| bytes != found) {
            return Err(BackendError::NotAnImage { path, what: "of the size its manifest.json tells" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_folder(kernel: &[u8], initramfs: &[u8], want: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vmlinuz"), kernel).unwrap();
        std::fs::write(folder.path().join("initramfs.zst"), initramfs).unwrap();
        let got = Image::open(folder.path()).err().map(|error| error.to_string());
        match want {
            None => assert_eq!(got, None),
            Some(part) => assert!(got.as_ref().unwrap().contains(part), "{got:?} lacks {part}"),
        }
    }

    #[test]
    fn only_a_kernel_and_an_initramfs_will_do() {
        let mut kernel = vec![0; 0x202];
        kernel.extend(b"HdrS and more");
        let initramfs = [0x28, 0xb5, 0x2f, 0xfd, 0];
        check_folder(&kernel, &initramfs, None);
        check_folder(b"short", &initramfs, Some("vmlinuz is not a Linux kernel"));
        check_folder(&[1; 4096], &initramfs, Some("vmlinuz is not a Linux kernel"));
        check_folder(&kernel, b"\x1f\x8bgzip", Some("is not a zstd-compressed initramfs"));
        let nowhere = Image::open(Path::new("/nowhere")).unwrap_err();
        assert!(nowhere.to_string().contains("--image"));
    }
}
