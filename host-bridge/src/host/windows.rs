//! What Windows does its own way: pipes in the place of unix sockets, jobs in the place of parent-death signals. It
//! was never run there.

use super::NotPrivate;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// Pipes have names of their own, so the folder's may be as long as it likes.
pub const SOCKET_PATH_MAX: usize = usize::MAX;

/// winbase.h: opens a link itself and not what it leads to.
const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
/// winbase.h: no console, and the terminal's Ctrl-C passes by.
const DETACHED: u32 = 0x0000_0008 | 0x0000_0200;
/// winerror.h: every end of a pipe is taken for the moment.
const ERROR_PIPE_BUSY: i32 = 231;
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
/// What a peer may send before it is read, while only its end is waited for, in bytes.
const AHEAD_MAX: usize = 64 << 10;

/// Subcommands for processes of their own. A job ties children to their parent, so there are none.
#[derive(clap::Subcommand)]
pub enum Role {}

impl Role {
    /// Plays it.
    pub fn play(self) -> std::process::ExitCode {
        match self {}
    }
}

/// Below which folder appliances live that were given none.
pub fn state_folder() -> Option<PathBuf> {
    let local = std::env::var_os("LOCALAPPDATA").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(local?.join("pinnace"))
}

/// Options that open a file and follow no link in its place. A file has the rights of its folder.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
}

/// Makes a folder; below %LOCALAPPDATA% it is its owner's alone.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// Whether others could put something into a folder is not looked at yet: that takes reading its access list.
pub fn not_private(folder: &Path) -> io::Result<Option<NotPrivate>> {
    std::fs::metadata(folder).map(|_| None)
}

/// Whether the path still leads to this open file: a file that is open cannot be replaced here.
pub fn leads_to(path: &Path, _file: &File) -> io::Result<bool> {
    path.try_exists()
}

/// A process with this number exists.
pub fn process_lives(pid: u32) -> bool {
    sys::windows::process_lives(pid)
}

/// Asking a process without a window to end is not possible; it was asked on its pipe.
pub fn terminate(_pid: u32) {}

/// Ends a process.
pub fn kill_process(pid: u32) {
    // It may have ended in this moment.
    let _ = sys::windows::kill_process(pid);
}

/// The running program.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// This host's memory, in bytes.
pub fn memory() -> Option<u64> {
    sys::windows::memory().ok()
}

/// Nobody is asked in the place of the machine's own resolver, which follows this host's.
pub fn resolvers() -> Vec<std::net::IpAddr> {
    Vec::new()
}

/// No limit of open handles is in the way.
pub fn raise_open_files() {}

/// Makes a command's process outlive this one's terminal.
pub fn detach(command: &mut tokio::process::Command) {
    command.creation_flags(DETACHED);
}

/// It was detached when it was started; what it starts dies with it.
pub fn become_daemon() -> io::Result<()> {
    sys::windows::children_die_with_this()
}

/// Files have the rights of their folder.
pub fn keep_to_owner() {}

/// Later lines go into a pipe without a reader, which is no harm.
pub fn close_stdout() {}

