//! Further processes in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use contract::keeper::Exit;
use runtime::cgroup::Cgroup;
use runtime::launch::{Forerunner, Joined, Launched, Registration};
use runtime::stdio::{Ends, Stdio};
use runtime::user::{self, Identity};
use rustix::fs::OFlags;
use tokio::sync::{mpsc, watch};

use super::container::Container;
use super::driver::{acknowledge, exit_code};
use super::error::{ContainerError, EXEC_CREATE_PREFIX, EXEC_PREFIX};
use super::launch;
use super::legality::{Verb, permit};
use super::note::{Note, key};
use super::registry::{Containers, Shared};
use model::id::new_id;
use model::timestamp::Timestamp;
use process::{Chunk, Console, Sink};

/// What is to run: Docker's exec configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecConfig {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `user[:group]`; empty is the container's.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// The client will write.
    pub attach_stdin: bool,
    /// The client will read.
    pub attach_stdout: bool,
    /// The client will read.
    pub attach_stderr: bool,
    /// `KEY=value` words over the container's.
    pub env: Vec<String>,
    /// Absolute path; empty is the container's.
    pub working_dir: String,
    /// As given, for inspect.
    pub detach_keys: String,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// The engine's own, asking for the container's health.
    pub probe: bool,
}

/// Where an exec is in its life: Created → Running → Exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecState {
    /// Not started.
    Created,
    /// Being started.
    Starting,
    /// Runs.
    Running {
        /// In PID 1's namespace.
        pid: u32,
    },
    /// Over.
    Exited {
        /// As a shell tells it.
        exit_code: i32,
        /// While it ran.
        pid: u32,
    },
}

/// One exec.
#[derive(Debug)]
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Id of the container.
    pub container: String,
    /// What runs.
    pub config: ExecConfig,
    state: watch::Sender<ExecState>,
    console: Console,
    process: Mutex<Option<process::Running>>,
    /// It is killed as soon as it runs.
    doomed: AtomicBool,
}

/// The right to start an exec, which exists once.
pub struct ClaimedExec {
    exec: Arc<Exec>,
    container: Arc<Container>,
}

/// How long an exec can be inspected after its end, as dockerd keeps it.
const KEPT: Duration = Duration::from_secs(300);
/// How long after its end its output may still come, as dockerd waits: from what it left behind.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
/// Chunks a client may lag behind before the process's pipe fills.
const LAG: usize = 16;

impl Exec {
    /// The present state.
    pub fn state(&self) -> ExecState {
        self.state.borrow().clone()
    }

    /// Writes to the process's standard input.
    ///
    /// # Errors
    /// It closed its side or has ended.
    pub async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.console.stdin.write(bytes).await
    }

    /// Its exit code, once it has ended.
    pub fn exit_code(&self) -> Option<i32> {
        match self.state() {
            ExecState::Exited { exit_code, .. } => Some(exit_code),
            _ => None,
        }
    }

    /// Ends the process with SIGKILL, now or as soon as it runs.
    pub(super) fn kill(&self) {
        self.doomed.store(true, Ordering::SeqCst);
        if let Some(process) = self.process().as_ref()
            && let Err(error) = process.signal(9)
        {
            tracing::warn!(exec = self.id, %error, "cannot kill a process");
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<process::Running>> {
        self.process.lock().expect("no holder of the process panics")
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) {
        let mut states = self.state.subscribe();
        let _ = states.wait_for(|state| matches!(state, ExecState::Exited { .. })).await;
    }

    /// Changes the size of the terminal; waits a little for the process to be started.
    ///
    /// # Errors
    /// It does not run.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), ContainerError> {
        let mut states = self.state.subscribe();
        let started = states.wait_for(|state| !matches!(state, ExecState::Created | ExecState::Starting));
        let _ = tokio::time::timeout(Duration::from_secs(10), started).await;
        let resized =
            self.console.resize(rows, columns).map_err(ContainerError::machine("resize the terminal"))?;
        let text = || format!("exec {} is not running", self.id);
        resized.then_some(()).ok_or_else(|| ContainerError::Conflict(text()))
    }

    /// Claims the one start.
    fn claim(&self) -> Result<(), ContainerError> {
        let mut verdict = Ok(());
        self.state.send_modify(|state| match state {
            ExecState::Created => *state = ExecState::Starting,
            ExecState::Exited { .. } => {
                verdict = Err(ContainerError::Conflict(format!("exec command {} has already run", self.id)));
            }
            _ => {
                verdict =
                    Err(ContainerError::Conflict(format!("exec command {} is already running", self.id)));
            }
        });
        verdict
    }
}

