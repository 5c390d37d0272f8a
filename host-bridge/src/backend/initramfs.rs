//! The image's initramfs, read on the host: a cpio archive compressed with zstd.

use crate::backend::BackendError;
use cpio::newc;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An image's initramfs.
#[derive(Debug)]
pub struct Initramfs {
    path: PathBuf,
    /// As it is on the disk.
    pub bytes: Vec<u8>,
}

/// An entry of the archive.
pub type Entry<'a> = newc::Reader<&'a mut dyn Read>;

impl Initramfs {
    /// That of the image in a folder.
    pub fn read(image: &Path) -> Result<Initramfs, BackendError> {
        let path = image.join("initramfs.zst");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Initramfs { path, bytes }),
            Err(source) => Err(BackendError::Image { path, source }),
        }
    }

    /// Shows `visit` each entry, in order. What it leaves of one is passed over.
    pub fn visit(&self, visit: impl FnMut(&mut Entry<'_>) -> io::Result<()>) -> Result<(), BackendError> {
        self.walk(visit).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
                self.no_image()
            }
            _ => BackendError::system(format!("unpack {}", self.path.display()))(source),
        })
    }

    fn walk(&self, mut visit: impl FnMut(&mut Entry<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut archive = zstd::Decoder::new(&self.bytes[..])?;
        loop {
            let mut entry = newc::Reader::new(&mut archive as &mut dyn Read)?;
            if entry.entry().is_trailer() {
                return Ok(());
            }
            visit(&mut entry)?;
            entry.finish()?;
        }
    }

    /// The contents of one file, by its absolute path.
    pub fn file(&self, path: &str) -> Result<Vec<u8>, BackendError> {
        let mut contents = None;
        self.visit(|entry| {
            if entry.entry().name() == path.trim_start_matches('/') {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                contents = Some(bytes);
            }
            Ok(())
        })?;
        contents.ok_or_else(|| self.no_image())
    }

    fn no_image(&self) -> BackendError {
        BackendError::NotAnImage { path: self.path.clone(), what: "a zstd-compressed initramfs" }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;

    /// An archive of entries: name, mode, text.
    pub fn archive(entries: &[(&str, u32, &str)]) -> Vec<u8> {
        let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
        for (name, mode, text) in entries {
            let builder = newc::Builder::new(name).mode(*mode);
            let mut writer = builder.write(&mut out, u32::try_from(text.len()).unwrap());
            writer.write_all(text.as_bytes()).unwrap();
            writer.finish().unwrap();
        }
        newc::trailer(&mut out).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn one_file_is_found_or_it_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let entries =
            [("sbin", 0o040_755, ""), ("sbin/other", 0o100_755, "other"), ("sbin/it", 0o100_755, "text")];
        std::fs::write(folder.path().join("initramfs.zst"), archive(&entries)).unwrap();
        let initramfs = Initramfs::read(folder.path()).unwrap();
        assert_eq!(initramfs.file("/sbin/it").unwrap(), b"text");
        let error = initramfs.file("/sbin/no").unwrap_err();
        assert!(error.to_string().contains("is not a zstd-compressed initramfs"), "{error}");
    }
}
