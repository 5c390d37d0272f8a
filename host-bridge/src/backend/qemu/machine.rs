//! One QEMU process.

use super::PROGRAM;
use super::pause;
use super::qmp::Qmp;
use super::vsock::{self, VsockDoor};
use crate::backend::{BackendError, Ended, Link, Machine, Port};
use crate::console::Consoles;
use crate::guard;
use crate::host;
use crate::place::Place;
use crate::shares;
use crate::stream::Stream;
use contract::vsock::{API_PORT, CARRIER_PORT, CONTROL_PORT, DOOR_PORT};
use futures_util::future::{BoxFuture, FutureExt};
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// QEMU's user network gives the host this address.
const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// QEMU calls back within milliseconds; a host that is swapping may take longer.
const CALLBACK_DEADLINE: Duration = Duration::from_secs(30);
/// After this a QEMU that was told to quit is killed.
const QUIT_DEADLINE: Duration = Duration::from_secs(3);

/// What one start needs.
pub struct Launch<'a> {
    /// QEMU.
    pub program: &'a Path,
    /// Its command line.
    pub args: Vec<OsString>,
    /// The appliance's folder.
    pub place: &'a Place,
    /// Where the guest's words go.
    pub consoles: &'a Consoles,
    /// The data disk's file.
    pub disk: &'a Path,
    /// Folders of this host for the guest.
    pub shares: &'a [PathBuf],
}

/// A running QEMU.
pub struct QemuMachine {
    child: Child,
    /// Serves the host's folders, where there are any.
    folders: Option<Child>,
    changes: watch::Receiver<u64>,
    pid: u32,
    qmp: Qmp,
    vsock: VsockDoor,
    pauses: watch::Receiver<Option<String>>,
    complaints: Complaints,
}

impl Launch<'_> {
    /// Starts QEMU and waits until its monitor answers, which is before the guest's first instruction.
    pub async fn start(self) -> Result<QemuMachine, BackendError> {
        let bind = |path: &Path| {
            // Left by a boot before this one; a live one would hold the bridge's lock.
            let _ = std::fs::remove_file(path);
            UnixListener::bind(path).map_err(BackendError::system(format!("bind {}", path.display())))
        };
        let monitor = bind(&self.place.qmp_socket())?;
        let console = bind(&self.place.console_socket())?;
        let path = self.place.vsock_socket();
        let _ = std::fs::remove_file(&path);
        let vsock = vsock::serve(&path).map_err(BackendError::system("serve the vsock device"))?;
        let (count, changes) = watch::channel(0);
        let folders = self.serve_folders(count)?;
        let mut child = self.spawn()?;
        let complaints = Complaints::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(complaints.clone().collect(stderr));
        }
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(self.consoles.serial.clone().pump(stdout));
        }
        let main = self.consoles.main.clone();
        tokio::spawn(async move {
            if let Ok((stream, _)) = console.accept().await {
                main.pump(stream).await;
            }
        });
        let qmp = greeting(&monitor, &mut child, &complaints).await?;
        let pid = child.id().unwrap_or_default();
        let (tell, pauses) = watch::channel(None);
        let (monitor, disk) = (qmp.clone(), self.disk.to_owned());
        tokio::spawn(async move { pause::watch(monitor, &disk, tell).await });
        Ok(QemuMachine { child, folders, changes, pid, qmp, vsock, pauses, complaints })
    }

    /// Starts the server of the host's folders; QEMU finds its socket listening. `changes` counts when it says that there are some.
    fn serve_folders(&self, changes: watch::Sender<u64>) -> Result<Option<Child>, BackendError> {
        if self.shares.is_empty() {
            return Ok(None);
        }
        let path = self.place.folders_socket();
        let _ = std::fs::remove_file(&path);
        let socket = std::os::unix::net::UnixListener::bind(&path)
            .map_err(BackendError::system(format!("bind {}", path.display())))?;
        let program = host::own_program().map_err(BackendError::system("find this program"))?;
        let mut command = Command::new(&program);
        command.args(guard::words()).arg(&program).arg(shares::SUBCOMMAND).arg("--").args(self.shares);
        command.stdin(OwnedFd::from(socket)).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child =
            command.spawn().map_err(BackendError::system("start the server of the host's folders"))?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log_lines(stderr));
        }
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(count_bytes(stdout, changes));
        }
        Ok(Some(child))
    }

    fn spawn(&self) -> Result<Child, BackendError> {
        let mut command =
            Command::new(host::own_program().map_err(BackendError::system("find this program"))?);
        command.args(guard::words()).arg(self.program).args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(BackendError::system(format!("start {PROGRAM}")))
    }
}

/// Waits for the monitor's call or for the end of a QEMU that did not like its command line.
async fn greeting(
    monitor: &UnixListener,
    child: &mut Child,
    complaints: &Complaints,
) -> Result<Qmp, BackendError> {
    let greeted = async {
        let (stream, _) = monitor.accept().await?;
        Qmp::greet(stream).await
    };
    let silent = || BackendError::Qemu { text: "its monitor does not answer".to_owned() };
    tokio::select! {
        greeted = tokio::time::timeout(CALLBACK_DEADLINE, greeted) => match greeted {
            Ok(Ok(qmp)) => Ok(qmp),
            // It closed the monitor because it is ending.
            Ok(Err(_)) => Err(refusal(child, complaints).await),
            Err(_) => Err(silent()),
        },
        _ = child.wait() => Err(refusal(child, complaints).await),
    }
}

