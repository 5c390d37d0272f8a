//! Kernel and initramfs without their wrapping, for machines whose instructions are translated: there the kernel's own
//! unpacking of itself takes 0.7 s and that of the initramfs half of that, and this host does it in a tenth, once.
//!
//! A bzImage holds the ELF file that QEMU can load by itself (PVH, Xen's docs/misc/pvh.pandoc). It does without the
//! wrapping's random load address (KASLR), so real processors, which unpack quickly, keep the bzImage.

use crate::host;
use crate::place::Place;
use std::fs::Metadata;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the files in the appliance's folder begin with.
const KERNEL: &str = "vmlinux-";
const INITRAMFS: &str = "initramfs-";
/// Documentation/arch/x86/boot: setup_sects, payload_offset and payload_length.
const SETUP_SECTS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// The head of the ELF note with the PVH entry: a name of 4 bytes, 8 bytes of address, XEN_ELFNOTE_PHYS32_ENTRY, "Xen".
const PVH_NOTE: &[u8] = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0";

/// The unpacked kernel in the appliance's folder, made when it is not there; the bzImage itself where it holds none that
/// QEMU could load.
pub fn kernel(kernel: &Path, place: &Place) -> PathBuf {
    or_as_it_is(kernel, unpacked(KERNEL, kernel, place, elf))
}

/// The unpacked initramfs in the appliance's folder, made when it is not there.
pub fn initramfs(initramfs: &Path, place: &Place) -> PathBuf {
    or_as_it_is(initramfs, unpacked(INITRAMFS, initramfs, place, |bytes| zstd::decode_all(bytes)))
}

fn or_as_it_is(packed: &Path, unpacked: io::Result<PathBuf>) -> PathBuf {
    unpacked.unwrap_or_else(|error| {
        tracing::info!("{} is booted as it is: {error}", packed.display());
        packed.to_owned()
    })
}

/// Every such file in an appliance's folder.
pub fn files(place: &Place) -> Vec<PathBuf> {
    [KERNEL, INITRAMFS].iter().flat_map(|prefix| of_kind(prefix, place)).collect()
}

fn of_kind(prefix: &str, place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.dir()).into_iter().flatten().flatten();
    let ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries.map(|entry| entry.path()).filter(ours).collect()
}

fn unpacked(
    prefix: &str,
    packed: &Path,
    place: &Place,
    unpack: impl Fn(&[u8]) -> io::Result<Vec<u8>>,
) -> io::Result<PathBuf> {
    let path = place.dir().join(format!("{prefix}{}", identity(&std::fs::metadata(packed)?)));
    if path.is_file() {
        return Ok(path);
    }
    for older in of_kind(prefix, place) {
        std::fs::remove_file(older)?;
    }
    let bytes = unpack(&std::fs::read(packed)?)?;
    let fresh = place.dir().join(format!("{prefix}new"));
    write_sparse(&fresh, &bytes)?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

/// What a bzImage holds.
fn elf(image: &[u8]) -> io::Result<Vec<u8>> {
    let payload = payload(image).ok_or_else(|| io::Error::other("it has no payload"))?;
    let mut elf = Vec::new();
    // Behind the frame are four bytes that tell the unpacked size.
    zstd::Decoder::new(io::Cursor::new(payload))?.single_frame().read_to_end(&mut elf)?;
    if !elf.starts_with(ELF_MAGIC) || !elf.windows(PVH_NOTE.len()).any(|window| window == PVH_NOTE) {
        return Err(io::Error::other("it cannot be entered by PVH"));
    }
    Ok(elf)
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
    let mut file = host::create_private(path)?;
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
        let path = super::kernel(&kernel, &place);
        match want {
            Some(want) => assert!(std::fs::read(&path).unwrap() == want),
            None => assert_eq!(path, kernel),
        }
        assert_eq!(super::kernel(&kernel, &place), path);
        assert_eq!(files(&place).len(), usize::from(want.is_some()));
    }

    #[test]
    fn the_initramfs_is_unpacked_once_and_anew_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(&folder.path().join("p")).unwrap();
        place.make().unwrap();
        let packed = folder.path().join("initramfs.zst");
        for content in ["one", "another one"] {
            std::fs::write(&packed, zstd::encode_all(content.as_bytes(), 3).unwrap()).unwrap();
            let path = initramfs(&packed, &place);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(initramfs(&packed, &place), path);
            assert_eq!(files(&place), [path]);
        }
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