impl Containers {
    /// Prepares an exec.
    ///
    /// # Errors
    /// The container does not run, the command is empty, or the user is not known in the container.
    pub async fn create_exec(&self, reference: &str, config: ExecConfig) -> Result<String, ContainerError> {
        let container = self.find(reference)?;
        if config.command.is_empty() {
            return Err(ContainerError::Invalid("No exec command specified".to_owned()));
        }
        permit(&container.snapshot().state, Verb::Exec, container.id())?;
        if !config.user.is_empty() {
            let (container, user) = (container.clone(), config.user.clone());
            let looking = tokio::task::spawn_blocking(move || find_user(&container, &user).map(drop));
            looking.await.unwrap_or_else(|_| Err(launch::panicked()))?;
        }
        let id = new_id();
        let shown = shown(&config.command);
        let exec = new_exec(id.clone(), container.id().to_owned(), config, ExecState::Created);
        self.shared.execs.lock().expect("no holder of the execs panics").insert(id.clone(), Arc::new(exec));
        self.publish(&container, &format!("exec_create: {shown}"), &[("execID", id.clone())]);
        Ok(id)
    }

    /// Takes the one start of an exec.
    ///
    /// # Errors
    /// It was started before, or the container does not run.
    pub fn claim_exec(&self, id: &str) -> Result<ClaimedExec, ContainerError> {
        let exec = self.find_exec(id)?;
        let container = self.find(&exec.container)?;
        permit(&container.snapshot().state, Verb::Exec, container.id())?;
        exec.claim()?;
        Ok(ClaimedExec { exec, container })
    }

