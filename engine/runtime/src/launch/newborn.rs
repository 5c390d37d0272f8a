//! The zygote's side: what it and the processes it makes do. See [`super::zygote`] for the whole picture.
//!
//! There is one thread in all of them, so memory may be allocated at any time.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{DupFlags, Errno};
use sys::clone::{CloneFlags, Stack, clone_copy, clone_sibling};
use sys::packet;

use super::file::{File, Files};
use super::process_steps::CHANNEL;
use super::step::Step;
use super::zygote::{GO, Orders, PIECE, Piece, Report};

/// Exit status of processes that did not become their program. PID 1 may know the one that was born, and must not take its end for
/// that of a program that was content. Nobody looks at a forerunner's.
const FAILED: i32 = 255;

/// Longest packet of orders: a piece with the names of its descriptors.
const PACKET_MAX: usize = PIECE + 1024;

/// Serves the engine as its zygote until that ends. The engine's program calls this when its argument is [`super::ZYGOTE`].
///
/// # Errors
/// The engine left no socket.
pub fn zygote_main() -> std::io::Result<()> {
    let mut socket = sys::inherit::take(CHANNEL).ok_or(std::io::ErrorKind::NotConnected)?;
    rustix::thread::set_name(c"zygote")?;
    let mut stack = Stack::new()?;
    while let Some(order) = packet::receive(socket.as_fd(), 16, true)? {
        let mut fds = order.fds.into_iter();
        if let (Some(cgroup), Some(channel)) = (fds.next(), fds.next()) {
            fork(&mut socket, &cgroup, channel, &mut stack);
        }
    }
    Ok(())
}

/// Makes a forerunner, and tells the engine.
fn fork(socket: &mut OwnedFd, cgroup: &OwnedFd, channel: OwnedFd, stack: &mut Stack) {
    let mut forerunner = || {
        // In the place of the zygote's socket, of which nobody else may have a copy.
        match rustix::io::dup3(&channel, socket, DupFlags::CLOEXEC) {
            Ok(()) => run(socket),
            Err(errno) => report(&channel, not_forked(errno)),
        }
        FAILED
    };
    let made = clone_copy(CloneFlags::PARENT, Some(cgroup.as_fd()), stack, &mut forerunner);
    match made {
        Ok(child) => {
            let bytes = encode(Report::Forked);
            // An engine that has given up needs no answer.
            let _ = packet::send(channel.as_fd(), &bytes, &[child.pidfd.as_fd()]);
        }
        Err(error) => report(&channel, not_forked(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
    }
}

fn not_forked(errno: Errno) -> Report {
    Report::NotForked { errno: errno.raw_os_error() }
}

fn encode(report: Report) -> Vec<u8> {
    postcard::to_stdvec(&report).unwrap_or_default()
}

/// By write(2), which more seccomp programs let pass than sendmsg(2).
fn report(channel: &OwnedFd, report: Report) {
    // Without a reader the engine has ended, or given up.
    let _ = rustix::io::write(channel, &encode(report));
}

/// The life of a forerunner.
fn run(channel: &OwnedFd) {
    let Ok(Some((orders, fds))) = receive(channel) else { return };
    // Closed by a step, all at once.
    let fds = ManuallyDrop::new(fds);
    let mut files = Files::default();
    for (name, fd) in fds.iter() {
        files.add(*name, fd.as_fd());
    }
    if !walk(channel, &orders.steps, 0, &files) {
        return;
    }
    match clone_sibling() {
        Ok(true) => be_born(channel, &orders, &files),
        Ok(false) => {}
        Err(error) => report(channel, not_forked(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
    }
}

/// The life of the process itself, until it is its program.
fn be_born(channel: &OwnedFd, orders: &Orders, files: &Files<'_>) {
    report(channel, Report::Born);
    let mut answer = [0];
    loop {
        match rustix::io::read(channel, &mut answer) {
            Ok(1) if answer == [GO] => break,
            Err(Errno::INTR) => {}
            // The engine ended before PID 1 was told.
            _ => return,
        }
    }
    walk(channel, &orders.inside, orders.steps.len(), files);
}

/// Walks steps, the first being number `first` + 1; false after telling of one that failed.
fn walk(channel: &OwnedFd, steps: &[Step], first: usize, files: &Files<'_>) -> bool {
    for (index, step) in steps.iter().enumerate() {
        if let Err(errno) = step.run(files) {
            report(channel, Report::Failed { step: first + index + 1, errno: errno.raw_os_error() });
            return false;
        }
    }
    true
}

type Received = (Orders, Vec<(File, OwnedFd)>);

/// The orders with their descriptors; `None` where the engine gave up.
fn receive(channel: &OwnedFd) -> std::io::Result<Option<Received>> {
    let (mut bytes, mut files) = (Vec::new(), Vec::new());
    loop {
        let Some(packet) = packet::receive(channel.as_fd(), PACKET_MAX, true)? else { return Ok(None) };
        let piece: Piece<'_> = postcard::from_bytes(&packet.bytes).map_err(std::io::Error::other)?;
        bytes.extend_from_slice(piece.bytes);
        files.extend(piece.names.into_iter().zip(packet.fds));
        if piece.is_last {
            let orders = postcard::from_bytes(&bytes).map_err(std::io::Error::other)?;
            return Ok(Some((orders, files)));
        }
    }
}
