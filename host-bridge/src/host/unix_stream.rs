//! Unix sockets, which Linux and macOS have in common.

use nix::sys::socket::{Shutdown, shutdown};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

/// Longest path of a socket (unix(7): `sun_path` with its final NUL).
pub const SOCKET_PATH_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// One connection, for [`crate::stream::Stream`].
#[derive(Debug)]
pub struct Connection(UnixStream);

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Connection {
        Connection(stream)
    }
}

impl Connection {
    /// See [`crate::stream::Stream::connect`].
    pub async fn connect(path: &Path) -> io::Result<Connection> {
        UnixStream::connect(path).await.map(Connection)
    }

    /// See [`crate::stream::Stream::read`].
    pub async fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            self.0.readable().await?;
            match self.0.try_read_buf(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// See [`crate::stream::Stream::write`].
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// See [`crate::stream::Stream::finish`].
    pub async fn finish(&self) -> io::Result<()> {
        Ok(shutdown(self.0.as_raw_fd(), Shutdown::Write)?)
    }

    /// See [`crate::stream::Stream::closed`].
    pub async fn closed(&self) -> io::Result<()> {
        super::hung_up(self.0.as_fd()).await
    }

    /// See [`crate::stream::Stream::unread`].
    pub fn unread(&self) -> io::Result<bool> {
        Ok(super::unread_bytes(self.0.as_fd())? > 0)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Where connections arrive, for [`crate::stream::Listener`].
#[derive(Debug)]
pub struct Door(UnixListener);

impl Door {
    /// See [`crate::stream::Listener::bind`]. The folder is its owner's alone, so no one slips in before the mode is set.
    pub fn bind(path: &Path) -> io::Result<Door> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Door(listener))
    }

    /// See [`crate::stream::Listener::accept`].
    pub async fn accept(&mut self) -> io::Result<Connection> {
        Ok(Connection(self.0.accept().await?.0))
    }
}

/// How docker's programs name the socket at this path.
pub fn docker_host(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// What lies where a socket shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtSocket {
    /// Nothing.
    Nothing,
    /// A socket to which nobody listens any more.
    Stale,
    /// A socket to which somebody listens.
    Live,
    /// Something else.
    Foreign,
}

/// Looks at the place of a socket.
pub fn at_socket(path: &Path) -> io::Result<AtSocket> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(AtSocket::Nothing),
        Err(error) => Err(error),
        Ok(meta) if !meta.file_type().is_socket() => Ok(AtSocket::Foreign),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => Ok(AtSocket::Live),
        Ok(_) => Ok(AtSocket::Stale),
    }
}
