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
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

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
    match Server::new(&order.folders) {
        Ok(server) => match virtiofs::serve(listener, server) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        },
        Err((folder, error)) => failed(&format!("{}: {error}", folder.display())),
    }
}

fn failed(text: &str) -> ExitCode {
    say::error(text);
    ExitCode::FAILURE
}
