//! One boot in namespaces.

use super::outside::{POWERED_OFF, Plan, RESET};
use super::traces::Traces;
use super::{OUTSIDE, cgroup, network};
use crate::backend::{BackendError, Ended, Link, Machine, Port};
use crate::console::Consoles;
use crate::guard;
use crate::host;
use crate::order::Order;
use crate::place::Place;
use crate::stream::Stream;
use contract::paths;
use futures_util::future::{BoxFuture, FutureExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A boot in namespaces.
pub struct NamespaceMachine {
    child: Child,
    words: Lines<BufReader<ChildStdout>>,
    pid: u32,
    ended: Option<Ended>,
    link: Arc<dyn Link>,
    host_address: Ipv4Addr,
    traces: Traces,
    place: Place,
}

/// Starts it; where that fails, nothing is left.
pub async fn start(
    order: &Order,
    place: &Place,
    root: &Path,
    consoles: &Consoles,
) -> Result<NamespaceMachine, BackendError> {
    let key = key(place);
    let mut traces = Traces::of(key);
    traces.note(place)?;
    let started = Start { order, place, root, consoles, key }.run(&mut traces).await;
    if started.is_err() {
        traces.remove(place);
    }
    started
}

/// Tells appliances on one host apart: four bytes of the digest of their folder.
fn key(place: &Place) -> u32 {
    let digest = Sha256::digest(place.dir().as_os_str().as_bytes());
    u32::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

struct Start<'a> {
    order: &'a Order,
    place: &'a Place,
    root: &'a Path,
    consoles: &'a Consoles,
    key: u32,
}

impl Start<'_> {
    async fn run(&self, traces: &mut Traces) -> Result<NamespaceMachine, BackendError> {
        let addresses = network::Plan::choose(self.key, &network::routes()?).ok_or_else(|| {
            BackendError::system("find a free network in 10.213.0.0/16")(io::ErrorKind::AddrInUse)
        })?;
        let group = cgroup::make(&traces.table)?;
        traces.cgroup = Some(group.clone());
        traces.note(self.place)?;
        let mut child = self.spawn()?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let mut words = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        tokio::spawn(self.consoles.main.clone().pump(child.stderr.take().expect("stderr is piped")));
        self.give_plan(&mut stdin, group, addresses).await?;
        expect(&mut words, "ready").await?;
        let outside = child.id().unwrap_or_default();
        self.connect(traces, addresses, outside)?;
        stdin.write_all(b"go\n").await.map_err(BackendError::system("start PID 1"))?;
        let pid = expect(&mut words, "pid").await?;
        let pid: u32 = pid.parse().map_err(|_| refused(format!("PID 1 is said to be {pid:?}")))?;
        Ok(NamespaceMachine {
            child,
            words,
            pid,
            ended: None,
            link: Arc::new(Sockets::of(pid)?),
            host_address: addresses.host(),
            traces: traces.clone(),
            place: self.place.clone(),
        })
    }

    fn spawn(&self) -> Result<Child, BackendError> {
        let mut command =
            Command::new(host::own_program().map_err(BackendError::system("find this program"))?);
        command.arg(OUTSIDE).args(guard::ties());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(BackendError::system("start a process"))
    }

    async fn give_plan(
        &self,
        stdin: &mut ChildStdin,
        cgroup: std::path::PathBuf,
        addresses: network::Plan,
    ) -> Result<(), BackendError> {
        let plan = Plan {
            root: self.root.to_owned(),
            data: self.place.data(),
            shares: self.order.shares.clone(),
            cgroup,
            words: self.order.namespace_settings(addresses.net()).words(),
        };
        let line = serde_json::to_string(&plan).expect("a plan is plain data") + "\n";
        stdin.write_all(line.as_bytes()).await.map_err(BackendError::system("give the plan"))
    }

    /// The way out is made before PID 1 runs. A host without nft still gives a way to itself.
    fn connect(&self, traces: &Traces, plan: network::Plan, pid: u32) -> Result<(), BackendError> {
        network::link(&traces.link, plan, pid)?;
        match network::masquerade(&traces.table, &traces.link, plan) {
            Ok(()) => network::forward(),
            Err(error) => {
                tracing::warn!("containers reach only this host: {error}");
                Ok(())
            }
        }
    }
}

