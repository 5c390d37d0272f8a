//! A guest that speaks the protocol by hand.

use super::changes::{HANDLE, NAME, NODE};
use super::owner::Owners;
use super::wire::{self, Arguments, opcode};
use super::{Answered, Reply, Server};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

struct Guest {
    server: Arc<Server>,
    reply: Reply,
    uid: u32,
    thread: u32,
}

type Answer = Result<Vec<u8>, Errno>;

impl Guest {
    fn of(folders: &[&Path]) -> Guest {
        Guest::with(folders, |_| ())
    }

    fn with(folders: &[&Path], prepare: impl FnOnce(&mut Server)) -> Guest {
        let folders: Vec<PathBuf> = folders.iter().map(|path| path.to_path_buf()).collect();
        let mut server = Server::new(&folders).unwrap();
        prepare(&mut server);
        Guest { server: Arc::new(server), reply: Reply::default(), uid: 0, thread: 77 }
    }

    fn ask(&mut self, kind: u32, node: u64, parts: &[&[u8]]) -> Answer {
        let arguments = parts.concat();
        let header = wire::RequestHeader {
            len: (40 + arguments.len()) as u32,
            opcode: kind,
            unique: 7,
            node,
            uid: self.uid,
            gid: self.uid,
            pid: self.thread,
            ..Default::default()
        };
        let request = [header.as_bytes(), &arguments].concat();
        assert_eq!(self.server.answer(&request, &mut self.reply), Answered::Yes);
        let message = self.reply.message();
        let (header, rest) = wire::ReplyHeader::read_from_prefix(message).unwrap();
        assert_eq!((header.len as usize, header.unique), (message.len(), 7));
        match header.error {
            0 => Ok(rest.to_vec()),
            error => {
                assert!(rest.is_empty());
                Err(Errno::from_raw_os_error(-error))
            }
        }
    }

    fn get<T: FromBytes>(&mut self, kind: u32, node: u64, parts: &[&[u8]]) -> Result<T, Errno> {
        let answer = self.ask(kind, node, parts)?;
        Ok(Arguments(&answer).take().unwrap())
    }

    fn look_up(&mut self, node: u64, name: &[u8]) -> Result<wire::Entry, Errno> {
        self.get(opcode::LOOKUP, node, &[name, b"\0"])
    }

    /// The first shared folder.
    fn share(&mut self) -> u64 {
        self.look_up(wire::ROOT, b"0").unwrap().node
    }

    fn forget(&mut self, node: u64, lookups: u64) {
        let header = wire::RequestHeader { opcode: opcode::FORGET, node, ..Default::default() };
        let request = [header.as_bytes(), wire::ForgetIn { lookups }.as_bytes()].concat();
        assert_eq!(self.server.answer(&request, &mut self.reply), Answered::No);
    }

    fn create(&mut self, node: u64, name: &[u8], mode: u32) -> Result<(wire::Entry, u64), Errno> {
        let flags = (rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE).bits();
        let wanted = wire::CreateIn { flags, mode, ..Default::default() };
        let answer = self.ask(opcode::CREATE, node, &[wanted.as_bytes(), name, b"\0"])?;
        let mut arguments = Arguments(&answer);
        let entry = arguments.take().unwrap();
        Ok((entry, arguments.take::<wire::OpenOut>().unwrap().handle))
    }

