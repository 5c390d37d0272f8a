//! The power is cut at every write, with every kind of luck, and the next boot always comes to the same disk.

use super::super::contents::{Contents, look};
use super::*;
use proptest::prelude::*;

const BLOCKS: u64 = 600;
const SIZE: usize = 4 << 20;

/// An ext4 as far as anybody here looks: a super block and some blocks that are not zero.
fn template() -> Vec<u8> {
    let mut image = vec![0; (BLOCKS * BLOCK) as usize];
    image[1024 + 0x38..][..2].copy_from_slice(&0xef53u16.to_le_bytes());
    image[1024 + 0x78..][..7].copy_from_slice(b"pinnace");
    image[1024 + 0x18] = 2;
    image[1024 + 0x4..][..4].copy_from_slice(&(BLOCKS as u32).to_le_bytes());
    for block in [1, 2, 3, 9, 255, 256, 257, 599] {
        image[(block * BLOCK) as usize..][..BLOCK as usize].fill(block as u8 | 1);
    }
    image
}

fn run(offset: u64, bytes: &[u8]) -> Vec<u8> {
    [&offset.to_le_bytes()[..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// Each block that is not zero is a run.
fn runs(image: &[u8]) -> Vec<u8> {
    let blocks = image.chunks(BLOCK as usize).zip((0..).step_by(BLOCK as usize));
    let mut out: Vec<u8> = blocks
        .filter(|(block, _)| block.iter().any(|byte| *byte != 0))
        .flat_map(|(block, offset)| run(offset, block))
        .collect();
    out.extend(run(image.len() as u64, &[]));
    out
}

fn packed() -> Vec<u8> {
    runs(&template())
}

/// A disk whose power is cut after so many operations; what was not flushed is there sector by sector, as luck
/// has it.
struct Cut {
    durable: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
    operations_left: usize,
    luck: u64,
}

impl Cut {
    fn new(durable: Vec<u8>, operations_left: usize, luck: u64) -> Cut {
        Cut { durable, pending: Vec::new(), operations_left, luck }
    }

    fn operation(&mut self) -> io::Result<()> {
        self.operations_left = self.operations_left.checked_sub(1).ok_or(io::ErrorKind::Interrupted)?;
        Ok(())
    }

    fn settle(&mut self, all: bool) {
        for (offset, bytes) in std::mem::take(&mut self.pending) {
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                self.luck = self.luck.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                if all || self.luck >> 63 == 1 {
                    self.durable[offset as usize + index * SECTOR..][..sector.len()].copy_from_slice(sector);
                }
            }
        }
    }

    fn contents(&self) -> Contents {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&self.durable, 0).unwrap();
        look(&file).unwrap()
    }
}

impl Target for Cut {
    fn size(&self) -> io::Result<u64> {
        Ok(self.durable.len() as u64)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.pending.push((offset, bytes.to_vec()));
        self.operation()
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.write(offset, &vec![0; length as usize])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.operation()?;
        self.settle(true);
        Ok(())
    }
}

const IDENTITY: Identity = Identity { uuid: [5; 16], hash_seed: [6; 16] };

fn put(template: &[u8], disk: &mut Cut) -> Result<u64, TemplateError> {
    write(template, disk, &IDENTITY)
}

fn is_finished(disk: &Cut) {
    assert_eq!(disk.contents(), Contents::Ours { blocks: BLOCKS, broken: false });
    let mut template = template();
    IDENTITY.put(&mut template[..BLOCK as usize]);
    assert!(disk.durable[..template.len()] == template, "the disk is the template");
}

/// Cuts after `operations`, then boots again with power. Returns whether the first boot came to its end.
fn cut_and_boot_again(start: &[u8], operations: usize, luck: u64) -> bool {
    let mut disk = Cut::new(start.to_vec(), operations, luck);
    let finished = put(&packed(), &mut disk).is_ok();
    disk.settle(false);
    match disk.contents() {
        Contents::Ours { .. } => {}
        Contents::Blank | Contents::Unfinished => {
            assert!(!finished, "a boot that came to its end left a finished disk");
            disk.operations_left = usize::MAX;
            assert_eq!(put(&packed(), &mut disk).unwrap(), BLOCKS);
        }
        other => panic!("cut after {operations}: {other:?}"),
    }
    is_finished(&disk);
    finished
}

#[test]
fn a_cut_at_every_operation_is_recognised() {
    let blank = vec![0; SIZE];
    let finished = (0..64).map(|operations| cut_and_boot_again(&blank, operations, operations as u64));
    let count = finished.collect::<Vec<_>>().iter().filter(|finished| !**finished).count();
    assert!((10..60).contains(&count), "the cuts reach from the first operation to beyond the last: {count}");
}

#[test]
fn old_data_in_the_middle_does_not_shine_through() {
    let mut disk = vec![0; SIZE];
    disk[(2 << 20)..(3 << 20)].fill(0xa5);
    cut_and_boot_again(&disk, 5, 1);
    assert!(cut_and_boot_again(&disk, usize::MAX, 1));
}

#[test]
fn what_cannot_work_is_refused_before_the_disk_is_touched() {
    let check = |size: usize, template: &[u8], want: &str| {
        let mut disk = Cut::new(vec![0; size], usize::MAX, 0);
        assert_eq!(put(template, &mut disk).unwrap_err().to_string(), want);
        assert_eq!(disk.contents(), Contents::Blank);
    };
    check(1 << 20, &packed(), "it has 1 MiB and needs 2 MiB");
    check(SIZE, b"nothing of the kind", "the image's template is not readable");
    check(SIZE, &run(0, &[0; 4095]), "the image's template is not readable");
    check(SIZE, &run(0, &[0; 4096]), "the image's template is not an ext4 file system");
    check(SIZE, &run(4096, &template()[..4096]), "the image's template is not an ext4 file system");
}

#[test]
fn a_template_that_breaks_off_never_looks_finished() {
    for length in (4200..packed().len()).step_by(1000) {
        let mut disk = Cut::new(vec![0; SIZE], usize::MAX, 0);
        put(&packed()[..length], &mut disk).unwrap_err();
        disk.settle(true);
        assert_eq!(disk.contents(), Contents::Unfinished);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_cut_with_any_luck_is_recognised(operations in 0usize..24, luck in any::<u64>()) {
        cut_and_boot_again(&vec![0; SIZE], operations, luck);
    }
}