fn refused(text: String) -> BackendError {
    BackendError::Tool { tool: "the namespaces' first process".to_owned(), text }
}

/// Reads the next line, which must begin with `word`, and returns the rest of it.
async fn expect(words: &mut Lines<BufReader<ChildStdout>>, word: &str) -> Result<String, BackendError> {
    let line = words.next_line().await.map_err(BackendError::system("hear of PID 1"))?;
    let line = line.ok_or_else(|| refused("it ended without a word".to_owned()))?;
    match line.strip_prefix(word) {
        Some(rest) => Ok(rest.trim().to_owned()),
        None => Err(refused(line.trim_start_matches("error ").to_owned())),
    }
}

impl NamespaceMachine {
    async fn hear_end(&mut self) -> Ended {
        let line = self.words.next_line().await.ok().flatten();
        match line.as_deref().and_then(|line| line.strip_prefix("ended ")) {
            Some(POWERED_OFF) => Ended::PoweredOff,
            Some(RESET) => Ended::Reset,
            Some(how) => Ended::Died(format!("PID 1 ended ({how})")),
            None => Ended::Died("the process beside PID 1 is gone".to_owned()),
        }
    }

    fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let pid = Pid::from_raw(i32::try_from(self.pid).unwrap_or(i32::MAX));
            // `outside` has not reaped it while its end was not told, so the number is still its own.
            let _ = kill(pid, signal);
        }
    }
}

impl Machine for NamespaceMachine {
    fn link(&self) -> Arc<dyn Link> {
        self.link.clone()
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn host_address(&self) -> Option<Ipv4Addr> {
        Some(self.host_address)
    }

    fn has_own_clock(&self) -> bool {
        false
    }

    fn wait(&mut self) -> BoxFuture<'_, Ended> {
        async move {
            if self.ended.is_none() {
                self.ended = Some(self.hear_end().await);
            }
            self.ended.clone().expect("it was set above")
        }
        .boxed()
    }

    fn press_power_button(&mut self) -> BoxFuture<'_, ()> {
        async move { self.signal(Signal::SIGTERM) }.boxed()
    }

    fn destroy(&mut self) -> BoxFuture<'_, ()> {
        async move {
            // The kernel ends every process of a pid namespace with its PID 1.
            self.signal(Signal::SIGKILL);
            if let Err(error) = self.child.wait().await {
                tracing::warn!("cannot wait for the namespaces' end: {error}");
            }
            self.traces.remove(&self.place);
        }
        .boxed()
    }
}

/// The guest's sockets, through PID 1's root.
struct Sockets {
    /// /proc/PID, opened: it stays with this process and never leads to another one with the same number.
    process: File,
}

impl Sockets {
    fn of(pid: u32) -> Result<Sockets, BackendError> {
        let process = File::open(format!("/proc/{pid}")).map_err(BackendError::system("find PID 1"))?;
        Ok(Sockets { process })
    }
}

impl Link for Sockets {
    fn dial(&self, port: Port) -> BoxFuture<'_, io::Result<Stream>> {
        let path = match port {
            Port::Api => paths::DOCKER_SOCKET,
            Port::Control => paths::CONTROL_SOCKET,
            Port::Door => paths::DOOR_SOCKET,
            Port::Carrier => paths::CARRIER_SOCKET,
        };
        let path = format!("/proc/self/fd/{}/root{path}", self.process.as_raw_fd());
        async move {
            Stream::connect(Path::new(&path)).await.map_err(|error| match error.kind() {
                // Not made yet.
                io::ErrorKind::NotFound => io::ErrorKind::ConnectionRefused.into(),
                _ => error,
            })
        }
        .boxed()
    }
}