    fn list(&mut self, kind: u32, node: u64, handle: u64, room: u32) -> Vec<String> {
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let wanted = wire::ReadIn { handle, offset, size: room, ..Default::default() };
            let answer = self.ask(kind, node, &[wanted.as_bytes()]).unwrap();
            assert!(answer.len() <= room as usize);
            if answer.is_empty() {
                return names;
            }
            let mut arguments = Arguments(&answer);
            while !arguments.0.is_empty() {
                if kind == opcode::READDIRPLUS {
                    let _: wire::Entry = arguments.take().unwrap();
                }
                let entry: wire::FolderEntry = arguments.take().unwrap();
                let length = (entry.name_len as usize).next_multiple_of(8);
                let name = arguments.bytes(length).unwrap();
                names.push(String::from_utf8(name[..entry.name_len as usize].to_vec()).unwrap());
                offset = entry.offset;
            }
        }
    }

    fn open_folder(&mut self, node: u64) -> u64 {
        self.get::<wire::OpenOut>(opcode::OPENDIR, node, &[wire::OpenIn::default().as_bytes()])
            .unwrap()
            .handle
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let shared = folder();
    let mut guest = Guest::of(&[shared.path()]);
    let share = guest.share();
    let (entry, handle) = guest.create(share, b"file", 0o640).unwrap();
    assert_eq!(entry.attributes.mode, 0o100_640);
    let wanted = wire::WriteIn { handle, offset: 3, size: 5, ..Default::default() };
    let out: wire::WriteOut = guest.get(opcode::WRITE, entry.node, &[wanted.as_bytes(), b"hello"]).unwrap();
    assert_eq!(out.size, 5);
    assert_eq!(fs::read(shared.path().join("file")).unwrap(), b"\0\0\0hello");
    let wanted = wire::ReadIn { handle, offset: 2, size: 100, ..Default::default() };
    assert_eq!(guest.ask(opcode::READ, entry.node, &[wanted.as_bytes()]).unwrap(), b"\0hello");
    fs::remove_file(shared.path().join("file")).unwrap();
    assert_eq!(guest.ask(opcode::READ, entry.node, &[wanted.as_bytes()]).unwrap(), b"\0hello");
    guest
        .ask(opcode::RELEASE, entry.node, &[wire::ReleaseIn { handle, ..Default::default() }.as_bytes()])
        .unwrap();
    assert_eq!(guest.ask(opcode::READ, entry.node, &[wanted.as_bytes()]), Err(Errno::BADF));
}

#[test]
fn nothing_leads_out_of_a_shared_folder() {
    let (shared, secret) = (folder(), folder());
    fs::write(secret.path().join("secret"), "x").unwrap();
    symlink(secret.path(), shared.path().join("link")).unwrap();
    let mut guest = Guest::of(&[shared.path()]);
    let share = guest.share();
    for name in ["..", ".", "../secret", "/etc/passwd", "link/secret"] {
        assert_eq!(guest.look_up(share, name.as_bytes()).unwrap_err(), Errno::INVAL, "{name}");
        assert_eq!(guest.create(share, name.as_bytes(), 0o600).unwrap_err(), Errno::INVAL, "{name}");
    }
    let link = guest.look_up(share, b"link").unwrap();
    assert_eq!(link.attributes.mode & 0o170_000, 0o120_000);
    assert_eq!(guest.look_up(link.node, b"secret").unwrap_err(), Errno::NOTDIR);
    let open = wire::OpenIn::default();
    assert_eq!(guest.ask(opcode::OPEN, link.node, &[open.as_bytes()]), Err(Errno::LOOP));
    assert_eq!(guest.ask(opcode::OPENDIR, link.node, &[open.as_bytes()]), Err(Errno::LOOP));
    assert_eq!(guest.create(share, b"link", 0o600).unwrap_err(), Errno::LOOP);
    // The folder of the shares itself has nothing else and stays as it is.
    for name in ["1", "x", "-1", "18446744073709551616"] {
        assert_eq!(guest.look_up(wire::ROOT, name.as_bytes()).unwrap_err(), Errno::NOENT, "{name}");
    }
    assert_eq!(guest.create(wire::ROOT, b"1", 0o600).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.ask(opcode::GETATTR, 99, &[&[0; 16]]), Err(Errno::NOENT));
    assert_eq!(guest.ask(opcode::OPEN, share + 1000, &[open.as_bytes()]), Err(Errno::NOENT));
}

