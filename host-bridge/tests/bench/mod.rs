//! What the tests of bad input need: a folder of an appliance's own, tiny guests, and the look at what is left.

#![allow(clippy::unwrap_used, reason = "a helper of tests, where an unwrap is an assertion")]
#![allow(dead_code, reason = "each file of tests needs a part of it")]

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65534;

/// What a guest does as its first and only thing.
#[derive(Clone, Copy)]
pub enum Guest {
    /// Nothing, for ever.
    Silent,
    /// Writes SLP_EN to the chipset's PM1a control register, which SeaBIOS put at 0x604.
    PowersOff,
    /// Writes a full reset to port 0xcf9.
    Resets,
}

/// The folder of one appliance.
pub struct Bench {
    folder: tempfile::TempDir,
}

/// A `pinnace` that runs beside the test.
pub struct Beside(Child);

/// How a `pinnace` ended.
pub struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A file system too small for a disk, until it is dropped.
pub struct SmallFileSystem(tempfile::TempDir);

impl Bench {
    pub fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(bench.dir()).unwrap();
        bench.set_mode(0o700);
        std::fs::set_permissions(bench.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("place")
    }

    pub fn set_mode(&self, mode: u32) {
        std::fs::set_permissions(self.dir(), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn give_to_nobody(&self) {
        std::os::unix::fs::chown(self.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    }

    /// A folder with a program of this name, for the front of PATH.
    pub fn stand_in(&self, program: &str, script: &str) -> String {
        let folder = self.folder.path().join("stand-ins");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(program), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(folder.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
    }

    /// A PATH with a QEMU that takes its time to tell its version, which `up` asks before it boots.
    pub fn slow_qemu(&self) -> String {
        let script = "case \"$*\" in --version) sleep 2 ;; esac\nexec /usr/bin/qemu-system-x86_64 \"$@\"";
        self.stand_in("qemu-system-x86_64", script)
    }

    pub fn start_slow_up(&self, guest: Guest) -> Beside {
        let up = self.command("up").arg("--image").arg(self.image(guest)).args(&["--memory", "128M"]);
        up.args(&["--timeout", "60"]).env("PATH", &self.slow_qemu()).start()
    }

    /// Waits until a bridge has its lock, which is before it looks at what a boot needs.
    pub fn wait_for_bridge(&self) {
        self.until("a bridge", || self.dir().join("bridge.lock").exists());
        std::thread::sleep(Duration::from_millis(100));
    }

    /// An image whose kernel is a boot sector of a few bytes (Documentation/arch/x86/boot): the jump at 0x200, where the
    /// firmware enters, is the guest.
    pub fn image(&self, guest: Guest) -> PathBuf {
        let image = self.folder.path().join("image");
        std::fs::create_dir_all(&image).unwrap();
        std::fs::write(image.join("vmlinuz"), kernel(guest)).unwrap();
        std::fs::write(image.join("initramfs.zst"), [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0]).unwrap();
        image
    }

    pub fn command(&self, verb: &str) -> Verb {
        self.command_of(&program(), verb)
    }

    fn command_of(&self, program: &Path, verb: &str) -> Verb {
        let mut command = Command::new(program);
        command.arg(verb).env("PINNACE_DIR", self.dir()).stdin(Stdio::null());
        if verb == "up" {
            command.arg("--no-context");
        }
        Verb(command)
    }

    /// As a user without rights; nothing where the test itself is not root.
    pub fn as_nobody(&self, verb: &str) -> Option<Verb> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        // The build's folder may be closed to others.
        let program = self.folder.path().join("pinnace");
        std::fs::copy(self::program(), &program).unwrap();
        let mut verb = self.command_of(&program, verb);
        verb.0.uid(NOBODY).gid(NOBODY).env_remove("PINNACE_DIR").current_dir("/");
        Some(verb)
    }

    pub fn up(&self, guest: Guest, args: &[&str]) -> Outcome {
        self.up_from(&self.image(guest), args)
    }

    pub fn up_from(&self, image: &Path, args: &[&str]) -> Outcome {
        self.command("up").arg("--image").arg(image).args(&["--memory", "128M"]).args(args).run()
    }

    pub fn start_up(&self, guest: Guest, args: &[&str]) -> Beside {
        let image = self.image(guest);
        self.command("up").arg("--image").arg(image).args(&["--memory", "128M"]).args(args).start()
    }

    /// Nothing of an appliance is in its folder or among the processes.
    pub fn leaves_nothing(&self) {
        self.no_process_left();
        let names = std::fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().file_name());
        let sockets: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".sock")).collect();
        assert!(sockets.is_empty(), "left: {sockets:?}");
    }

