//! From a [`Spec`] to the list of steps: pure, so that it is tested without root.

use std::ffi::CString;
use std::path::PathBuf;

use rustix::process::{Gid, Resource};
use rustix::thread::LinkNameSpaceType;
use sys::clone::{CloneFlags, StringArray};
use sys::mounts::MountAttributes;

use super::spec::{BindMount, Device, Join, Process, Rlimit, Shm, Spec, TmpfsMount, VolumeKind};
use super::step::Step;

/// Where PID 1's socket and the stdio descriptors stand in the list of files.
pub(super) const SOCKET: usize = 0;
pub(super) const STDIO: [usize; 3] = [1, 2, 3];
/// The root file system's detached mount, or a pidfd for a further process.
pub(super) const ROOT: usize = 4;
/// First descriptor of the plan's own sources.
const FIRST_SOURCE: usize = 5;

/// Something that becomes a file descriptor before the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A tmpfs with the device nodes.
    Dev {
        /// Beyond the default ones.
        devices: Vec<Device>,
        /// A console is bound.
        terminal: bool,
    },
    /// The devpts instance that the terminal, if any, was opened from.
    DevPts,
    /// A tmpfs.
    Tmpfs(TmpfsMount),
    /// A detached copy of a file or folder.
    Bind(BindMount),
    /// The mount that the spec gives as [`Shm::Mount`].
    Shm,
    /// The engine's own message queues.
    Mqueue,
}

/// A path in the root that must exist before something is attached there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountPoint {
    /// Absolute path in the container.
    pub path: String,
    /// Source that tells whether it is a file or a folder; `None` is a folder.
    pub like: Option<PathBuf>,
}

/// What to prepare and which steps to walk.
#[derive(Debug)]
pub(super) struct Plan {
    /// Become descriptors in this order.
    pub sources: Vec<Source>,
    /// Made in the root before the clone.
    pub mount_points: Vec<MountPoint>,
    /// Walked first, by a process that then makes the new one in the user namespace it has entered. Without any there is
    /// no such process.
    pub outside: Vec<Step>,
    /// Walked by the new process.
    pub steps: Vec<Step>,
    /// New namespaces.
    pub flags: CloneFlags,
    /// Namespace files of the spec follow the sources; which spec field each is.
    pub joins: Vec<JoinField>,
}

/// Which namespace of [`super::Namespaces`] a file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinField {
    /// User and group ids.
    User,
    /// Process ids.
    Pid,
    /// Network.
    Net,
    /// IPC.
    Ipc,
    /// Host name.
    Uts,
}

/// A string with a NUL inside cannot be given to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} contains a NUL byte")]
pub struct NulInside {
    /// The text.
    pub text: String,
}

fn c(text: &str) -> Result<CString, NulInside> {
    CString::new(text).map_err(|_| NulInside { text: text.to_owned() })
}

impl Plan {
    /// The plan of a new container.
    ///
    /// # Errors
    /// A string of the spec has a NUL byte.
    pub fn compile(spec: &Spec, message: Vec<u8>, riders: usize) -> Result<Plan, NulInside> {
        let mut plan = Plan {
            sources: Vec::new(),
            mount_points: Vec::new(),
            outside: Vec::new(),
            steps: Vec::with_capacity(64),
            flags: CloneFlags::PARENT.and(CloneFlags::NEWNS),
            joins: Vec::new(),
        };
        plan.enter_user_namespace(spec);
        plan.namespaces(spec);
        plan.steps.push(Step::EnterRoot { file: ROOT });
        plan.default_mounts(spec)?;
        plan.steps.push(Step::LeaveOldRoot);
        plan.volumes(spec)?;
        plan.surroundings(spec)?;
        if plan.outside.is_empty() {
            plan.steps.extend(limits(&spec.process));
        }
        plan.process(&spec.process, message, riders, spec.namespaces.user.is_some())?;
        Ok(plan)
    }

