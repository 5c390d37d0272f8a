//! The fake engine: does to the keeper what a real one does, one line at a time over the API socket.
//!
//! `launch KEY COMMAND`, `launch-slowly KEY COMMAND`, `launch-many N`, `next`, `ack KEY`, `shed KEY`, `held`, `count`,
//! `config`, `keep NAME TEXT`, `drop NAME`, `kept`, `output KEY|NAME`, `hostname`, `close-keeper`, `crash-at-start N`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, mpsc};

use contract::keeper::{Exit, FromKeeper, Key, MESSAGE_MAX, Name, PROTOCOL_VERSION, ToKeeper};
use contract::paths::{API_UNIX_FD, CONFIG_FD, KEEPER_FD};
use sys::clone::{CloneFlags, Memory, Stack, StringArray, clone_vfork, execve, unblock_signals};
use sys::packet;

/// In the environment of the process that shall be the engine.
pub const MARK: &str = "PINNACE_FAKE_ENGINE";

/// How many of the next engines shall die at once.
const CRASHES: &str = "/var/lib/pinnace/crashes";

type Outputs = BTreeMap<String, OwnedFd>;

struct Engine {
    keeper: OwnedFd,
    config: fs::File,
    held: Vec<String>,
    kept: Vec<String>,
    outputs: Arc<Mutex<Outputs>>,
    exited: mpsc::Receiver<String>,
}

/// Never returns.
pub fn run() {
    let keeper = sys::inherit::take(KEEPER_FD).unwrap();
    let config =
        sys::inherit::take(CONFIG_FD).map_or_else(|| fs::File::open("/dev/null").unwrap(), fs::File::from);
    let listener = UnixListener::from(sys::inherit::take(API_UNIX_FD).unwrap());
    crash_if_told();
    listener.set_nonblocking(false).unwrap();
    send(keeper.as_fd(), &ToKeeper::Hello { version: PROTOCOL_VERSION });
    let outputs = Arc::new(Mutex::new(Outputs::new()));
    let (held, kept) = replay(keeper.as_fd(), &outputs);
    let (tell, exited) = mpsc::channel();
    let engine = Engine { keeper: keeper.try_clone().unwrap(), config, held, kept, outputs, exited };
    std::thread::spawn(move || listen(&keeper, &tell));
    for stream in listener.incoming() {
        engine.serve(stream.unwrap());
    }
}

fn crash_if_told() {
    let left = fs::read_to_string(CRASHES).ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    if left > 0 {
        fs::write(CRASHES, (left - 1).to_string()).unwrap();
        std::process::abort();
    }
}

fn send(keeper: BorrowedFd<'_>, message: &ToKeeper) {
    packet::send(keeper, &message.encode(), &[]).unwrap();
}

fn receive(keeper: BorrowedFd<'_>) -> (FromKeeper, Vec<OwnedFd>) {
    let Some(packet) = packet::receive(keeper, MESSAGE_MAX, true).unwrap() else {
        loop {
            std::thread::park();
        }
    };
    (FromKeeper::decode(&packet.bytes).unwrap(), packet.fds)
}

/// `KEY:STATE:NOTE:NUMBER-OF-DESCRIPTORS` for each that is held, and the names of what is kept.
fn replay(keeper: BorrowedFd<'_>, outputs: &Mutex<Outputs>) -> (Vec<String>, Vec<String>) {
    let (mut held, mut kept) = (Vec::new(), Vec::new());
    loop {
        match receive(keeper) {
            (FromKeeper::Held { key, exit, note, .. }, fds) => {
                let (name, note, count) = (name(key), String::from_utf8(note).unwrap(), fds.len());
                held.push(format!("{name}:{}:{note}:{count}", exit.map_or("running".into(), ended)));
                outputs.lock().unwrap().extend(fds.into_iter().map(|fd| (name.clone(), fd)));
            }
            (FromKeeper::Kept { name }, fds) => {
                kept.push(name.to_string());
                outputs.lock().unwrap().extend(fds.into_iter().map(|fd| (name.to_string(), fd)));
            }
            (FromKeeper::ReplayEnd, _) => return (held, kept),
            other => panic!("not of a replay: {other:?}"),
        }
    }
}

fn listen(keeper: &OwnedFd, tell: &mpsc::Sender<String>) {
    loop {
        match receive(keeper.as_fd()).0 {
            FromKeeper::Exited { key, exit, .. } => {
                tell.send(format!("exited {} {}", name(key), ended(exit))).unwrap();
            }
            FromKeeper::PowerOff { millis } => {
                println!("fake engine: told to stop within {} s", millis.div_ceil(1000));
                send(keeper.as_fd(), &ToKeeper::Stopped);
            }
            other => panic!("not after a replay: {other:?}"),
        }
    }
}

