//! `docker-init`: process 1 of a container that asked for one. It starts the container's program, hands every signal on
//! to it, buries what nobody else buries, and ends as the program ends.
//!
//! The program is started in two steps, both from this file: signals are blocked before there is anybody to hand them
//! to, so that none is lost, and a second copy of this program unblocks them and becomes the container's own. Nothing
//! here needs clone3(2), which Docker's default seccomp profile forbids.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags};

/// How the program is called in a container.
const NAME: &str = "docker-init";
/// First argument of the second step.
const BECOME: &str = "--become";
/// Signals of a fault of our own, and those about a terminal in the background.
const NOT_HANDED_ON: [i32; 9] = [4, 5, 6, 7, 8, 11, 31, 21, 22];
const SIGCHLD: i32 = 17;

/// Whether the program was started as [`NAME`].
pub fn is_asked(program: &str) -> bool {
    program.rsplit('/').next() == Some(NAME)
}

/// Does all of it and ends.
pub fn run(program: &str, words: &[String]) -> ! {
    let code = match words.split_first() {
        Some((first, rest)) if first == BECOME => become_program(rest),
        Some((first, rest)) if first == "--" && !rest.is_empty() => {
            hold(program, rest).unwrap_or_else(|error| {
                tell(format_args!("{error}"));
                1
            })
        }
        _ => {
            tell(format_args!("usage: {NAME} -- PROGRAM [ARGUMENT]..."));
            1
        }
    };
    std::process::exit(code)
}

fn tell(words: std::fmt::Arguments<'_>) {
    crate::messages::raw(format!("[FATAL {NAME}] {words}\n").as_bytes());
}

/// The second step: returns only where there is no such program.
fn become_program(words: &[String]) -> i32 {
    // A process group of its own, in front of the terminal where there is one; SIGTTOU is still blocked.
    let group = rustix::process::setpgid(None, None).map(|()| rustix::process::getpid());
    if let Ok(group) = group {
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group);
    }
    sys::clone::unblock_signals();
    let Some((program, arguments)) = words.split_first() else { return 1 };
    let error = Command::new(program).args(arguments).exec();
    tell(format_args!("exec {program} failed: {}", text(&error)));
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The kernel's words without the number.
fn text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The first step: starts the second and stays until the program ends.
fn hold(program: &str, words: &[String]) -> io::Result<i32> {
    let all: Vec<i32> = (1..=64).filter(|signal| !NOT_HANDED_ON[..7].contains(signal)).collect();
    let signals = sys::reap::signal_fd(&all)?;
    let child = Command::new(program).arg0(program).arg(BECOME).args(words).spawn()?;
    let pid = child.id();
    let process = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
    loop {
        if let Some(code) = bury(pid)? {
            return Ok(code);
        }
        match poll(&mut [PollFd::new(&signals, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(signal) = sys::reap::next_signal(signals.as_fd()) {
            if signal != SIGCHLD && !NOT_HANDED_ON.contains(&signal) {
                // It may just have ended.
                let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), signal);
            }
        }
    }
}

/// Takes every child that has ended; tells the exit code of `pid`'s end.
fn bury(pid: u32) -> io::Result<Option<i32>> {
    let mut code = None;
    // Without any child the program has ended before.
    while let Ok(Some(ended)) = sys::reap::peek() {
        let taken = sys::reap::take(ended)?;
        if let Some(taken) = taken.filter(|_| ended == pid) {
            let signal = taken.status & 0x7f;
            code = Some(if signal == 0 { (taken.status >> 8) & 0xff } else { 128 + signal });
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_name_asks_for_it() {
        assert!(is_asked("/sbin/docker-init") && is_asked("docker-init"));
        assert!(!is_asked("/init") && !is_asked("/sbin/docker-init/x"));
    }

    #[test]
    fn errors_are_told_without_numbers() {
        assert_eq!(text(&io::Error::from_raw_os_error(2)), "No such file or directory");
    }
}
