//! A process that runs: the first one of a container, an exec, or a probe. It knows neither container nor record.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};

use runtime::stdio::Ends;
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::hub::Chunk;
use super::output::Output;
use super::pump::Pump;
use super::relay;
use super::spool::Stream;
use super::stdin::Stdin;

/// What clients have in hand of a process: its input, and its terminal where it has one.
#[derive(Debug, Default)]
pub struct Console {
    /// Standard input, or what is typed into the terminal.
    pub stdin: Stdin,
    terminal: Mutex<Option<OwnedFd>>,
}

impl Console {
    /// Changes the size of the terminal, in characters. False where there is none.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<bool> {
        let terminal = self.terminal();
        let Some(terminal) = terminal.as_ref() else { return Ok(false) };
        runtime::stdio::resize(terminal.as_fd(), rows, columns)?;
        Ok(true)
    }

    /// The run is over.
    pub fn close(&self) {
        self.stdin.close();
        *self.terminal() = None;
    }

    fn terminal(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.terminal.lock().expect("no holder of the terminal panics")
    }
}

/// Who gets what the process prints.
pub enum Sink {
    /// Log and attached clients, over the engine's death.
    Pump(Box<Pump>),
    /// One client.
    Client(mpsc::Sender<Chunk>),
}

/// A process that was launched.
#[derive(Debug)]
pub struct Running {
    /// In PID 1's namespace.
    pub pid: u32,
    /// None of a process that was found ended: its exit is on its way.
    pidfd: Option<OwnedFd>,
    /// What it prints.
    pub output: Output,
}

impl Running {
    /// One whose streams nobody reads yet.
    pub fn new(pid: u32, pidfd: Option<OwnedFd>) -> Running {
        Running { pid, pidfd, output: Output::none() }
    }

    /// Gives the engine's `ends` of its streams to `console` and `sink`. The reading is done `on` that runtime.
    ///
    /// # Errors
    /// A descriptor cannot be polled. The process runs all the same.
    pub fn connect(&mut self, ends: Ends, console: &Console, sink: Sink, on: &Handle) -> io::Result<()> {
        self.output = match sink {
            Sink::Pump(pump) => pumped(*pump, ends, console, on)?,
            Sink::Client(client) => relayed(&client, ends, console, on)?,
        };
        Ok(())
    }

    /// Sends a signal; one that has just ended needs none.
    ///
    /// # Errors
    /// Those of pidfd_send_signal(2).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let Some(pidfd) = &self.pidfd else { return Ok(()) };
        match sys::process::pidfd_send_signal(pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            other => other,
        }
    }
}

fn pumped(mut pump: Pump, ends: Ends, console: &Console, on: &Handle) -> io::Result<Output> {
    match ends {
        Ends::Pipes { stdin, stdout, stderr } => {
            pump.read_pipes(stdout, stderr, on)?;
            stdin.map_or(Ok(()), |stdin| console.stdin.open(stdin))?;
        }
        Ends::Terminal { master, relay } => {
            pump.read_terminal(open_terminal(console, master)?, relay, on)?;
        }
        Ends::Null => {}
    }
    Ok(pump.spawn(on))
}

fn relayed(client: &mpsc::Sender<Chunk>, ends: Ends, console: &Console, on: &Handle) -> io::Result<Output> {
    let pipe = |end: OwnedFd| {
        let _reactor = on.enter();
        pipe::Receiver::from_file_unchecked(end.into())
    };
    let mut sources = Vec::new();
    match ends {
        Ends::Pipes { stdin, stdout, stderr } => {
            sources.push((Stream::Stdout, pipe(stdout)?));
            sources.push((Stream::Stderr, pipe(stderr)?));
            stdin.map_or(Ok(()), |stdin| console.stdin.open(stdin))?;
        }
        Ends::Terminal { master, relay: _ } => {
            sources.push((Stream::Stdout, pipe(open_terminal(console, master)?)?));
        }
        Ends::Null => {}
    }
    Ok(relay::spawn(sources, client, on))
}

/// A terminal is typed into, resized, and read.
fn open_terminal(console: &Console, master: OwnedFd) -> io::Result<OwnedFd> {
    *console.terminal() = Some(master.try_clone()?);
    console.stdin.open(master.try_clone()?)?;
    Ok(master)
}

/// A descriptor of the process `pid`; none where it has ended.
pub fn pidfd(pid: u32) -> Option<OwnedFd> {
    let process = rustix::process::Pid::from_raw(pid.cast_signed())?;
    rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).ok()
}