async fn refusal(child: &mut Child, complaints: &Complaints) -> BackendError {
    let status = tokio::time::timeout(QUIT_DEADLINE, child.wait()).await;
    // What it wrote is in the pipe, and its reader may be a moment behind.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let text = complaints.last().unwrap_or_else(|| match status {
        Ok(Ok(status)) => status.to_string(),
        _ => "no message".to_owned(),
    });
    BackendError::Qemu { text }
}

impl Machine for QemuMachine {
    fn link(&self) -> Arc<dyn Link> {
        Arc::new(self.vsock.clone())
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn host_address(&self) -> Option<Ipv4Addr> {
        Some(HOST_ADDRESS)
    }

    fn has_own_clock(&self) -> bool {
        true
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.folders.is_some().then(|| self.changes.clone())
    }

    fn pauses(&self) -> Option<watch::Receiver<Option<String>>> {
        Some(self.pauses.clone())
    }

    fn wait(&mut self) -> BoxFuture<'_, Ended> {
        async move {
            let status = tokio::select! {
                status = self.child.wait() => status,
                Some(status) = ends(&mut self.folders) => {
                    return Ended::Died(format!("the server of the host's folders ended ({status}; see bridge.log)"));
                }
                () = deaf(&self.vsock) => return Ended::Died("its vsock device ended (see bridge.log)".to_owned()),
            };
            // The monitor's last words are in its socket, and their reader may be a moment behind.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let heard = self.qmp.heard().borrow().clone();
            ended(status, heard.ending.as_deref(), self.complaints.last())
        }
        .boxed()
    }

    fn press_power_button(&mut self) -> BoxFuture<'_, ()> {
        async move {
            if let Err(error) = self.qmp.power_button().await {
                tracing::warn!("QEMU's monitor does not take the power button: {error}");
            }
        }
        .boxed()
    }

    fn destroy(&mut self) -> BoxFuture<'_, ()> {
        async move {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            // A monitor that is gone leaves the signal.
            let _ = self.qmp.quit().await;
            if tokio::time::timeout(QUIT_DEADLINE, self.child.wait()).await.is_err()
                && let Err(error) = self.child.kill().await
            {
                tracing::warn!("cannot kill QEMU: {error}");
            }
        }
        .boxed()
    }
}

/// Waits until the server of the host's folders has ended although QEMU runs; one that is not there never does.
async fn ends(folders: &mut Option<Child>) -> Option<ExitStatus> {
    let status = folders.as_mut()?.wait().await.ok()?;
    tokio::time::sleep(QUIT_DEADLINE).await;
    Some(status)
}

async fn count_bytes(mut from: impl AsyncRead + Unpin, count: watch::Sender<u64>) {
    let mut bytes = [0; 64];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        count.send_modify(|count| *count += length as u64);
    }
}

async fn log_lines(from: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::warn!("folders: {line}");
    }
}

/// Waits until the guest can be reached by nobody any more although QEMU runs: its own end closes the device, too.
async fn deaf(vsock: &VsockDoor) {
    vsock.ended().await;
    tokio::time::sleep(QUIT_DEADLINE).await;
}

/// `-no-reboot` makes QEMU end when the guest resets; the monitor's last word tells why it ended.
fn ended(status: io::Result<ExitStatus>, cause: Option<&str>, complaint: Option<String>) -> Ended {
    match (status, cause) {
        (Ok(status), Some("guest-shutdown")) if status.success() => Ended::PoweredOff,
        (Ok(status), Some("guest-reset")) if status.success() => Ended::Reset,
        (Ok(status), Some("host-qmp-quit")) if status.success() => Ended::PoweredOff,
        (Ok(status), _) => {
            let text = complaint.map(|text| format!(": {text}")).unwrap_or_default();
            Ended::Died(format!("QEMU ended ({status}){text}"))
        }
        (Err(error), _) => Ended::Died(format!("QEMU is lost: {error}")),
    }
}

/// What QEMU says on stderr: all of it goes to the log, its last line explains failures.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<Option<String>>>);

impl Complaints {
    async fn collect(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::warn!("qemu: {line}");
            let line = line.trim_start_matches(&format!("{PROGRAM}: ")).to_owned();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        }
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn number(port: Port) -> u32 {
    match port {
        Port::Api => API_PORT,
        Port::Control => CONTROL_PORT,
        Port::Door => DOOR_PORT,
        Port::Carrier => CARRIER_PORT,
    }
}

impl Link for VsockDoor {
    fn dial(&self, port: Port) -> BoxFuture<'_, io::Result<Stream>> {
        async move { Ok(UnixStream::from_std(self.dial(number(port)).await?)?.into()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_monitor_tells_how_it_ended() {
        let good = || Ok(ExitStatus::from_raw(0));
        assert_eq!(ended(good(), Some("guest-shutdown"), None), Ended::PoweredOff);
        assert_eq!(ended(good(), Some("guest-reset"), None), Ended::Reset);
        let killed = ended(Ok(ExitStatus::from_raw(9)), Some("guest-shutdown"), Some("oops".into()));
        assert_eq!(killed, Ended::Died("QEMU ended (signal: 9 (SIGKILL)): oops".into()));
        assert_eq!(ended(good(), None, None), Ended::Died("QEMU ended (exit status: 0)".into()));
    }
}