    /// Starts a claimed exec; returns its output when its program was executed.
    ///
    /// # Errors
    /// [`ContainerError::Start`] with the runtime's words.
    pub async fn start_exec(
        &self,
        claimed: ClaimedExec,
        attach: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<mpsc::Receiver<Chunk>, ContainerError> {
        let containers = self.clone();
        // Goes on when the caller is dropped: what was begun must come to an end.
        let starting =
            tokio::spawn(async move { containers.begin_exec(claimed, attach, console_size).await });
        starting.await.unwrap_or_else(|_| Err(launch::panicked()))
    }

    async fn begin_exec(
        &self,
        claimed: ClaimedExec,
        attach: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<mpsc::Receiver<Chunk>, ContainerError> {
        let ClaimedExec { exec, container } = claimed;
        // Before its end can be told.
        container.execs.lock().expect("no holder of the exec ids panics").push(exec.id.clone());
        let (shared, born, of) = (self.shared.clone(), exec.clone(), container.clone());
        let started =
            process::launch(move || start_blocking(&shared, &of, &born, attach, console_size)).await;
        let started = started.unwrap_or_else(|| Err(launch::panicked()));
        let (pid, output) = match started.and_then(|started| self.connect_exec(&exec, started)) {
            Ok(connected) => connected,
            Err(error) => {
                let exit_code = match &error {
                    ContainerError::Start { exit_code, .. } => *exit_code,
                    _ => 126,
                };
                exec.state.send_replace(ExecState::Exited { exit_code, pid: 0 });
                leave(&container, &exec);
                self.forget_later(&exec);
                return Err(error);
            }
        };
        exec.state.send_replace(ExecState::Running { pid });
        let shown = shown(&exec.config.command);
        self.publish(&container, &format!("exec_start: {shown}"), &[("execID", exec.id.clone())]);
        Ok(output)
    }

    /// Its streams get their reader and its input. A process whose streams nobody can have is killed.
    fn connect_exec(
        &self,
        exec: &Arc<Exec>,
        (launched, ends): (Launched, Ends),
    ) -> Result<(u32, mpsc::Receiver<Chunk>), ContainerError> {
        let mut process = process::Running::new(launched.pid, Some(launched.pidfd));
        let (client, output) = mpsc::channel(LAG);
        let sink = Sink::Client(client.clone());
        let connected = process.connect(ends, &exec.console, sink, &self.shared.output);
        *exec.process() = Some(process);
        if connected.is_err() || exec.doomed.load(Ordering::SeqCst) {
            exec.kill();
        }
        connected.map_err(ContainerError::machine("open the exec's streams"))?;
        let ending = exec.clone();
        tokio::spawn(async move {
            // The client's stream ends with the process, not with its output: it may have closed its output early.
            ending.ended().await;
            drop(client);
        });
        Ok((launched.pid, output))
    }

    /// Publishes that the client of an exec left it by its keys.
    pub fn exec_detached(&self, exec: &Exec) {
        if let Ok(container) = self.find(&exec.container) {
            self.publish(&container, "exec_detach", &[("execID", exec.id.clone())]);
        }
    }

    /// The exec's process reads the end of its input. A terminal has none.
    pub async fn close_exec_stdin(&self, exec: &Exec) {
        if !exec.config.tty {
            exec.console.stdin.close();
            self.shed_stdin(&exec.id);
        }
    }

    /// The container's program reads the end of its input, as soon as it runs. A terminal has none.
    pub async fn close_stdin(&self, container: &Container) {
        if !container.record().config.tty {
            container.console.stdin.finish().await;
            self.shed_stdin(container.id());
        }
    }

    fn shed_stdin(&self, id: &str) {
        let Some(key) = key(id) else { return };
        if let Err(error) = self.shared.keeper.shed_stdin(key) {
            tracing::error!(process = id, %error, "cannot close a standard input");
        }
    }

    /// PID 1 says that an exec ended. Its output is waited for, so that inspect shows the end only after the
    /// client has read all.
    pub(super) fn exec_ended(&self, exec: Arc<Exec>, exit: Exit, pid: u32) {
        let containers = self.clone();
        tokio::spawn(async move {
            // The news may come before the start has done its part.
            let mut states = exec.state.subscribe();
            let _ = states.wait_for(|state| *state != ExecState::Starting).await;
            if matches!(exec.state(), ExecState::Exited { .. }) {
                // Its program could not be executed; its client was told why.
                return acknowledge(&containers.shared, &exec.id);
            }
            let output = exec.process().as_ref().map(|process| process.output.clone());
            if let Some(output) = output {
                // A client that reads slowly, or not at all, must not keep the end a secret.
                output.settle(OUTPUT_GRACE).await;
            }
            exec.state.send_replace(ExecState::Exited { exit_code: exit_code(exit.status), pid });
            exec.console.close();
            exec.process().take();
            acknowledge(&containers.shared, &exec.id);
            if let Ok(container) = containers.find(&exec.container) {
                leave(&container, &exec);
                let extra = [("execID", exec.id.clone()), ("exitCode", exit_code(exit.status).to_string())];
                containers.publish(&container, "exec_die", &extra);
            }
            containers.forget_later(&exec);
        });
    }

    fn forget_later(&self, exec: &Exec) {
        let (shared, id) = (self.shared.clone(), exec.id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            shared.execs.lock().expect("no holder of the execs panics").remove(&id);
        });
    }

    /// An exec that PID 1 still holds; its client went with the engine before this one.
    pub(super) async fn resume_exec(&self, id: String, note: &Note, pid: u32, ends: Option<Ends>) {
        let exec = new_exec(id, note.container.clone(), ExecConfig::default(), ExecState::Running { pid });
        let exec = Arc::new(exec);
        let mut process = process::Running::new(pid, process::pidfd(pid));
        if let Some(ends) = ends {
            // Nobody receives it.
            let sink = Sink::Client(mpsc::channel(1).0);
            if let Err(error) = process.connect(ends, &exec.console, sink, &self.shared.output) {
                tracing::warn!(exec = exec.id, %error, "the output of a running exec is not read");
            }
        }
        *exec.process() = Some(process);
        if note.probe {
            // Whoever asked is gone; the new engine asks anew.
            exec.kill();
        }
        if let Ok(container) = self.find(&exec.container) {
            container.execs.lock().expect("no holder of the exec ids panics").push(exec.id.clone());
        }
        self.shared.execs.lock().expect("no holder of the execs panics").insert(exec.id.clone(), exec);
    }
}

fn new_exec(id: String, container: String, config: ExecConfig, state: ExecState) -> Exec {
    Exec {
        id,
        container,
        config,
        state: watch::Sender::new(state),
        console: Console::default(),
        process: Mutex::new(None),
        doomed: AtomicBool::new(false),
    }
}

/// It is none of the container's running execs any more.
fn leave(container: &Container, exec: &Exec) {
    container.execs.lock().expect("no holder of the exec ids panics").retain(|id| *id != exec.id);
}

/// The words of a failed start, for an exec.
fn of_exec(error: ContainerError) -> ContainerError {
    match error {
        ContainerError::Start { cause, exit_code, registered, .. } => {
            ContainerError::Start { prefix: EXEC_PREFIX, cause, exit_code, registered }
        }
        other => other,
    }
}

/// What runc refuses of an exec, in its words.
fn check(config: &ExecConfig) -> Result<(), ContainerError> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(ContainerError::start(EXEC_CREATE_PREFIX, "Cwd must be an absolute path"));
    }
    match config.env.iter().find(|word| word.starts_with('=')) {
        Some(word) => Err(ContainerError::start(
            EXEC_PREFIX,
            format!("environment variable name can't be empty: {word:?}"),
        )),
        None => Ok(()),
    }
}