    /// The plan of a further process in a container, whose first process is behind the descriptor at `ROOT`; `mapped`
    /// where it has a user namespace.
    ///
    /// # Errors
    /// A string has a NUL byte.
    pub fn enter(
        process: &Process,
        mapped: bool,
        message: Vec<u8>,
        riders: usize,
    ) -> Result<Plan, NulInside> {
        let mut plan = Plan {
            sources: Vec::new(),
            mount_points: Vec::new(),
            outside: Vec::new(),
            steps: if mapped { granted(process) } else { limits(process).collect() },
            flags: CloneFlags::PARENT,
            joins: Vec::new(),
        };
        plan.steps.push(Step::JoinProcess { file: ROOT, user: mapped });
        plan.process(process, message, riders, mapped)?;
        Ok(plan)
    }

    /// What of the process's comes first, and who it is in the namespace until it becomes its user.
    fn enter_user_namespace(&mut self, spec: &Spec) {
        if spec.namespaces.user.is_none() {
            return;
        }
        let mut outside = granted(&spec.process);
        outside.push(self.join(JoinField::User, LinkNameSpaceType::User));
        if let Some(Join::Namespace(_)) = spec.namespaces.pid {
            outside.push(self.join(JoinField::Pid, LinkNameSpaceType::ProcessID));
        }
        outside.push(Step::ActAsRoot);
        self.outside = outside;
        self.steps.push(Step::Identity { uid: 0, gid: 0, groups: vec![] });
    }

    /// Into a namespace whose file's place in the list is known at the end.
    fn join(&mut self, field: JoinField, kind: LinkNameSpaceType) -> Step {
        self.joins.push(field);
        Step::JoinNamespace { file: usize::MAX - self.joins.len(), kind }
    }

