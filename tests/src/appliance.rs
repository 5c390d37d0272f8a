//! The engine under test, booted once for a run, and the docker CLI pointed at it.

use crate::api::Client;
use crate::backend::Backend;
use crate::dockerd::Dockerd;
use crate::guard::Guard;
use crate::images::Image;
use crate::outcome::{Outcome, Program};
use crate::registry::Registry;
use crate::running::Running;
use crate::terminal::Terminal;
use crate::workspace::{build_folder, eventually};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The engine under test.
pub struct Appliance {
    /// Where it runs.
    pub backend: Backend,
    /// Folder given to `pinnace --dir`.
    pub dir: PathBuf,
    /// Where the API listens on this host.
    pub socket: PathBuf,
    /// How the appliance names this host.
    pub host_address: String,
    /// The registry it pulls from, once an image was asked for.
    registry: OnceLock<Registry>,
    pulled: Mutex<HashMap<String, Arc<OnceLock<String>>>>,
    _guard: Option<Guard>,
}

/// A container's name that no other test has; the container is removed when the name goes out of scope.
pub struct ContainerName {
    name: String,
    client: Client,
}

/// Private networks: the registry of the tests speaks plain HTTP on one of them.
const INSECURE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

impl Appliance {
    /// The one appliance of this run, booted by whoever asks first.
    pub fn shared() -> &'static Appliance {
        static SHARED: OnceLock<Appliance> = OnceLock::new();
        SHARED.get_or_init(|| match Backend::of_this_run() {
            Backend::Reference => Appliance::reference(),
            backend => Appliance::boot(backend, &test_dir(backend)),
        })
    }

    /// Boots one in `dir`; it is switched off when this process ends.
    pub fn boot(backend: Backend, dir: &Path) -> Appliance {
        Appliance::boot_with(backend, dir, &[])
    }

    /// The same, with more options for `pinnace up`.
    pub fn boot_with(backend: Backend, dir: &Path, options: &[&str]) -> Appliance {
        Appliance::boot_where(backend, dir, options, &[])
    }

    /// The same, with more of an environment.
    pub fn boot_where(
        backend: Backend,
        dir: &Path,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Appliance {
        Appliance::boot_by(pinnace(dir, "up"), backend, dir, options, environment)
    }

    /// The same on a host that asks the servers of `resolv_conf` for names: in a mount namespace where it is the host's own.
    pub fn boot_with_resolver(backend: Backend, dir: &Path, resolv_conf: &Path) -> Appliance {
        const UNDER: &str = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
        let (program, verb) = (program(), ["up".as_ref(), "--dir".as_ref(), dir.as_os_str()]);
        let up = Program::new("unshare", Duration::from_secs(300))
            .args(["--mount", "sh", "-c", UNDER].map(OsStr::new));
        let up = up.args([resolv_conf.as_os_str(), program.as_os_str()]).args(verb);
        Appliance::boot_by(up, backend, dir, &[], &[])
    }

    fn boot_by(
        up: Program,
        backend: Backend,
        dir: &Path,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Appliance {
        let program = program();
        let words = [&*program.to_string_lossy(), &*dir.to_string_lossy()];
        close_to_others(dir);
        let guard = Guard::new("", "\"$1\" down --dir \"$2\"", &words);
        let mut up = up.args(["--backend", backend.word(), "--no-context"]);
        up = up.args([OsStr::new("--image"), image_folder().as_os_str()]).args(options);
        up = environment.iter().fold(up, |up, (key, value)| up.env(key, value));
        up.args(INSECURE.iter().flat_map(|net| ["--insecure-registry", net])).within(300).run().succeeds();
        Appliance::running(backend, dir, Some(guard))
    }

    /// One that somebody else booted in `dir`, and will switch off.
    pub fn adopt(backend: Backend, dir: &Path) -> Appliance {
        Appliance::running(backend, dir, None)
    }

    /// The engine that `PINNACE_REFERENCE_SOCKET` names.
    pub fn reference() -> Appliance {
        let var = |key| std::env::var(key).unwrap_or_else(|_| panic!("{key} is not set"));
        let socket = PathBuf::from(var("PINNACE_REFERENCE_SOCKET"));
        let dir = test_dir(Backend::Reference);
        Appliance::at(Backend::Reference, &dir, socket, var("PINNACE_REFERENCE_HOST"), None)
    }

    /// A real dockerd, through the same clients.
    pub fn of_dockerd(dockerd: &Dockerd) -> Appliance {
        let (dir, socket) = (test_dir(Backend::Reference), dockerd.socket.clone());
        Appliance::at(Backend::Reference, &dir, socket, dockerd.host_address.to_owned(), None)
    }

    fn running(backend: Backend, dir: &Path, guard: Option<Guard>) -> Appliance {
        let status = status(dir);
        let text = |key: &str| {
            status[key].as_str().unwrap_or_else(|| panic!("pinnace status lacks {key}: {status}")).to_owned()
        };
        Appliance::at(backend, dir, text("socket").into(), text("host_address"), guard)
    }

    fn at(
        backend: Backend,
        dir: &Path,
        socket: PathBuf,
        host_address: String,
        guard: Option<Guard>,
    ) -> Appliance {
        std::fs::create_dir_all(dir.join("docker-config")).expect("the test folder can be written");
        let (registry, pulled) = (OnceLock::new(), Mutex::default());
        Appliance { backend, dir: dir.to_owned(), socket, host_address, registry, pulled, _guard: guard }
    }

    /// After this long something hangs.
    pub fn patience(&self) -> Duration {
        self.backend.patience()
    }

    /// `docker ARGS…` with nothing on standard input, to its end.
    #[track_caller]
    pub fn docker<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.docker_program(args).run()
    }

    /// `docker ARGS…`, fed with `input`.
    #[track_caller]
    pub fn docker_fed<'a>(
        &self,
        input: impl Into<Vec<u8>>,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Outcome {
        self.docker_program(args).fed(input).run()
    }

    /// `docker ARGS…` beside the test.
    pub fn docker_beside<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Running {
        Running::start(self.docker_program(args), self.patience())
    }

    /// `docker ARGS…` at a terminal of 24 rows and 80 columns.
    pub fn docker_at_terminal<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Terminal {
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        Terminal::start("docker", &args, &self.docker_env(), (24, 80), self.patience())
    }

    /// `docker ARGS…`, not started yet.
    pub fn docker_program<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Program {
        let program = Program::new("docker", self.patience()).args(args);
        self.docker_env().into_iter().fold(program, |program, (key, value)| program.env(&key, value))
    }

    /// The environment that points docker's clients to this appliance and nothing else.
    pub fn docker_env(&self) -> Vec<(String, String)> {
        let config = self.dir.join("docker-config").to_string_lossy().into_owned();
        let host = format!("unix://{}", self.socket.display());
        let pairs = [("DOCKER_HOST", host), ("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", String::new())];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The API without any client library.
    pub fn api(&self) -> Client {
        Client::unix(&self.socket, self.patience())
    }

    /// What `docker inspect` would show of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.api().get(&format!("/containers/{container}/json")).is(200).json()
    }

    /// Makes `/tmp/go` in a container whose command ends when it is there. Detached, because that end may kill what makes the
    /// file before it has ended by itself.
    #[track_caller]
    pub fn lets_go(&self, container: &str) {
        self.docker(["exec", "--detach", container, "touch", "/tmp/go"]).succeeds();
    }

    /// A name for a container of this test alone.
    pub fn name(&self, stem: &str) -> ContainerName {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        ContainerName { name: format!("{stem}-{}-{number}", std::process::id()), client: self.api() }
    }

    /// The registry, started by whoever asks first.
    pub fn registry(&self) -> &Registry {
        self.registry.get_or_init(|| Registry::start(&self.host_address))
    }

    /// Pulls an image once for the run, and tells its full name.
    pub fn image(&self, image: Image) -> String {
        let reference = self.registry().serves(image);
        let once =
            self.pulled.lock().expect("no test panics here").entry(reference.clone()).or_default().clone();
        once.get_or_init(|| {
            self.docker_program(["pull", "--quiet", &reference]).within(600).run().succeeds();
            reference
        })
        .clone()
    }

    /// The small image: one static busybox.
    pub fn busybox(&self) -> String {
        self.image(Image::Busybox)
    }

    /// Whether [`Appliance::kill_engine`] can work here, or why not.
    pub fn can_kill_engine(&self) -> Result<(), String> {
        match self.backend {
            Backend::Reference => Err("the reference engine is not ours to kill".to_owned()),
            Backend::Namespace => Ok(()),
            Backend::Qemu => {
                let outcome = self.docker([
                    "run",
                    "--rm",
                    "--privileged",
                    "--pid=host",
                    "--userns=host",
                    &self.busybox(),
                    "true",
                ]);
                let reason = || format!("no way to the guest's processes: {}", outcome.error());
                if outcome.code == 0 { Ok(()) } else { Err(reason()) }
            }
        }
    }

    /// Ends `engined` with SIGKILL, and returns when its successor answers.
    #[track_caller]
    pub fn kill_engine(&self) {
        let starts = || self.status()["guest"]["engine_starts"].as_u64();
        let before = starts();
        match self.backend {
            Backend::Qemu => self.kill_engine_from_inside(),
            _ => self.kill_engine_from_outside(),
        }
        eventually("the engine is started again", self.patience(), || (starts() > before).then_some(()));
        eventually("the API is back", self.patience(), || {
            let connection = self.api().try_connect().ok()?;
            connection
                .try_call(b"GET /_ping HTTP/1.1\r\nHost: test\r\n\r\n")
                .ok()?
                .starts_with("HTTP/1.1 200")
                .then_some(())
        });
    }

    fn kill_engine_from_outside(&self) {
        // It may just have died.
        if let Some(pid) = self.engine_process() {
            Program::new("kill", self.patience()).args(["-KILL", &pid]).run();
        }
    }

    /// The engine's process id on this machine: the child of PID 1, as this machine sees both.
    pub fn engine_process(&self) -> Option<String> {
        let init = self.status()["machine_pid"].as_u64()?;
        let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
        let name = |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        children.split_whitespace().find(|pid| name(pid).trim() == "engined").map(str::to_owned)
    }

    /// In a VM, only a container that asked for the machine's processes reaches the engine.
    fn kill_engine_from_inside(&self) {
        let script =
            "for p in /proc/[0-9]*; do test \"$(cat $p/comm)\" = engined && kill -KILL ${p#/proc/}; done";
        let args = [
            "run",
            "--rm",
            "--detach",
            "--privileged",
            "--pid=host",
            "--userns=host",
            &self.busybox(),
            "sh",
            "-c",
            script,
        ];
        self.docker(args);
    }

    /// What `pinnace status` says.
    pub fn status(&self) -> Value {
        status(&self.dir)
    }

    /// `pinnace VERB --dir DIR` of this appliance.
    pub fn pinnace(&self, verb: &str) -> Program {
        pinnace(&self.dir, verb)
    }
}