fn key(name: &str) -> Key {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    Key(key)
}

fn name(key: Key) -> String {
    String::from_utf8(key.0.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
}

fn ended(exit: Exit) -> String {
    assert!(exit.at_nanos > 1_600_000_000_000_000_000);
    match exit.status & 0x7f {
        0 => format!("exit-{}", exit.status >> 8),
        signal => format!("signal-{signal}"),
    }
}

impl Engine {
    fn serve(&self, mut stream: UnixStream) {
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let line = line.trim_end();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let answer = self.answer(verb, rest);
        let _ = writeln!(stream, "{answer}");
    }

    fn answer(&self, verb: &str, rest: &str) -> String {
        match verb {
            "launch" => self.launch(rest, false),
            "launch-slowly" => self.launch(rest, true),
            "launch-anothers" => {
                // The engine's own child, which PID 1 never reaps: to PID 1 as good as one that it has reaped.
                let other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
                let message = ToKeeper::Launched { key: key(rest), note: vec![] }.encode();
                packet::send_as(self.keeper.as_fd(), &message, &[], Some(other.id())).unwrap();
                std::thread::spawn(move || { other }.wait());
                "ok".into()
            }
            "launch-many" => {
                (0..rest.parse().unwrap())
                    .for_each(|n: u32| drop(self.launch(&format!("k{n} sleep 1000"), false)));
                "ok".into()
            }
            "next" => self.exited.recv().unwrap(),
            "ack" => {
                send(self.keeper.as_fd(), &ToKeeper::Ack { key: key(rest) });
                "ok".into()
            }
            "shed" => {
                send(self.keeper.as_fd(), &ToKeeper::Shed { key: key(rest), keep: 0 });
                "ok".into()
            }
            "config" => {
                let mut config = vec![0; self.config.metadata().unwrap().len() as usize];
                self.config.read_exact_at(&mut config, 0).unwrap();
                String::from_utf8(config).unwrap()
            }
            "keep" => self.keep(rest),
            "drop" => {
                send(self.keeper.as_fd(), &ToKeeper::Drop { name: Name::new(rest).unwrap() });
                "ok".into()
            }
            "kept" => self.kept.join(" "),
            "held" => self.held.join(" "),
            "count" => self.held.len().to_string(),
            "output" => self.output(rest),
            "hostname" => fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().into(),
            "crash-at-start" => {
                fs::write(CRASHES, rest).unwrap();
                "ok".into()
            }
            "close-keeper" => {
                // Both descriptors of it, and the thread that reads, go with the connection.
                rustix::net::shutdown(&self.keeper, rustix::net::Shutdown::Both).unwrap();
                "ok".into()
            }
            _ => panic!("unknown verb {verb}"),
        }
    }

    /// A pipe with TEXT in it, whose other end nobody has.
    fn keep(&self, rest: &str) -> String {
        let (name, text) = rest.split_once(' ').unwrap();
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(text.as_bytes()).unwrap();
        let message = ToKeeper::Keep { name: Name::new(name).unwrap() };
        packet::send(self.keeper.as_fd(), &message.encode(), &[read.as_fd()]).unwrap();
        "ok".into()
    }

    fn output(&self, name: &str) -> String {
        let pipe = self.outputs.lock().unwrap().remove(name).unwrap();
        let mut text = String::new();
        fs::File::from(pipe).read_to_string(&mut text).unwrap();
        text.trim_end().replace('\n', " ")
    }

    /// As a real engine: a child of PID 1 that registers itself, with the read end of its output, then execs.
    fn launch(&self, rest: &str, slowly: bool) -> String {
        let (name, command) = rest.split_once(' ').unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let message =
            ToKeeper::Launched { key: key(name), note: format!("note-{name}").into_bytes() }.encode();
        let arguments = ["sh", "-c", command].map(|word| CString::new(word).unwrap());
        let (arguments, environment) = (StringArray::new(arguments.into()), StringArray::new(vec![]));
        let delay = std::time::Duration::from_millis(500);
        let mut stack = Stack::new().unwrap();
        clone_vfork(CloneFlags::PARENT, None, Memory::Shared, &mut stack, None, &mut || {
            if slowly {
                std::thread::sleep(delay);
            }
            if packet::send(self.keeper.as_fd(), &message, &[read.as_fd()]).is_err() {
                return 126;
            }
            if into_stdout(write.as_fd()).is_err() {
                return 126;
            }
            unblock_signals();
            execve(c"/bin/sh", &arguments, &environment).raw_os_error().unwrap_or(127)
        })
        .unwrap();
        "ok".into()
    }
}

fn into_stdout(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    debug_assert!(fd.as_raw_fd() > 2);
    rustix::stdio::dup2_stdout(fd)
}