#[test]
fn a_device_is_not_made_and_a_pipe_is_not_opened() {
    let shared = folder();
    let mut guest = Guest::of(&[shared.path()]);
    let share = guest.share();
    let make = |mode| wire::MakeNodeIn { mode, ..Default::default() };
    let device = make(0o060_600);
    assert_eq!(guest.ask(opcode::MKNOD, share, &[device.as_bytes(), b"sda\0"]), Err(Errno::PERM));
    let pipe: wire::Entry =
        guest.get(opcode::MKNOD, share, &[make(0o010_600).as_bytes(), b"pipe\0"]).unwrap();
    assert_eq!(guest.ask(opcode::OPEN, pipe.node, &[wire::OpenIn::default().as_bytes()]), Err(Errno::NXIO));
}

#[test]
fn requests_that_are_cut_off_are_malformed() {
    let shared = folder();
    let mut guest = Guest::of(&[shared.path()]);
    let share = guest.share();
    for kind in 0..60 {
        let has_no_arguments = [5, 3, 17, 25, 27, 38].contains(&kind);
        let silent = [2, 36, 42].contains(&kind);
        if !has_no_arguments && !silent {
            assert!(guest.ask(kind, share, &[]).is_err(), "{kind}");
        }
    }
    let mut reply = Reply::default();
    assert_eq!(guest.server.answer(b"short", &mut reply), Answered::Yes);
    // A length that is a lie.
    let (entry, handle) = guest.create(share, b"file", 0o600).unwrap();
    let wanted = wire::WriteIn { handle, size: 1 << 31, ..Default::default() };
    assert_eq!(guest.ask(opcode::WRITE, entry.node, &[wanted.as_bytes(), b"x"]), Err(Errno::INVAL));
}

#[test]
fn a_forgotten_file_is_let_go() {
    let shared = folder();
    fs::write(shared.path().join("file"), "x").unwrap();
    let mut guest = Guest::of(&[shared.path()]);
    let share = guest.share();
    let node = guest.look_up(share, b"file").unwrap().node;
    assert_eq!(guest.look_up(share, b"file").unwrap().node, node);
    guest.forget(node, 1);
    assert!(guest.ask(opcode::GETATTR, node, &[&[0; 16]]).is_ok());
    guest.forget(node, 1);
    assert_eq!(guest.ask(opcode::GETATTR, node, &[&[0; 16]]), Err(Errno::NOENT));
    guest.forget(node, u64::MAX);
    assert_ne!(guest.look_up(share, b"file").unwrap().node, node);
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let (shared, other) = (folder(), folder());
    let mut want: Vec<String> = (0..500).map(|number| format!("file-{number}")).collect();
    for name in &want {
        fs::write(shared.path().join(name), "").unwrap();
    }
    want.extend([".".to_owned(), "..".to_owned()]);
    want.sort();
    let mut guest = Guest::of(&[shared.path(), other.path()]);
    let share = guest.share();
    let handle = guest.open_folder(share);
    for (kind, room) in [(opcode::READDIR, 200), (opcode::READDIR, 65_536), (opcode::READDIRPLUS, 400)] {
        let mut names = guest.list(kind, share, handle, room);
        names.sort();
        assert_eq!(names, want);
    }
    let handle = guest.open_folder(wire::ROOT);
    assert_eq!(guest.list(opcode::READDIRPLUS, wire::ROOT, handle, 4096), ["0", "1"]);
}

