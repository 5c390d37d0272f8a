//! FUSE's messages, as the kernel's `include/uapi/linux/fuse.h` lays them out (protocol 7.33, see fuse(4)).
//!
//! All numbers are in the guest's byte order, which is this host's: a machine of another order is not booted here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// FUSE_KERNEL_VERSION.
pub const MAJOR: u32 = 7;
/// The minor version whose messages these are; a kernel that knows more leaves out what came later.
pub const MINOR: u32 = 33;
/// FUSE_ROOT_ID: the folder that is mounted.
pub const ROOT: u64 = 1;
/// sizeof(struct fuse_out_header).
pub const REPLY_HEADER: usize = 16;

/// `enum fuse_opcode`: those that are answered.
pub mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
}

bitflags::bitflags! {
    /// Abilities of FUSE_INIT: those that are asked for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Abilities: u32 {
        /// FUSE_ASYNC_READ: several reads of one file at once.
        const ASYNC_READ = 1;
        /// FUSE_ATOMIC_O_TRUNC: open truncates by itself.
        const ATOMIC_O_TRUNC = 1 << 3;
        /// FUSE_BIG_WRITES.
        const BIG_WRITES = 1 << 5;
        /// FUSE_DONT_MASK: the umask comes with the request.
        const DONT_MASK = 1 << 6;
        /// FUSE_AUTO_INVAL_DATA: cached pages go when the time of change is another.
        const AUTO_INVAL_DATA = 1 << 12;
        /// FUSE_DO_READDIRPLUS: listings bring what a lookup would.
        const DO_READDIRPLUS = 1 << 13;
        /// FUSE_READDIRPLUS_AUTO: where the lookups follow.
        const READDIRPLUS_AUTO = 1 << 14;
        /// FUSE_PARALLEL_DIROPS: several lookups in one folder at once.
        const PARALLEL_DIROPS = 1 << 18;
        /// FUSE_MAX_PAGES: requests longer than 128 KiB.
        const MAX_PAGES = 1 << 22;
        /// FUSE_HANDLE_KILLPRIV_V2: writing takes set-user-ID away here; the guest need not ask for it before each write.
        const HANDLE_KILLPRIV_V2 = 1 << 28;
    }
}

bitflags::bitflags! {
    /// FATTR_*: what a SETATTR sets.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Sets: u32 {
        /// FATTR_MODE.
        const MODE = 1;
        /// FATTR_UID.
        const UID = 1 << 1;
        /// FATTR_GID.
        const GID = 1 << 2;
        /// FATTR_SIZE.
        const SIZE = 1 << 3;
        /// FATTR_ATIME.
        const ATIME = 1 << 4;
        /// FATTR_MTIME.
        const MTIME = 1 << 5;
        /// FATTR_FH: the handle counts.
        const HANDLE = 1 << 6;
        /// FATTR_ATIME_NOW.
        const ATIME_NOW = 1 << 7;
        /// FATTR_MTIME_NOW.
        const MTIME_NOW = 1 << 8;
        /// FATTR_KILL_SUIDGID: set-user-ID goes.
        const KILL_SUIDGID = 1 << 11;
    }
}

/// Declares structures of the protocol: plain numbers without holes.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $type),* }
    )*};
}

