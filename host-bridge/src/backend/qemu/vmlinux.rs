//! The kernel without its wrapping, for machines whose instructions are translated: there the kernel's own unpacking of
//! itself takes 0.7 s, and this host does it in a tenth, once.
//!
//! A bzImage holds the ELF file that QEMU can load by itself (PVH, Xen's docs/misc/pvh.pandoc). It does without the
//! wrapping's random load address (KASLR), so real processors, which unpack quickly, keep the bzImage.

use crate::place::Place;
use std::fs::Metadata;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "vmlinux-";
/// Documentation/arch/x86/boot: setup_sects, payload_offset and payload_length.
const SETUP_SECTS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// The head of the ELF note with the PVH entry: a name of 4 bytes, 8 bytes of address, XEN_ELFNOTE_PHYS32_ENTRY, "Xen".
const PVH_NOTE: &[u8] = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0";

/// The unpacked kernel in the appliance's folder, made when it is not there; the bzImage itself where it holds none that
/// QEMU could load.
pub fn of(kernel: &Path, place: &Place) -> PathBuf {
    match unpacked(kernel, place) {
        Ok(path) => path,
        Err(error) => {
            tracing::info!("{} is booted as it is: {error}", kernel.display());
            kernel.to_owned()
        }
    }
}

/// Every unpacked kernel in an appliance's folder.
pub fn files(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.dir()).into_iter().flatten().flatten();
    let ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    entries.map(|entry| entry.path()).filter(ours).collect()
}

fn unpacked(kernel: &Path, place: &Place) -> io::Result<PathBuf> {
    let path = place.dir().join(format!("{PREFIX}{}", identity(&std::fs::metadata(kernel)?)));
    if path.is_file() {
        return Ok(path);
    }
    for older in files(place) {
        std::fs::remove_file(older)?;
    }
    let image = std::fs::read(kernel)?;
    let payload = payload(&image).ok_or_else(|| io::Error::other("it has no payload"))?;
    let mut elf = Vec::new();
    // Behind the frame are four bytes that tell the unpacked size.
    zstd::Decoder::new(io::Cursor::new(payload))?.single_frame().read_to_end(&mut elf)?;
    if !elf.starts_with(ELF_MAGIC) || !elf.windows(PVH_NOTE.len()).any(|window| window == PVH_NOTE) {
        return Err(io::Error::other("it cannot be entered by PVH"));
    }
    let fresh = place.dir().join(format!("{PREFIX}new"));
    write_sparse(&fresh, &elf)?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

/// Another file, or another content of it, has another one.
fn identity(meta: &Metadata) -> String {
    format!("{:x}-{:x}-{:x}-{:x}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(*image.get(at..)?.first_chunk()?) as usize);
    let start = (usize::from(*image.get(SETUP_SECTS)?) + 1) * 512 + number(PAYLOAD_OFFSET)?;
    image.get(start..start.checked_add(number(PAYLOAD_LENGTH)?)?)
}

/// A third of it is zeros, which take no room as holes.
fn write_sparse(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    for chunk in bytes.chunks(64 << 10) {
        match chunk.iter().all(|byte| *byte == 0) {
            true => drop(file.seek_relative(i64::try_from(chunk.len()).expect("a chunk is small"))?),
            false => file.write_all(chunk)?,
        }
    }
    file.set_len(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &[u8]) -> Vec<u8> {
        let mut payload = zstd::encode_all(content, 3).unwrap();
        payload.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        let mut image = vec![0; 1024 + 16];
        image[SETUP_SECTS] = 1;
        image[PAYLOAD_OFFSET] = 16;
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length);
        image.extend(payload);
        image
    }

    fn check(image: &[u8], want: Option<&[u8]>) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(&folder.path().join("p")).unwrap();
        place.make().unwrap();
        let kernel = folder.path().join("vmlinuz");
        std::fs::write(&kernel, image).unwrap();
        let path = of(&kernel, &place);
        match want {
            Some(want) => assert!(std::fs::read(&path).unwrap() == want),
            None => assert_eq!(path, kernel),
        }
        assert_eq!(of(&kernel, &place), path);
        assert_eq!(files(&place).len(), usize::from(want.is_some()));
    }

    #[test]
    fn a_kernel_that_qemu_can_load_is_unpacked_and_others_are_left() {
        let mut elf = ELF_MAGIC.to_vec();
        elf.extend([0; 200_000]);
        check(&image(&elf), None);
        elf.extend(PVH_NOTE);
        elf.extend([0; 100_000]);
        check(&image(&elf), Some(&elf));
        check(&image(b"not elf"), None);
        check(b"short", None);
    }
}