/// Wishes to end that come from the terminal or the system.
pub struct EndWishes {
    c: CtrlC,
    pause: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl EndWishes {
    /// Begins to listen.
    pub fn listen() -> io::Result<EndWishes> {
        Ok(EndWishes { c: ctrl_c()?, pause: ctrl_break()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.c.recv() => {}
            _ = self.pause.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}

/// The pipe that stands for a socket in an appliance's folder: `\\.\pipe\pinnace-NAME-docker`.
fn pipe_name(socket: &Path) -> OsString {
    let part = |path: Option<&Path>| path.and_then(Path::file_stem).unwrap_or_default().to_owned();
    let mut name = OsString::from(r"\\.\pipe\pinnace-");
    name.push(part(socket.parent()));
    name.push("-");
    name.push(part(Some(socket)));
    name
}

/// How docker's programs name the pipe of the socket at this path.
pub fn docker_host(socket: &Path) -> String {
    format!("npipe://{}", pipe_name(socket).to_string_lossy().replace('\\', "/"))
}

/// What lies where a socket shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtSocket {
    /// Nothing.
    Nothing,
    /// Never here: a pipe ends with its owner.
    #[expect(dead_code, reason = "the other systems know it")]
    Stale,
    /// A pipe to which somebody listens.
    Live,
    /// Never here: pipes have a name space of their own.
    #[expect(dead_code, reason = "the other systems know it")]
    Foreign,
}

/// Looks at the place of a socket.
pub fn at_socket(path: &Path) -> io::Result<AtSocket> {
    match Path::new(&pipe_name(path)).try_exists()? {
        true => Ok(AtSocket::Live),
        false => Ok(AtSocket::Nothing),
    }
}

#[derive(Debug)]
enum Pipe {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

/// Calls the method of whichever end it is.
macro_rules! either {
    ($pipe:expr, $end:ident => $call:expr) => {
        match $pipe {
            Pipe::Server($end) => $call,
            Pipe::Client($end) => $call,
        }
    };
}

/// One connection, for [`crate::stream::Stream`].
#[derive(Debug)]
pub struct Connection {
    pipe: Pipe,
    /// What was read while only the peer's end was waited for.
    ahead: Mutex<Vec<u8>>,
    /// How often the peer's end was read: its half close, and then its last.
    ends: AtomicU32,
}

impl Connection {
    fn new(pipe: Pipe) -> Connection {
        Connection { pipe, ahead: Mutex::default(), ends: AtomicU32::new(0) }
    }

    /// See [`crate::stream::Stream::connect`].
    pub async fn connect(path: &Path) -> io::Result<Connection> {
        let name = pipe_name(path);
        loop {
            match ClientOptions::new().pipe_mode(PipeMode::Message).open(&name) {
                Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                opened => return opened.map(|client| Connection::new(Pipe::Client(client))),
            }
        }
    }

    /// See [`crate::stream::Stream::read`]. A message of no bytes is the peer's half close.
    pub async fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        let ahead = std::mem::take(&mut *self.ahead());
        match ahead.is_empty() {
            true => self.receive(into).await,
            false => {
                into.extend(&ahead);
                Ok(ahead.len())
            }
        }
    }

    async fn receive(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            either!(&self.pipe, end => end.readable().await)?;
            match either!(&self.pipe, end => end.try_read_buf(into)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => {
                    self.ends.fetch_add(1, Ordering::Relaxed);
                    return Ok(0);
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.ends.store(2, Ordering::Relaxed);
                    return Ok(0);
                }
                read => return read,
            }
        }
    }

    /// See [`crate::stream::Stream::write`].
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.send(bytes).await?..];
        }
        Ok(())
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            either!(&self.pipe, end => end.writable().await)?;
            match either!(&self.pipe, end => end.try_write(bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    /// See [`crate::stream::Stream::finish`].
    pub async fn finish(&self) -> io::Result<()> {
        self.send(&[]).await.map(drop)
    }

    /// See [`crate::stream::Stream::closed`]. After a half close the pipe reads on, and a second end is the peer's last. What
    /// the peer sends before is kept; beyond a bound it is left to whoever reads.
    pub async fn closed(&self) -> io::Result<()> {
        while self.ends.load(Ordering::Relaxed) < 2 {
            let mut chunk = Vec::with_capacity(AHEAD_MAX);
            self.receive(&mut chunk).await?;
            self.ahead().extend(&chunk);
            if self.ahead().len() >= AHEAD_MAX {
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }

    /// See [`crate::stream::Stream::unread`]. A message is read whole by whoever reads it at all, and heads of raw streams are
    /// messages of their own, so there is nothing to wait for.
    pub fn unread(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn ahead(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(&mut self.pipe, end => Pin::new(end).poll_read(cx, into))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(&mut self.pipe, end => Pin::new(end).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.pipe, end => Pin::new(end).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(either!(&mut self.pipe, end => Pin::new(end).poll_write(cx, &[])))?;
        Poll::Ready(Ok(()))
    }
}

/// Where connections arrive, for [`crate::stream::Listener`]: the end that waits for the next client.
#[derive(Debug)]
pub struct Door {
    name: OsString,
    next: NamedPipeServer,
}

impl Door {
    /// See [`crate::stream::Listener::bind`].
    pub fn bind(path: &Path) -> io::Result<Door> {
        let name = pipe_name(path);
        let next = sys::windows::owner_pipe(&name, true)?;
        Ok(Door { name, next })
    }

    /// See [`crate::stream::Listener::accept`].
    pub async fn accept(&mut self) -> io::Result<Connection> {
        self.next.connect().await?;
        let next = sys::windows::owner_pipe(&self.name, false)?;
        Ok(Connection::new(Pipe::Server(std::mem::replace(&mut self.next, next))))
    }
}