messages! {
    /// struct fuse_in_header.
    RequestHeader { len: u32, opcode: u32, unique: u64, node: u64, uid: u32, gid: u32, pid: u32, extensions: u16, padding: u16 }
    /// struct fuse_out_header.
    ReplyHeader { len: u32, error: i32, unique: u64 }
    /// struct fuse_attr.
    Attributes {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64,
        atime_nsec: u32, mtime_nsec: u32, ctime_nsec: u32,
        mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    /// struct fuse_entry_out.
    Entry {
        node: u64, generation: u64, entry_valid: u64, attr_valid: u64,
        entry_valid_nsec: u32, attr_valid_nsec: u32, attributes: Attributes,
    }
    /// struct fuse_attr_out.
    AttributesOut { valid: u64, valid_nsec: u32, padding: u32, attributes: Attributes }
    /// struct fuse_forget_in.
    ForgetIn { lookups: u64 }
    /// struct fuse_batch_forget_in.
    BatchForgetIn { count: u32, padding: u32 }
    /// struct fuse_forget_one.
    ForgetOne { node: u64, lookups: u64 }
    /// struct fuse_setattr_in.
    SetAttributesIn {
        valid: u32, padding: u32, handle: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64, ctime: u64,
        atime_nsec: u32, mtime_nsec: u32, ctime_nsec: u32, mode: u32, unused: u32, uid: u32, gid: u32, unused2: u32,
    }
    /// struct fuse_mknod_in.
    MakeNodeIn { mode: u32, rdev: u32, umask: u32, padding: u32 }
    /// struct fuse_mkdir_in.
    MakeFolderIn { mode: u32, umask: u32 }
    /// struct fuse_rename_in.
    RenameIn { to: u64 }
    /// struct fuse_rename2_in.
    Rename2In { to: u64, flags: u32, padding: u32 }
    /// struct fuse_link_in.
    LinkIn { node: u64 }
    /// struct fuse_open_in.
    OpenIn { flags: u32, open_flags: u32 }
    /// struct fuse_create_in.
    CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    /// struct fuse_open_out.
    OpenOut { handle: u64, flags: u32, padding: u32 }
    /// struct fuse_release_in.
    ReleaseIn { handle: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    /// struct fuse_read_in.
    ReadIn { handle: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    /// struct fuse_write_in.
    WriteIn { handle: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    /// struct fuse_write_out.
    WriteOut { size: u32, padding: u32 }
    /// struct fuse_kstatfs.
    FileSystemOut {
        blocks: u64, free: u64, available: u64, files: u64, files_free: u64,
        block_size: u32, name_max: u32, fragment_size: u32, padding: u32, spare: [u32; 6],
    }
    /// struct fuse_fsync_in.
    SyncIn { handle: u64, flags: u32, padding: u32 }
    /// struct fuse_setxattr_in before FUSE_SETXATTR_EXT.
    SetXattrIn { size: u32, flags: u32 }
    /// struct fuse_getxattr_in, also of LISTXATTR.
    GetXattrIn { size: u32, padding: u32 }
    /// struct fuse_getxattr_out.
    GetXattrOut { size: u32, padding: u32 }
    /// struct fuse_init_in up to 7.35.
    InitIn { major: u32, minor: u32, max_readahead: u32, flags: u32 }
    /// struct fuse_init_out.
    InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16, congestion_threshold: u16,
        max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16, flags2: u32, unused: [u32; 7],
    }
    /// struct fuse_fallocate_in.
    AllocateIn { handle: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    /// struct fuse_lseek_in.
    SeekIn { handle: u64, offset: u64, whence: u32, padding: u32 }
    /// struct fuse_lseek_out.
    SeekOut { offset: u64 }
    /// struct fuse_copy_file_range_in.
    CopyIn { handle: u64, offset: u64, to_node: u64, to_handle: u64, to_offset: u64, length: u64, flags: u64 }
    /// struct fuse_dirent, before its name.
    FolderEntry { ino: u64, offset: u64, name_len: u32, kind: u32 }
}

/// A request is not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The rest of a request that is not read yet.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a>(pub &'a [u8]);

impl<'a> Arguments<'a> {
    /// The next structure.
    pub fn take<T: FromBytes>(&mut self) -> Result<T, Malformed> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Malformed)?;
        self.0 = rest;
        Ok(value)
    }

    /// The next string, which ends with a NUL.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let (string, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(string)
    }

    /// The next bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<RequestHeader>(), 40);
        assert_eq!(size_of::<ReplyHeader>(), REPLY_HEADER);
        assert_eq!(size_of::<Attributes>(), 88);
        assert_eq!(size_of::<Entry>(), 128);
        assert_eq!(size_of::<AttributesOut>(), 104);
        assert_eq!(size_of::<SetAttributesIn>(), 88);
        assert_eq!(size_of::<InitOut>(), 64);
        assert_eq!(size_of::<FileSystemOut>(), 80);
        assert_eq!(size_of::<WriteIn>(), 40);
        assert_eq!(size_of::<FolderEntry>(), 24);
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let mut arguments = Arguments(b"name");
        assert_eq!(arguments.string(), Err(Malformed));
        let mut arguments = Arguments(b"name\0\x01\x02");
        assert_eq!(arguments.string(), Ok(&b"name"[..]));
        assert_eq!(arguments.take::<u32>(), Err(Malformed));
        assert_eq!(arguments.bytes(3), Err(Malformed));
        assert_eq!(arguments.bytes(2), Ok(&b"\x01\x02"[..]));
    }
}
