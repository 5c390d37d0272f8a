//! One boot of `init` in namespaces, seen from outside.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use contract::line::{Answer, EVENTS, FromGuest, Hello, Status};

const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the root tree the root and becomes init. The test's own libraries are lent by bind mounts.
const ENTER: &str = r#"
set -e
echo 0 > "$CGROUP/cgroup.procs"
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
for folder in bin lib lib64 usr; do
    if [ -d "/$folder" ]; then mkdir -p "$ROOT/$folder"; mount --rbind "/$folder" "$ROOT/$folder"; fi
done
cd "$ROOT"
pivot_root . mnt
exec unshare --cgroup /bin/sh -c 'umount -l /mnt; exec /init "$@"' init "$@"
"#;

/// How PID 1 ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    PoweredOff,
    Restarted,
    Exit(i32),
    Other(i32),
}

pub struct Appliance {
    folder: tempfile::TempDir,
    cgroup: PathBuf,
    unshare: Child,
    init: u32,
}

impl Appliance {
    /// A boot whose engine answers; `None` where this machine cannot.
    pub fn start(words: &[&str]) -> Option<Appliance> {
        Some(Appliance::start_unchecked(words)?.up())
    }

    /// One whose console is a small pipe that nobody reads.
    pub fn start_unheard() -> Option<(Appliance, std::io::PipeReader)> {
        let (read, write) = std::io::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&write, 4096).unwrap();
        Some((Appliance::boot(&[], &[], Some(write))?.up(), read))
    }

    fn up(self) -> Appliance {
        let appliance = self.with_init();
        appliance.ask("held");
        appliance
    }

    /// One that can be asked, though its engine may not be there.
    pub fn with_init(mut self) -> Appliance {
        self.init = self.find_init();
        self
    }

    pub fn start_unchecked(words: &[&str]) -> Option<Appliance> {
        Appliance::boot(words, &[], None)
    }

    /// A boot from a root tree that lacks a folder, with a file in its place.
    pub fn start_without(folder: &'static str) -> Option<Appliance> {
        Appliance::boot(&[], &[folder], None)
    }

    fn boot(words: &[&str], missing: &[&str], pipe: Option<std::io::PipeWriter>) -> Option<Appliance> {
        let cgroup2 = cgroup2()?;
        let folder = tempfile::tempdir().unwrap();
        let cgroup = cgroup2.join(format!("pinnace-test-{}", folder.path().file_name().unwrap().display()));
        fs::create_dir(&cgroup).unwrap();
        let root = folder.path().join("root");
        root_tree(&root, missing);
        let console = match pipe {
            Some(pipe) => std::os::fd::OwnedFd::from(pipe),
            None => fs::File::create(folder.path().join("console")).unwrap().into(),
        };
        let unshare = Command::new("unshare")
            .args([
                "--pid",
                "--mount",
                "--net",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                ENTER,
                "sh",
            ])
            .args(["backend=namespace", "net=none"])
            .args(words)
            .env("ROOT", &root)
            .env("CGROUP", &cgroup)
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        Some(Appliance { folder, cgroup, unshare, init: 0 })
    }

    /// The only child of `unshare`.
    fn find_init(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        self.until("init to be there", || fs::read_to_string(&children).ok()?.trim().parse().ok())
    }

    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "waited for {what}; console:\n{}", self.console());
            sleep(Duration::from_millis(10));
        }
    }

    /// PID 1, as this machine sees it.
    pub fn init(&self) -> u32 {
        self.init
    }

    pub fn console(&self) -> String {
        fs::read_to_string(self.folder.path().join("console")).unwrap_or_default()
    }

    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    pub fn connect(&self) -> UnixStream {
        let stream =
            self.until("the API socket", || UnixStream::connect(self.inside("/run/docker.sock")).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One line to the fake engine, one line back.
    pub fn ask(&self, line: &str) -> String {
        self.ask_on(self.connect(), line)
    }

    pub fn ask_on(&self, mut stream: UnixStream, line: &str) -> String {
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap_or_else(|error| {
            panic!("no answer to {line}: {error}; console:\n{}", self.console());
        });
        answer.trim_end().to_owned()
    }

    /// One line to the fake engine without waiting.
    pub fn tell(&self, line: &str) {
        writeln!(self.connect(), "{line}").unwrap();
    }

    /// One request on the control line, one answer.
    pub fn control(&self, request: &str) -> String {
        self.control_bytes(format!("{request}\n").as_bytes())
    }

    pub fn control_socket(&self) -> UnixStream {
        self.until("the control socket", || {
            UnixStream::connect(self.inside(contract::paths::CONTROL_SOCKET)).ok()
        })
    }

    /// A control line on which both sides said hello.
    pub fn greeted(&self) -> BufReader<UnixStream> {
        let mut stream = self.control_socket();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(Hello::ours(EVENTS).encode().as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut hello = String::new();
        lines.read_line(&mut hello).unwrap();
        assert!(matches!(FromGuest::decode(&hello), Ok(FromGuest::Hello(_))), "{hello}");
        lines
    }

    /// A request with the bytes that belong to it.
    pub fn control_bytes(&self, bytes: &[u8]) -> String {
        let mut lines = self.greeted();
        lines.get_mut().write_all(&[b"7 ", bytes].concat()).unwrap();
        let answer =
            lines.lines().map(Result::unwrap).find(|line| !line.starts_with("event ")).expect("an answer");
        format!("{}\n", answer.strip_prefix("7 ").unwrap_or_else(|| panic!("answered {answer:?}")))
    }

    /// The engine's process id (inside) and how often it was started.
    pub fn status(&self) -> (u32, u32) {
        match FromGuest::decode(&self.control("status")) {
            Ok(FromGuest::Answer {
                answer: Answer::Status(Status { engine_pid, engine_starts, .. }),
                ..
            }) => (engine_pid, engine_starts),
            other => panic!("no status: {other:?}"),
        }
    }

    pub fn engine_pid(&self) -> u32 {
        self.until("an engine", || Some(self.status().0).filter(|pid| *pid != 0))
    }

    /// SIGKILL, and waits for the next one.
    pub fn kill_engine(&mut self) {
        let starts = self.status().1;
        self.end_engine();
        self.wait_for_start(starts + 1);
    }

    pub fn wait_for_start(&self, starts: u32) {
        self.until("the next engine", || (self.status().1 >= starts).then_some(()));
    }

    /// SIGKILL, by a program inside the pid namespace, where the number means what `init` means by it; returns when that
    /// engine takes no more connections.
    pub fn end_engine(&self) {
        let pid = self.engine_pid();
        self.run_inside(&["kill", "-KILL", &pid.to_string()]);
        self.until("the engine's end", || Some(()).filter(|()| self.status().0 != pid));
    }

    /// SIGSTOP: from now on the engine hears nothing.
    pub fn stop_engine(&self) {
        let pid = self.engine_pid().to_string();
        self.run_inside(&["kill", "-STOP", &pid]);
        let status = self.inside(&format!("/proc/{pid}/status"));
        self.until("the engine to stand still", || {
            fs::read_to_string(&status).ok().filter(|status| status.contains("\nState:\tT")).map(drop)
        });
    }

    fn run_inside(&self, command: &[&str]) {
        let target = self.init.to_string();
        let status =
            Command::new("nsenter").args(["-t", &target, "-p", "-m"]).args(command).status().unwrap();
        assert!(status.success(), "{command:?}");
    }

    pub fn signal_init(&self, signal: &str) {
        let status =
            Command::new("kill").arg(format!("-{signal}")).arg(self.init.to_string()).status().unwrap();
        assert!(status.success());
    }

    /// `unshare` ends as its child did: with its code, or by the same signal.
    pub fn wait(&mut self) -> Ended {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.unshare.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it goes on; console:\n{}", self.console());
            sleep(Duration::from_millis(10));
        };
        match (status.signal(), status.code()) {
            (Some(2), _) => Ended::PoweredOff,
            (Some(1), _) => Ended::Restarted,
            (None, Some(code)) => Ended::Exit(code),
            (signal, _) => Ended::Other(signal.unwrap_or(0)),
        }
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if std::thread::panicking() {
            println!("console:\n{}", self.console());
        }
        remove_cgroups(&self.cgroup);
    }
}

/// A killed pid namespace takes a moment to be empty.
fn remove_cgroups(cgroup: &Path) {
    let end = Instant::now() + PATIENCE;
    while cgroup.exists() && Instant::now() < end {
        for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                remove_cgroups(&entry.path());
            }
        }
        if fs::remove_dir(cgroup).is_err() {
            sleep(Duration::from_millis(10));
        }
    }
}

/// Where cgroup2 is mounted, if this machine can run the tests at all.
fn cgroup2() -> Option<PathBuf> {
    let root = fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let found =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line[2] == "cgroup2");
    match found {
        Some(line) if root => Some(PathBuf::from(line[1])),
        _ => {
            skip::note!("needs root and cgroup2");
            None
        }
    }
}

/// The folders of an image, `init`, and this executable behind a script as `engined`.
fn root_tree(root: &Path, missing: &[&str]) {
    for folder in ["dev", "etc", "mnt", "proc", "run", "sbin", "sys", "tmp", "var/lib/pinnace"] {
        if missing.contains(&folder) {
            fs::write(root.join(folder), "").unwrap();
        } else {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
    }
    fs::copy(env!("CARGO_BIN_EXE_init"), root.join("init")).unwrap();
    fs::copy(std::env::current_exe().unwrap(), root.join("sbin/fake")).unwrap();
    let script = format!(
        "#!/bin/sh\n{}=1 exec /sbin/fake --exact engine_for_the_others --nocapture\n",
        super::engine::MARK
    );
    let engined = root.join("sbin/engined");
    fs::write(&engined, script).unwrap();
    fs::set_permissions(&engined, fs::Permissions::from_mode(0o755)).unwrap();
}
