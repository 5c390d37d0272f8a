//! The configuration document: bytes from the host to the services, sealed and unread.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};

/// A file in memory for one of `bytes` bytes.
pub fn file(bytes: u64) -> io::Result<File> {
    let file = File::from(memfd_create("config", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(file)
}

/// From now on nobody changes it, whoever has it open. A boot has one configuration: the same may come again, from a host
/// that did not hear that it had arrived, and another may not.
pub fn seal(file: File, before: Option<&File>) -> io::Result<File> {
    if let Some(before) = before
        && contents(before)? != contents(&file)?
    {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "this boot has another already"));
    }
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}

fn contents(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

    fn sent(bytes: &[u8]) -> File {
        let length = bytes.len() as u64;
        let mut body = Body::of("configuration", file(length).unwrap(), length);
        assert_eq!(body.take(bytes).unwrap(), bytes.len());
        body.into_file().unwrap()
    }

    #[test]
    fn what_is_sealed_cannot_be_changed_and_comes_once() {
        let first = seal(sent(b"{}"), None).unwrap();
        assert!(first.write_all_at(b"x", 0).is_err() && first.set_len(0).is_err());
        assert_eq!(contents(&seal(sent(b"{}"), Some(&first)).unwrap()).unwrap(), b"{}");
        let error = seal(sent(b"[]"), Some(&first)).unwrap_err();
        assert_eq!(error.to_string(), "this boot has another already");
    }
}