#[test]
fn whoever_is_no_root_records_owners_beside_the_files() {
    let shared = folder();
    let mut guest = Guest::with(&[shared.path()], |server| server.owners = Owners::Recorded);
    guest.uid = 999;
    let share = guest.share();
    let me = rustix::process::geteuid().as_raw();
    let (entry, _) = guest.create(share, b"file", 0o444).unwrap();
    let here = fs::metadata(shared.path().join("file")).unwrap();
    assert_eq!((entry.attributes.uid, entry.attributes.gid), (999, 999));
    assert_eq!((here.uid(), here.permissions().mode() & 0o7777), (me, 0o444));
    let set = wire::SetAttributesIn { valid: 0b10, uid: 5, ..Default::default() };
    let out: wire::AttributesOut = guest.get(opcode::SETATTR, entry.node, &[set.as_bytes()]).unwrap();
    assert_eq!((out.attributes.uid, out.attributes.gid), (5, 999));
    assert_eq!(guest.look_up(share, b"file").unwrap().attributes.uid, 5);
    let nobody = wire::SetAttributesIn { valid: 0b10, uid: u32::MAX, ..Default::default() };
    assert_eq!(guest.ask(opcode::SETATTR, entry.node, &[nobody.as_bytes()]), Err(Errno::INVAL));
    // The record is not the guest's to see or to write.
    let wanted = wire::GetXattrIn { size: 4096, padding: 0 };
    assert_eq!(guest.ask(opcode::LISTXATTR, entry.node, &[wanted.as_bytes()]).unwrap(), b"");
    let name = b"user.pinnace.owner\0";
    assert_eq!(guest.ask(opcode::GETXATTR, entry.node, &[wanted.as_bytes(), name]), Err(Errno::NODATA));
    let value = wire::SetXattrIn { size: 3, flags: 0 };
    assert_eq!(guest.ask(opcode::SETXATTR, entry.node, &[value.as_bytes(), name, b"0:0"]), Err(Errno::PERM));
    // A link has no place for one, and whoever unpacks an archive gives it away all the same.
    let link: wire::Entry = guest.get(opcode::SYMLINK, share, &[b"link\0", b"file\0"]).unwrap();
    assert!(guest.ask(opcode::SETATTR, link.node, &[set.as_bytes()]).is_ok());
}

/// A guest whose thread 1 reads changes, and the bell that says when.
fn watching(folder: &Path) -> (Guest, Receiver<()>) {
    let guest = Guest::with(&[folder], |server| server.watch().unwrap());
    let (ring, rung) = channel();
    let server = guest.server.clone();
    std::thread::spawn(move || server.take_changes(move || ring.send(()).unwrap_or(())));
    (guest, rung)
}

/// Somebody else than this process does something on the host.
fn somebody(folder: &Path, script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).current_dir(folder).status().unwrap().success());
}

