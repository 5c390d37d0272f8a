//! The host's folders in the machine: a FUSE server of our own.
//!
//! ```text
//!   container ─► guest's kernel ─ FUSE requests ─► virtqueue ─► [virtiofs] ─► [server] ─► a file below a shared folder
//! ```
//!
//! The server knows bytes alone, so that whatever carries them, a device's ring or a stream, carries the same.

use crate::{host, say};
use rustix::fs::Mode;
use server::Server;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

mod confine;
mod server;
mod virtiofs;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "folders";

/// What the subcommand takes.
#[derive(clap::Args)]
pub struct Order {
    /// The folders, by their places in the machine's list.
    folders: Vec<PathBuf>,
}

/// Serves them to the one QEMU that calls at the listening socket that standard input is, until it goes.
pub fn play(order: &Order) -> ExitCode {
    // The guest's kernel has applied the umask of who makes a file (FUSE_DONT_MASK).
    rustix::process::umask(Mode::empty());
    // Every file that the guest knows is an open one here.
    host::raise_open_files();
    let listener = match rustix::io::dup(std::io::stdin().as_fd()) {
        Ok(socket) => UnixListener::from(socket),
        Err(error) => return failed(&format!("the socket: {error}")),
    };
    let mut server = match Server::new(&order.folders) {
        Ok(server) => server,
        Err((folder, error)) => return failed(&format!("{}: {error}", folder.display())),
    };
    if let Err(error) = server.watch() {
        say::error(&format!("changes on this host are not told in the machine: {error}"));
    }
    match confine::to(&order.folders) {
        Ok(true) => {}
        Ok(false) => say::error(
            "this kernel has no Landlock: nothing but this program's own care keeps it in the folders",
        ),
        Err(error) => return failed(&format!("cannot give up other files: {error}")),
    }
    let server = Arc::new(server);
    if let Err(error) = tell_changes(server.clone()) {
        return failed(&format!("a thread: {error}"));
    }
    match virtiofs::serve(listener, server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

/// A byte on standard output says that there are changes to be read.
fn tell_changes(server: Arc<Server>) -> io::Result<()> {
    let ring = || {
        // A bridge that does not read has enough to read already.
        let _ = rustix::io::write(std::io::stdout().as_fd(), &[0]);
    };
    let told = move || {
        if let Some(error) = server.take_changes(ring) {
            say::error(&format!("changes on this host are told no longer: {error}"));
        }
    };
    std::thread::Builder::new().name("changes".to_owned()).spawn(told).map(drop)
}

fn failed(text: &str) -> ExitCode {
    say::error(text);
    ExitCode::FAILURE
}