    fn source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        FIRST_SOURCE + self.sources.len() - 1
    }

    fn namespaces(&mut self, spec: &Spec) {
        let new = |join: &Option<Join>, flag| if join.is_none() { flag } else { CloneFlags::default() };
        let ns = &spec.namespaces;
        self.flags = self
            .flags
            .and(new(&ns.net, CloneFlags::NEWNET))
            .and(new(&ns.pid, CloneFlags::NEWPID))
            .and(new(&ns.ipc, CloneFlags::NEWIPC))
            .and(new(&ns.uts, CloneFlags::NEWUTS));
        let joins = [
            (&ns.net, JoinField::Net, LinkNameSpaceType::Network),
            (&ns.ipc, JoinField::Ipc, LinkNameSpaceType::InterProcessCommunication),
            (&ns.uts, JoinField::Uts, LinkNameSpaceType::HostNameAndNISDomainName),
        ];
        for (join, field, kind) in joins {
            if let Some(Join::Namespace(_)) = join {
                let step = self.join(field, kind);
                self.steps.push(step);
            }
        }
        if ns.cgroup.is_none() {
            self.steps.push(Step::UnshareCgroup);
        }
        self.steps.push(Step::MakeMountsPrivate);
    }

    /// The default mounts of security-relevant order: proc first, since later steps write below it.
    fn default_mounts(&mut self, spec: &Spec) -> Result<(), NulInside> {
        let quiet = MountAttributes::NOSUID.and(MountAttributes::NOEXEC).and(MountAttributes::NODEV);
        let sys = if spec.writable_sys { quiet } else { quiet.and(MountAttributes::RDONLY) };
        self.mount_new(c"proc", c"/proc", quiet, false);
        self.attach(Source::Dev { devices: spec.devices.clone(), terminal: spec.process.terminal }, c"/dev");
        self.attach(Source::DevPts, c"/dev/pts");
        if spec.process.terminal {
            self.steps
                .push(Step::BindWithin { source: c"/dev/pts/0".into(), target: c"/dev/console".into() });
        }
        let shm = match spec.shm {
            Shm::None => None,
            Shm::Mount(_) => Some(Source::Shm),
            Shm::New { bytes } => {
                let options =
                    vec![("mode".to_owned(), "1777".to_owned()), ("size".to_owned(), bytes.to_string())];
                Some(Source::Tmpfs(TmpfsMount { source: "shm", options, attributes: quiet }))
            }
        };
        if let Some(shm) = shm {
            self.attach(shm, c"/dev/shm");
        }
        let mapped = spec.namespaces.user.is_some();
        if mapped && spec.namespaces.ipc.as_ref().is_some_and(|ipc| matches!(ipc, Join::Host)) {
            self.attach(Source::Mqueue, c"/dev/mqueue");
        } else {
            self.mount_new(c"mqueue", c"/dev/mqueue", quiet, true);
        }
        self.mount_new(c"sysfs", c"/sys", sys, false);
        if mapped && spec.namespaces.cgroup.is_some() {
            let source = PathBuf::from(contract::paths::CGROUP);
            let tree = BindMount { source, readonly: !spec.writable_sys, recursive: false };
            self.attach(Source::Bind(tree), c"/sys/fs/cgroup");
        } else {
            self.mount_new(c"cgroup2", c"/sys/fs/cgroup", sys, true);
        }
        Ok(())
    }

    fn attach(&mut self, source: Source, target: &std::ffi::CStr) {
        let file = self.source(source);
        self.steps.push(Step::Attach { file, target: target.into(), follow: false });
    }

    fn mount_new(
        &mut self,
        fstype: &std::ffi::CStr,
        target: &std::ffi::CStr,
        attributes: MountAttributes,
        optional: bool,
    ) {
        self.steps.push(Step::MountNew {
            fstype: fstype.into(),
            target: target.into(),
            attributes,
            optional,
        });
    }

    /// Outer targets first, so that a mount inside another is not hidden by it.
    fn volumes(&mut self, spec: &Spec) -> Result<(), NulInside> {
        let mut mounts: Vec<_> = spec.mounts.iter().collect();
        mounts.sort_by_key(|m| m.target.split('/').filter(|part| !part.is_empty()).count());
        for mount in mounts {
            let (source, like) = match &mount.kind {
                VolumeKind::Bind(bind) => (Source::Bind(bind.clone()), Some(bind.source.clone())),
                VolumeKind::Tmpfs(tmpfs) => (Source::Tmpfs(tmpfs.clone()), None),
            };
            self.mount_points.push(MountPoint { path: mount.target.clone(), like });
            let file = self.source(source);
            self.steps.push(Step::Attach { file, target: c(&mount.target)?, follow: true });
        }
        Ok(())
    }

    fn surroundings(&mut self, spec: &Spec) -> Result<(), NulInside> {
        if spec.namespaces.uts.is_none() {
            self.steps.push(Step::Hostname(c(&spec.hostname)?));
            if !spec.domainname.is_empty() {
                self.steps.push(Step::Domainname(c(&spec.domainname)?));
            }
        }
        for (name, value) in &spec.sysctls {
            let path = c(&format!("/proc/sys/{}", name.replace('.', "/")))?;
            self.steps.push(Step::Write { path, value: value.clone().into_bytes() });
        }
        for path in &spec.readonly_paths {
            self.steps.push(Step::MakeReadOnly { target: c(path)? });
        }
        for path in &spec.masked_paths {
            self.steps.push(Step::Mask { target: c(path)? });
        }
        if spec.readonly_root {
            self.steps.push(Step::MakeRootReadOnly);
        }
        Ok(())
    }

    /// With `mapped` ids the process has left the machine's rights behind, see [`granted`]. The order matters: seccomp comes
    /// as late as it can, so that its program need not allow what comes before; PID 1 is told before that, because the
    /// program may forbid sendmsg(2).
    fn process(
        &mut self,
        process: &Process,
        message: Vec<u8>,
        riders: usize,
        mapped: bool,
    ) -> Result<(), NulInside> {
        self.steps.extend([Step::NewSession, Step::Stdio { files: STDIO }, Step::Umask]);
        if process.terminal {
            self.steps.push(Step::ControllingTerminal);
        }
        self.steps.push(Step::KeepCapabilities { bounding: process.capabilities.bounding });
        let user = &process.user;
        let groups = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        self.steps.push(Step::Identity { uid: user.uid, gid: user.gid, groups });
        self.steps.push(Step::WorkingDirectory(c(&process.cwd)?));
        if !mapped {
            // Until here it has the engine's own: a process that shares the engine's memory must be the last to be killed.
            self.steps.push(score(process));
            // Until here it opens files, with numbers above those of all that the engine has open.
            self.steps.extend(open_files(process));
        }
        let first_rider = FIRST_SOURCE + self.sources.len();
        let files = (first_rider..first_rider + riders).collect();
        self.steps.push(Step::Register { socket: SOCKET, message, files });
        self.steps.push(Step::CloseFiles);
        if mapped {
            self.steps.push(open_files(process).unwrap_or_else(own_open_files));
        }
        if process.no_new_privileges {
            self.steps.push(Step::NoNewPrivileges);
        }
        if let Some(filter) = &process.seccomp {
            self.steps.push(Step::Seccomp(filter.clone()));
        }
        self.steps.push(Step::Capabilities(process.capabilities));
        self.steps.push(Step::DefaultSignals(sys::clone::ignored_signals()));
        if !process.signals_held {
            self.steps.push(Step::UnblockSignals);
        }
        self.steps.push(Step::Exec {
            candidates: candidates(process)?,
            arguments: strings(&process.args)?,
            environment: strings(&process.env)?,
        });
        self.number_joins(first_rider + riders);
        Ok(())
    }

    /// The number of the step that tells PID 1, counted from 1 and from the first of those outside.
    pub fn registers_at(&self) -> usize {
        let all = self.outside.iter().chain(&self.steps);
        1 + all.take_while(|step| !matches!(step, Step::Register { .. })).count()
    }

    /// Namespace files come last in the list, whose length is known only now.
    fn number_joins(&mut self, first: usize) {
        for step in self.outside.iter_mut().chain(&mut self.steps) {
            if let Step::JoinNamespace { file, .. } = step {
                *file = first + (usize::MAX - *file - 1);
            }
        }
    }
}

