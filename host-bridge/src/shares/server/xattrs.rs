//! Requests about extended attributes (xattr(7)).

use super::owner::RECORD;
use super::tree::Node;
use super::wire::{self, Arguments};
use super::{Asked, Reply, Server};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use zerocopy::IntoBytes;

/// XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel, in bytes.
const LONGEST: usize = 64 << 10;

impl Server {
    pub(super) fn set_xattr(&self, asked: &Asked, mut arguments: Arguments<'_>) -> Result<(), Errno> {
        let node = self.tree.node(asked.node)?;
        let wanted: wire::SetXattrIn = arguments.take()?;
        let name = visible(arguments.string()?).map_err(|_| Errno::PERM)?;
        let value = arguments.bytes(wanted.size as usize)?;
        let flags = XattrFlags::from_bits(wanted.flags).ok_or(Errno::INVAL)?;
        if has_none(&node) {
            return Err(Errno::OPNOTSUPP);
        }
        rustix::fs::setxattr(node.path(), name, value, flags)
    }

    pub(super) fn xattr(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let node = self.tree.node(asked.node)?;
        let wanted: wire::GetXattrIn = arguments.take()?;
        let name = visible(arguments.string()?)?;
        if has_none(&node) {
            return Err(Errno::NODATA);
        }
        let mut value = vec![0; LONGEST];
        let length = rustix::fs::getxattr(node.path(), name, &mut value)?;
        sized(&value[..length], wanted.size, reply)
    }

    pub(super) fn xattrs(
        &self,
        asked: &Asked,
        mut arguments: Arguments<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let node = self.tree.node(asked.node)?;
        let wanted: wire::GetXattrIn = arguments.take()?;
        if has_none(&node) {
            return sized(&[], wanted.size, reply);
        }
        let mut names = vec![0; LONGEST];
        let length = rustix::fs::listxattr(node.path(), &mut names)?;
        let names = names[..length].split_inclusive(|byte| *byte == 0);
        let seen: Vec<u8> =
            names.filter(|name| visible(&name[..name.len() - 1]).is_ok()).flatten().copied().collect();
        sized(&seen, wanted.size, reply)
    }

    pub(super) fn remove_xattr(&self, asked: &Asked, mut arguments: Arguments<'_>) -> Result<(), Errno> {
        let node = self.tree.node(asked.node)?;
        let name = visible(arguments.string()?)?;
        match has_none(&node) {
            true => Err(Errno::NODATA),
            false => rustix::fs::removexattr(node.path(), name),
        }
    }
}

/// The path of a link is followed by these calls, to a file that nobody asked about.
fn has_none(node: &Node) -> bool {
    node.kind() == rustix::fs::FileType::Symlink
}

/// The name of an attribute that the guest may know of.
fn visible(name: &[u8]) -> Result<&std::ffi::OsStr, Errno> {
    use std::os::unix::ffi::OsStrExt;
    match name == RECORD.as_bytes() {
        true => Err(Errno::NODATA),
        false => Ok(std::ffi::OsStr::from_bytes(name)),
    }
}

/// A size of none asks how long it is (getxattr(2)).
fn sized(value: &[u8], size: u32, reply: &mut Reply) -> Result<(), Errno> {
    match size as usize {
        0 => reply.put(wire::GetXattrOut { size: value.len() as u32, padding: 0 }.as_bytes()),
        size if value.len() > size => Err(Errno::RANGE),
        _ => reply.put(value),
    }
}
