//! Kernel modules: a list before the engine starts, a longer one beside it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contract::paths::{INIT, MODULES, MODULES_BOOT, MODULES_LATE, MODULES_READY};
use rustix::io::Errno;
use sys::clone::StringArray;
use sys::start::Program;

use crate::messages::{chain, say};

use super::{BootError, Machine, root};

/// The only argument of the helper process that loads [`MODULES_LATE`].
pub const LATE: &str = "--late-modules";

/// Where the helper finds the writable root.
const ROOTFS_FD: RawFd = 3;

/// Loads [`MODULES_BOOT`].
pub fn load_boot(machine: &mut Machine) -> Result<(), BootError> {
    let rootfs = machine.rootfs.as_ref().map(AsFd::as_fd);
    list(MODULES_BOOT)?.iter().try_for_each(|module| load(module, rootfs))
}

/// How long an engine that does not say hello keeps the modules waiting: without them there is no power button.
const PATIENCE: Duration = Duration::from_secs(5);

/// The modules of [`MODULES_LATE`], on their way.
///
/// ```text
///   Waiting ── the engine says hello, or it takes too long ──► Loading ── the helper ends ──► Done
/// ```
///
/// Before that they would take the processor from the engine, whose first answer is waited for.
#[derive(Debug)]
pub enum Late {
    /// Until then at the latest; with the writable root.
    Waiting {
        /// See [`PATIENCE`].
        until: Instant,
        /// See [`Machine::rootfs`].
        rootfs: Option<OwnedFd>,
    },
    /// By this process.
    Loading(u32),
    /// All were tried.
    Done,
}

impl Late {
    /// Nothing is loaded yet.
    pub fn new(machine: &mut Machine, now: Instant) -> Late {
        Late::Waiting { until: now + PATIENCE, rootfs: machine.rootfs.take() }
    }

    /// When [`Late::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Late::Waiting { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| now >= until) {
            self.begin();
        }
    }

    /// The engine is far enough. Starts the helper: the kernel takes its time for each module, and the keeper must not
    /// wait.
    pub fn begin(&mut self) {
        let Late::Waiting { rootfs, .. } = self else { return };
        *self = match start_helper(rootfs.as_ref().map(AsFd::as_fd)) {
            Ok(pid) => Late::Loading(pid),
            Err(error) => {
                say!("cannot load kernel modules: {error}");
                ready();
                Late::Done
            }
        };
    }

    /// A process ended; whether it was the helper.
    pub fn ended(&mut self, pid: u32) -> bool {
        let ours = matches!(self, Late::Loading(helper) if *helper == pid);
        if ours {
            *self = Late::Done;
        }
        ours
    }
}

fn start_helper(rootfs: Option<BorrowedFd<'_>>) -> io::Result<u32> {
    let arguments = [INIT, LATE].map(|word| CString::new(word).expect("no NUL in a constant"));
    let path = arguments[0].clone();
    let fds: Vec<_> = rootfs.into_iter().map(|fd| (fd, ROOTFS_FD)).collect();
    let (arguments, environment) = (StringArray::new(arguments.into()), StringArray::new(Vec::new()));
    let program = Program { path: &path, arguments, environment, cgroup: None, fds: &fds };
    Ok(program.start()?.pid)
}

/// The helper: tries every module of [`MODULES_LATE`], then makes [`MODULES_READY`].
pub fn helper() {
    let rootfs: Option<OwnedFd> = sys::inherit::take(ROOTFS_FD);
    match list(MODULES_LATE) {
        Err(error) => say!("{}", chain(&error)),
        Ok(modules) => modules.iter().for_each(|module| {
            if let Err(error) = load(module, rootfs.as_ref().map(AsFd::as_fd)) {
                say!("{}", chain(&error));
            }
        }),
    }
    ready();
}

/// Makes [`MODULES_READY`]: whoever waits for modules need not wait any longer.
pub fn ready() {
    if let Err(error) = File::create(MODULES_READY) {
        say!("cannot write {MODULES_READY}: {error}");
    }
}

/// A line of a list.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    path: PathBuf,
    parameters: CString,
}

impl Module {
    /// A line that has a NUL, which no list has, is none.
    fn read(line: &str) -> Option<Module> {
        let (file, parameters) = line.split_once(' ').unwrap_or((line, ""));
        let parameters = CString::new(parameters).ok()?;
        (!file.is_empty()).then(|| Module { path: Path::new(MODULES).join(file), parameters })
    }
}

/// An image without a list has all it needs in the kernel.
fn list(path: &str) -> Result<Vec<Module>, BootError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(Module::read).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(BootError::Read { path: path.into(), source }),
    }
}

/// Loads one and gives the memory of its file back. ENODEV and EOPNOTSUPP: a driver without its device or its hypervisor,
/// which is no fault.
fn load(module: &Module, rootfs: Option<BorrowedFd<'_>>) -> Result<(), BootError> {
    let path = &module.path;
    let file = File::open(path).map_err(|source| BootError::Read { path: path.clone(), source })?;
    match rustix::system::finit_module(&file, &module.parameters, 0) {
        Ok(()) | Err(Errno::EXIST | Errno::NODEV | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(BootError::Module { path: path.clone(), source: error.into() }),
    }
    root::forget(rootfs, path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_list_are_read() {
        let check = |line: &str, expected: Option<(&str, &str)>| {
            let module = Module::read(line);
            let read = module
                .as_ref()
                .map(|module| (module.path.to_str().unwrap(), module.parameters.to_str().unwrap()));
            assert_eq!(read, expected);
        };
        check("veth.ko", Some(("/lib/modules/veth.ko", "")));
        check("dummy.ko numdummies=0", Some(("/lib/modules/dummy.ko", "numdummies=0")));
        check("", None);
        check(" x", None);
    }
}