/// Written even where it is 0: the engine's own, which a child inherits, protects it from the killer.
fn score(process: &Process) -> Step {
    Step::Write {
        path: c"/proc/self/oom_score_adj".into(),
        value: process.oom_score_adj.to_string().into_bytes(),
    }
}

/// Limits but for that of open files.
fn limits(process: &Process) -> impl Iterator<Item = Step> {
    process.rlimits.iter().filter(|limit| limit.resource != Resource::Nofile).map(step_of)
}

fn step_of(limit: &Rlimit) -> Step {
    let resource = limit.resource;
    Step::Rlimit { resource, limit: rustix::process::Rlimit { current: limit.soft, maximum: limit.hard } }
}

fn open_files(process: &Process) -> Option<Step> {
    process.rlimits.iter().rfind(|limit| limit.resource == Resource::Nofile).map(step_of)
}

/// The limit that a child has from the engine.
fn own_open_files() -> Step {
    Step::Rlimit { resource: Resource::Nofile, limit: rustix::process::getrlimit(Resource::Nofile) }
}

/// What a process may do for itself only as long as it is the machine's. It may open as many files as can be: all
/// containers with mapped ids are one user to the kernel, which counts what they have on the way in sockets, and refuses a
/// descriptor for PID 1 to whoever may open less (ETOOMANYREFS in unix(7)).
fn granted(process: &Process) -> Vec<Step> {
    let asked = process.rlimits.iter().rfind(|limit| limit.resource == Resource::Nofile);
    let least = asked.map_or(0, |limit| limit.hard.unwrap_or(u64::MAX));
    let raise = Step::RaiseFiles { least, most: most_open_files() };
    [raise].into_iter().chain(limits(process)).chain([score(process)]).collect()
}

/// What the kernel allows at most; it does not change while the engine runs.
fn most_open_files() -> u64 {
    static MOST: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok();
    *MOST.get_or_init(|| read().unwrap_or(1 << 20))
}

fn strings(words: &[String]) -> Result<StringArray, NulInside> {
    Ok(StringArray::new(words.iter().map(|word| c(word)).collect::<Result<_, _>>()?))
}

/// Paths execve(2) is tried with: the program itself where it has a slash, else one for each folder of PATH.
fn candidates(process: &Process) -> Result<Vec<CString>, NulInside> {
    let program = process.args.first().map_or("", String::as_str);
    if program.is_empty() || program.contains('/') {
        return Ok(vec![c(program)?]);
    }
    let path = process.env.iter().rev().find_map(|word| word.strip_prefix("PATH=")).unwrap_or("");
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| c(&format!("{dir}/{program}"))).collect()
}