/// A folder that is open to others is refused.
fn close_to_others(dir: &Path) {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700)).expect("the folder is ours");
}

/// `pinnace VERB --dir DIR`.
pub fn pinnace(dir: &Path, verb: &str) -> Program {
    let args = [OsStr::new(verb), OsStr::new("--dir"), dir.as_os_str()];
    Program::new(program(), Duration::from_secs(120)).args(args)
}

/// Folder of the bootable image.
pub fn image_folder() -> PathBuf {
    std::env::var_os("PINNACE_IMAGE").map_or_else(|| build_folder("image"), PathBuf::from)
}

fn status(dir: &Path) -> Value {
    // Its exit code tells whether the API answers, which it does not while an engine is being started.
    let outcome = pinnace(dir, "status").args(["--format", "json"]).run();
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {outcome}"))
}

fn test_dir(backend: Backend) -> PathBuf {
    let given = std::env::var_os("PINNACE_TEST_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| build_folder(&format!("test/{}", backend.word())))
}

fn program() -> PathBuf {
    let given = std::env::var_os("PINNACE_BIN").map(PathBuf::from);
    given.unwrap_or_else(|| build_folder("..").join("target/release/pinnace"))
}

impl std::ops::Deref for ContainerName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for ContainerName {
    fn drop(&mut self) {
        // A test that fails because the engine is gone must not fail a second time here.
        if let Ok(connection) = self.client.try_connect() {
            let path = format!("/containers/{}?force=1&v=1", self.name);
            let request = format!("DELETE {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
            let _ = connection.try_call(request.as_bytes());
        }
    }
}