    pub fn no_process_left(&self) {
        self.until("all processes are gone", || self.processes("").is_empty());
    }

    /// Waits for a process of this appliance.
    pub fn wait_for(&self, word: &str) -> u32 {
        self.until(word, || !self.processes(word).is_empty());
        self.processes(word)[0]
    }

    pub fn wait_until_booting(&self) {
        self.until("booting", || self.command("status").run().stdout.contains("is booting"));
        self.wait_for("qemu-system");
    }

    /// How many files a process may open.
    pub fn open_files(&self, pid: u32) -> String {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_ascii_whitespace().nth(3).unwrap().to_owned()
    }

    pub fn kill(&self, word: &str) {
        kill(self.wait_for(word));
    }

    /// The bridge has its order from stdin, so only its parent and its child tell which one it is.
    pub fn kill_bridge(&self) {
        let qemu = self.wait_for("qemu-system");
        let stat = std::fs::read_to_string(format!("/proc/{qemu}/stat")).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        kill(after_name.split_ascii_whitespace().nth(1).unwrap().parse().unwrap());
    }

    fn processes(&self, word: &str) -> Vec<u32> {
        let dir = self.dir().to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = |pid: &u32| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cmdline = String::from_utf8_lossy(&cmdline).into_owned();
            // The guard's words come before it has become QEMU.
            cmdline.contains(&dir) && cmdline.starts_with("/usr/bin/qemu") && cmdline.contains(word)
        };
        pids.filter(ours).collect()
    }

    fn until(&self, what: &str, mut met: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !met() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// 8 MiB; nothing where the test itself is not root.
    pub fn small_file_system(&self) -> Option<SmallFileSystem> {
        let folder = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=8m", "none"];
        let mounted = Command::new("mount").args(mount).arg(folder.path()).status().unwrap();
        mounted.success().then_some(SmallFileSystem(folder))
    }
}

impl SmallFileSystem {
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0.path()).status().unwrap();
    }
}

/// The program of this build, or another one to see what the tests say of it.
fn program() -> PathBuf {
    std::env::var_os("PINNACE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_pinnace").into(), PathBuf::from)
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn kernel(guest: Guest) -> Vec<u8> {
    let code: &[u8] = match guest {
        Guest::Silent => &[],
        Guest::PowersOff => &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef],
        Guest::Resets => &[0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee],
    };
    let mut bytes = vec![0; 4096];
    bytes[0x1f1] = 4;
    bytes[0x1fe..0x202].copy_from_slice(&[0x55, 0xaa, 0xeb, 0x66]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0c, 0x02]);
    bytes[0x211] = 1;
    // initrd_addr_max: QEMU refuses an initramfs it may not put anywhere.
    bytes[0x22c..0x230].copy_from_slice(&0x37ff_ffff_u32.to_le_bytes());
    bytes[0x268..0x268 + code.len()].copy_from_slice(code);
    bytes[0x268 + code.len()..][..2].copy_from_slice(&[0xeb, 0xfe]);
    bytes
}

/// A `pinnace` that is to be run.
pub struct Verb(Command);

impl Verb {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Verb {
        self.0.arg(arg);
        self
    }

    pub fn args(mut self, args: &[&str]) -> Verb {
        self.0.args(args);
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Verb {
        self.0.env(key, value);
        self
    }

    /// With this soft limit of open files.
    pub fn limited_to(self, files: u32) -> Verb {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -Sn {files}; exec \"$0\" \"$@\"")]);
        command.arg(self.0.get_program()).args(self.0.get_args()).stdin(Stdio::null());
        command.envs(self.0.get_envs().filter_map(|(key, value)| Some((key, value?))));
        Verb(command)
    }

    pub fn start(mut self) -> Beside {
        Beside(self.0.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn run(self) -> Outcome {
        self.start().end()
    }
}

impl Beside {
    pub fn end(mut self) -> Outcome {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Outcome { code: self.0.wait().unwrap().code(), stdout, stderr }
    }
}

impl Outcome {
    #[track_caller]
    pub fn succeeds(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
    }

    /// The last line is the error.
    #[track_caller]
    pub fn fails(&self, with: &str) {
        assert_ne!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(with), "{:?} lacks {with:?}", self.stderr);
    }

    #[track_caller]
    pub fn fails_in_one_line(&self, with: &str) {
        self.fails(with);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}", self.stderr);
    }

    #[track_caller]
    pub fn fails_saying_on_stdout(&self, with: &str) {
        assert_ne!(self.code, Some(0));
        assert!(self.stdout.contains(with), "{:?} lacks {with:?}", self.stdout);
    }
}