/// Resource of a limit's name as `ulimit` and Docker spell it.
pub fn resource_by_name(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::spec::{CapabilitySets, Namespaces, UserIds, UserNamespace, VolumeMount};
    use super::*;

    fn spec() -> Spec {
        Spec {
            process: Process {
                args: vec!["sh".into(), "-c".into(), "true".into()],
                env: vec!["PATH=/bin:relative:/usr/bin".into()],
                cwd: "/".into(),
                user: UserIds::default(),
                capabilities: CapabilitySets::default(),
                signals_held: false,
                no_new_privileges: false,
                seccomp: None,
                rlimits: vec![],
                oom_score_adj: 0,
                terminal: false,
            },
            alone: true,
            readonly_root: false,
            hostname: "h".into(),
            domainname: String::new(),
            namespaces: Namespaces::default(),
            mounts: vec![],
            shm: Shm::New { bytes: 1 << 20 },
            devices: vec![],
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            sysctls: vec![("net.ipv4.ip_forward".into(), "0".into())],
            writable_sys: false,
        }
    }

    fn position(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> usize {
        plan.steps.iter().position(wanted).expect("the step is in the plan")
    }

    #[test]
    fn registration_stands_before_seccomp_and_exec_is_last() {
        let plan = Plan::compile(&spec(), vec![1], 2).unwrap();
        assert!(matches!(plan.steps.last(), Some(Step::Exec { .. })));
        let register = position(&plan, |s| matches!(s, Step::Register { files, .. } if files.len() == 2));
        let capabilities = position(&plan, |s| matches!(s, Step::Capabilities(_)));
        assert!(register < capabilities);
        let pivot = position(&plan, |s| matches!(s, Step::EnterRoot { .. }));
        let proc = position(&plan, |s| matches!(s, Step::MountNew { target, .. } if &**target == c"/proc"));
        let sysctl = position(
            &plan,
            |s| matches!(s, Step::Write { path, .. } if path.to_bytes().ends_with(b"ip_forward")),
        );
        let readonly = position(&plan, |s| matches!(s, Step::MakeReadOnly { .. }));
        assert!(pivot < proc && proc < sysctl && sysctl < readonly);
    }

    #[test]
    fn path_is_searched_as_execvp_does() {
        let check = |program: &str, expected: &[&str]| {
            let mut process = spec().process;
            process.args[0] = program.into();
            let got = candidates(&process).unwrap();
            let got: Vec<_> = got.iter().map(|p| p.to_str().unwrap()).collect();
            assert_eq!(got, expected, "{program}");
        };
        check("sh", &["/bin/sh", "/usr/bin/sh"]);
        check("/bin/sh", &["/bin/sh"]);
        check("./run", &["./run"]);
    }

    #[test]
    fn inner_mounts_come_after_outer_ones() {
        let mut spec = spec();
        let bind = |target: &str| VolumeMount {
            target: target.into(),
            kind: VolumeKind::Bind(BindMount { source: "/s".into(), readonly: false, recursive: true }),
        };
        spec.mounts = vec![bind("/a/b/c"), bind("/a"), bind("/a/b")];
        let plan = Plan::compile(&spec, vec![], 0).unwrap();
        let order: Vec<_> = plan.mount_points.iter().map(|m| m.path.as_str()).collect();
        assert_eq!(order, ["/a", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn mapped_ids_take_a_process_outside() {
        let mut spec = spec();
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let ids = crate::ids::IdMap::from(Some(100_000));
        spec.namespaces = Namespaces {
            user: Some(UserNamespace { file: null(), ids }),
            net: Some(Join::Namespace(null())),
            pid: Some(Join::Namespace(null())),
            ..Namespaces::default()
        };
        let plan = Plan::compile(&spec, vec![], 2).unwrap();
        assert_eq!(plan.joins, [JoinField::User, JoinField::Pid, JoinField::Net]);
        let first = FIRST_SOURCE + plan.sources.len() + 2;
        let kinds: Vec<_> = plan.outside.iter().map(std::mem::discriminant).collect();
        let join = |file| Step::JoinNamespace { file, kind: LinkNameSpaceType::User };
        assert_eq!(kinds.len(), 5);
        assert!(matches!(plan.outside[0], Step::RaiseFiles { least: 0, .. }));
        assert!(matches!(plan.outside[1], Step::Write { .. }));
        assert_eq!(kinds[2..4], [join(0), join(0)].map(|step| std::mem::discriminant(&step)));
        assert!(matches!(plan.outside[3], Step::JoinNamespace { file, .. } if file == first + 1));
        assert!(matches!(plan.outside[4], Step::ActAsRoot));
        assert!(matches!(plan.steps[0], Step::Identity { uid: 0, .. }));
        assert!(matches!(plan.steps[1], Step::JoinNamespace { file, .. } if file == first + 2));
        assert!(
            !plan.steps.iter().any(
                |s| matches!(s, Step::Write { path, .. } if path.to_bytes().ends_with(b"oom_score_adj"))
            )
        );
        let sys = position(&plan, |s| matches!(s, Step::MountNew { target, .. } if &**target == c"/sys"));
        assert!(sys < position(&plan, |s| matches!(s, Step::LeaveOldRoot)));
    }

    #[test]
    fn a_further_process_is_given_what_it_may_have_before_its_ids_change() {
        let score = |mapped: bool| {
            let plan = Plan::enter(&spec().process, mapped, vec![], 0).unwrap();
            let join = position(&plan, |s| matches!(s, Step::JoinProcess { user, .. } if *user == mapped));
            (join, position(&plan, |s| matches!(s, Step::Write { .. })))
        };
        let (join, at) = score(false);
        assert!(join < at, "the engine's own score protects it as long as can be");
        assert_eq!(score(true), (2, 1));
    }

    #[test]
    fn few_open_files_are_allowed_once_no_more_are_opened() {
        let mut spec = spec();
        let few = Rlimit { resource: Resource::Nofile, soft: Some(5), hard: Some(6) };
        let core = Rlimit { resource: Resource::Core, soft: Some(0), hard: Some(0) };
        spec.process.rlimits = vec![few, core];
        let opens =
            |s: &Step| matches!(s, Step::Write { .. } | Step::WorkingDirectory(_) | Step::MountNew { .. });
        for mapped in [false, true] {
            let plan = Plan::enter(&spec.process, mapped, vec![], 0).unwrap();
            let limits = |s: &Step| matches!(s, Step::Rlimit { resource: Resource::Nofile, .. });
            let at = position(&plan, limits);
            assert_eq!(plan.steps.iter().filter(|step| limits(step)).count(), 1);
            assert!(plan.steps.iter().rposition(opens).unwrap() < at);
            // The kernel compares what a user has on the way in sockets with this limit.
            let register = position(&plan, |s| matches!(s, Step::Register { .. }));
            assert_eq!(register < at, mapped);
            assert!(register < position(&plan, |s| matches!(s, Step::CloseFiles)));
        }
    }

    #[test]
    fn a_nul_byte_is_an_error() {
        let mut spec = spec();
        spec.process.cwd = "/a\0b".into();
        assert_eq!(Plan::compile(&spec, vec![], 0).unwrap_err(), NulInside { text: "/a\0b".into() });
    }

    #[test]
    fn joined_namespaces_are_not_made_new() {
        let mut spec = spec();
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        spec.namespaces =
            Namespaces { net: Some(Join::Namespace(null())), uts: Some(Join::Host), ..Namespaces::default() };
        let plan = Plan::compile(&spec, vec![], 3).unwrap();
        assert_eq!(plan.joins, [JoinField::Net]);
        let last = FIRST_SOURCE + plan.sources.len() + 3;
        assert!(plan.steps.iter().any(|s| matches!(s, Step::JoinNamespace { file, .. } if *file == last)));
        assert!(!plan.steps.iter().any(|s| matches!(s, Step::Hostname(_))));
    }
}
