//! Requests of a guest to the server of the host's folders: kinds, nodes and arguments are arbitrary, and nothing outside the
//! shared folder is seen or changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use std::os::unix::fs::symlink;

#[path = "../../host-bridge/src/shares/server/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod server;

/// Kinds from FUSE_LOOKUP to one after the last.
const KINDS: u8 = 53;
const FALLOCATE: u8 = 43;
/// Where a FALLOCATE has its length, behind its header.
const LENGTH: std::ops::Range<usize> = 16..24;
/// What no guest may ever see.
const SECRET: &[u8] = b"e3b0c44298fc1c149afbf4c8";
/// Requests of one guest.
const REQUESTS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let (shared, secret) = (folder.path().join("shared"), folder.path().join("secret"));
    fs::create_dir_all(shared.join("a")).expect("a folder");
    fs::write(shared.join("b"), "content").expect("a file");
    fs::write(&secret, SECRET).expect("a file");
    symlink("../secret", shared.join("l")).expect("a link");
    let server = server::Server::new(&[shared]).expect("a folder that is there");
    let mut reply = server::Reply::default();
    let mut rest = bytes;
    for _ in 0..REQUESTS {
        let Some((&[kind, node, length], more)) = rest.split_first_chunk::<3>() else { break };
        let (arguments, more) = more.split_at(more.len().min(usize::from(length)));
        rest = more;
        let (kind, mut arguments) = (kind % KINDS, arguments.to_vec());
        // So much as is asked for would really be taken from the disk.
        if kind == FALLOCATE && let Some(length) = arguments.get_mut(LENGTH) {
            length[2..].fill(0);
        }
        let mut request = ((40 + arguments.len()) as u32).to_le_bytes().to_vec();
        request.extend(u32::from(kind).to_le_bytes());
        request.extend([0; 8]);
        request.extend(u64::from(node).to_le_bytes());
        request.extend([0; 8]);
        // One of two threads: whoever reads the host's changes may do nothing else.
        request.extend(u32::from(length & 1).to_le_bytes());
        request.extend([0; 4]);
        request.extend(arguments);
        if server.answer(&request, &mut reply) == server::Answered::Yes {
            let message = reply.message();
            assert_eq!(message[..4], (message.len() as u32).to_le_bytes());
            assert!(!message.windows(SECRET.len()).any(|part| part == SECRET));
        }
    }
    drop(server);
    assert_eq!(fs::read(&secret).expect("it is still there"), SECRET);
    let outside = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(outside, 2);
});