impl Guest {
    fn next_change(&mut self) -> Vec<String> {
        let wanted = wire::ReadIn { handle: HANDLE, size: 8192, ..Default::default() };
        self.thread = 1;
        let record = self.ask(opcode::READ, NODE, &[wanted.as_bytes()]).unwrap();
        let text = String::from_utf8(record).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    /// Waits until a change is told, passing over others.
    fn change(&mut self, rung: &Receiver<()>, wanted: &[&str]) {
        loop {
            let found = self.next_change();
            if found == wanted {
                return;
            }
            if found.is_empty() {
                rung.recv_timeout(Duration::from_secs(20))
                    .unwrap_or_else(|_| panic!("{wanted:?} is not told"));
            }
        }
    }
}

#[test]
fn what_changes_on_the_host_is_told_and_not_done_again() {
    let shared = folder();
    let here = shared.path();
    fs::write(here.join("page"), "first").unwrap();
    let (mut guest, rung) = watching(here);
    let share = guest.share();
    let page = guest.look_up(share, b"page").unwrap().node;
    assert_eq!(guest.look_up(wire::ROOT, NAME).unwrap().node, NODE);

    somebody(here, "echo second > page");
    guest.change(&rung, &["written", "0/page"]);
    let out: wire::OpenOut =
        guest.get(opcode::OPEN, page, &[wire::OpenIn { flags: 1, open_flags: 0 }.as_bytes()]).unwrap();
    let wanted = wire::WriteIn { handle: out.handle, size: 1, ..Default::default() };
    guest.ask(opcode::WRITE, page, &[wanted.as_bytes(), b"x"]).unwrap();
    assert_eq!(fs::read(here.join("page")).unwrap(), b"second\n");

    somebody(here, "echo new > made; mkdir folder");
    guest.change(&rung, &["made", "0/made"]);
    assert_eq!(guest.look_up(share, b"made").unwrap_err(), Errno::NOENT);
    let make = wire::MakeNodeIn { mode: 0o100_600, ..Default::default() };
    let made: wire::Entry = guest.get(opcode::MKNOD, share, &[make.as_bytes(), b"made\0"]).unwrap();
    assert_eq!(made.attributes.size, 4);
    guest.change(&rung, &["made-folder", "0/folder"]);

    somebody(here, "mv made moved");
    guest.change(&rung, &["moved", "0/made", "0/moved"]);
    assert_eq!(guest.look_up(share, b"made").unwrap().node, made.node);
    assert_eq!(guest.look_up(share, b"moved").unwrap_err(), Errno::NOENT);
    guest
        .ask(
            opcode::RENAME2,
            share,
            &[wire::Rename2In { to: share, ..Default::default() }.as_bytes(), b"made\0moved\0"],
        )
        .unwrap();
    assert_eq!(guest.look_up(share, b"moved").unwrap().node, made.node);

    somebody(here, "rm moved; echo other > moved");
    guest.change(&rung, &["removed", "0/moved"]);
    assert_eq!(guest.look_up(share, b"moved").unwrap().node, made.node);
    guest.ask(opcode::UNLINK, share, &[b"moved\0"]).unwrap();
    assert_eq!(fs::read(here.join("moved")).unwrap(), b"other\n");
    guest.thread = 2;
    assert_ne!(guest.look_up(share, b"moved").unwrap().node, made.node);

    // A file that was written under another name and takes the place of one that is known.
    somebody(here, "echo third > .page.swp; mv .page.swp page");
    guest.change(&rung, &["moved", "0/.page.swp", "0/page"]);
    let new = guest.look_up(share, b".page.swp").unwrap().node;
    assert_eq!(guest.look_up(share, b"page").unwrap().node, page);
    assert_ne!(new, page);
}

#[test]
fn who_tells_changes_changes_nothing_else() {
    let shared = folder();
    let here = shared.path();
    fs::create_dir(here.join("a")).unwrap();
    let (mut guest, rung) = watching(here);
    let share = guest.share();
    let folder = guest.look_up(share, b"a").unwrap().node;
    somebody(here, "touch a/file; rm a/file; mv a b; mkdir a; touch a/file b/file");
    // Its path leads to another folder by now.
    guest.change(&rung, &["removed", "0/b/file"]);
    let other = guest.look_up(share, b"a").unwrap().node;
    assert_ne!(other, folder);
    assert_eq!(guest.ask(opcode::UNLINK, other, &[b"file\0"]), Err(Errno::ACCESS));
    assert_eq!(guest.create(share, b"x", 0o600).unwrap_err(), Errno::ACCESS);
    assert_eq!(guest.ask(opcode::RMDIR, share, &[b"a\0"]), Err(Errno::ACCESS));
    assert!(here.join("a/file").exists() && here.join("b/file").exists());
    // Anybody else's requests are done, and nobody is told of them.
    guest.thread = 2;
    guest.ask(opcode::UNLINK, folder, &[b"file\0"]).unwrap();
    assert!(!here.join("b/file").exists());
    guest.create(share, b"x", 0o600).unwrap();
    somebody(here, "touch last");
    guest.change(&rung, &["made", "0/last"]);
    // When it has left, its number is anybody's.
    guest.ask(opcode::RELEASE, NODE, &[wire::ReleaseIn::default().as_bytes()]).unwrap();
    guest.ask(opcode::UNLINK, share, &[b"last\0"]).unwrap();
    assert!(!here.join("last").exists());
}