/// Who a process of a running container is to be, by the container's own files.
fn find_user(container: &Container, user: &str) -> Result<Identity, ContainerError> {
    let (_, _, root) = running_root(container)?;
    let groups = &container.record().host.group_add;
    user::resolve(root.as_fd(), user, groups).map_err(|error| ContainerError::Invalid(error.to_string()))
}

/// The first process of a running container, by number and descriptor, and its root folder.
fn running_root(container: &Container) -> Result<(u32, OwnedFd, OwnedFd), ContainerError> {
    let not_running = || ContainerError::Conflict(format!("container {} is not running", container.id()));
    let pid = container.snapshot().state.running().ok_or_else(not_running)?.pid;
    let process_id = rustix::process::Pid::from_raw(pid.cast_signed()).ok_or_else(not_running)?;
    let pidfd = rustix::process::pidfd_open(process_id, rustix::process::PidfdFlags::empty())
        .map_err(|_| not_running())?;
    // Its end may be on its way, and its number another's already: of the kernel's own processes, say.
    if !runtime::proc::is_in_cgroup(pid, container.id()).unwrap_or(false) {
        return Err(not_running());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    let root = rustix::fs::open(&root, flags, rustix::fs::Mode::empty()).map_err(|_| not_running())?;
    Ok((pid, pidfd, root))
}

fn start_blocking(
    shared: &Shared,
    container: &Container,
    exec: &Exec,
    attach: bool,
    console_size: Option<(u16, u16)>,
) -> Result<(Launched, Ends), ContainerError> {
    let record = container.record();
    let (pid, pidfd, root) = running_root(container)?;
    let cgroup = Cgroup::open(&shared.cgroup_of_first(&record, pid))
        .map_err(|error| ContainerError::machine("open the cgroup")(std::io::Error::other(error)))?;
    // It is made beside what follows.
    let forerunner = Forerunner::call(cgroup.fd()).map_err(|error| of_exec(launch::launch_error(error)))?;
    let config = &exec.config;
    check(config)?;
    let user = if config.user.is_empty() { &record.config.user } else { &config.user };
    let identity = user::resolve(root.as_fd(), user, &record.host.group_add)
        .map_err(|error| ContainerError::Invalid(error.to_string()))?;
    let ids = shared.ids(&record.host);
    let uid = ids.to_host(identity.ids.uid).map_err(|error| ContainerError::Invalid(error.to_string()))?;
    let stdio = if config.tty {
        let size = console_size.or(config.console_size);
        Stdio::terminal_in(root.as_fd(), uid, size, ids)
    } else if attach {
        Stdio::pipes(uid, config.attach_stdin)
    } else {
        Stdio::null()
    };
    let stdio = stdio.map_err(|error| of_exec(launch::start_error(error)))?;
    let process = launch::exec_process(&record, config, &identity)?;
    let note = Note {
        container: record.id.clone(),
        exec: true,
        probe: config.probe,
        started_at: Timestamp::now(),
        stdio: Note::number(stdio.kind()),
        endpoint: None,
    };
    let key = key(&exec.id).expect("an exec's id is made as 64 hexadecimal digits");
    let registration = Registration { socket: shared.keeper.fd(), key, note: note.encode() };
    let joined = Joined { pidfd: pidfd.as_fd(), ids };
    let launched = runtime::launch::enter(&process, &joined, &stdio, registration, forerunner)
        .map_err(|error| of_exec(launch::launch_error(error)))?;
    Ok((launched, stdio.into_ends()))
}

/// A command as events have it: like dockerd's, with a space behind a program that has no arguments.
fn shown(command: &[String]) -> String {
    let (program, arguments) =
        command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    format!("{program} {}", arguments.join(" "))
}
