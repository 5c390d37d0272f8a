//! From a [`Spec`] to the list of steps: pure, so that it is tested without root.

use std::ffi::CString;
use std::path::PathBuf;

use sys::clone::CloneFlags;
use sys::mounts::MountAttributes;

use super::file::{File, Namespace};
use super::process_steps::{Birth, ProcessSteps};
use super::spec::{
    BindMount, Device, Join, JoinPid, PreparedMount, Process, Rlimit, Shm, Spec, TmpfsMount, VolumeKind,
};
use super::step::Step;

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
    /// A mount of the spec's that is ready.
    Prepared(PreparedMount),
    /// The mount that the spec gives as [`Shm::Mount`].
    Shm,
    /// The proc file system that the spec gives with the pid namespace to join.
    Proc,
    /// The engine's own message queues.
    Mqueue,
}

/// A path in the root that must exist before something is attached there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountPoint {
    /// Absolute path in the container.
    pub path: String,
    /// Whether it is a file or a folder.
    pub like: Like,
}

/// What tells whether a mount point is a file or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Like {
    /// It is a folder.
    Folder,
    /// What is at this path.
    Path(PathBuf),
    /// What the mount shows.
    Mount(PreparedMount),
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
    /// Walked by the new process, or, where there are steps `inside`, by the one that makes it.
    pub steps: Vec<Step>,
    /// Walked by a process that is born in a pid namespace that it shares with others. Without any there is no such process.
    pub inside: Vec<Step>,
    /// Set from outside on the process that walks `inside`, as the one before it has to be counted, too.
    pub processes: Option<Rlimit>,
    /// New namespaces.
    pub flags: CloneFlags,
    /// The process is cloned in a mount namespace that is empty.
    pub bare: bool,
}

/// A string with a NUL inside cannot be given to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} contains a NUL byte")]
pub struct NulInside {
    /// The text.
    pub text: String,
}

pub(super) fn c(text: &str) -> Result<CString, NulInside> {
    CString::new(text).map_err(|_| NulInside { text: text.to_owned() })
}

/// What the `Launched` message to PID 1 is made of.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many descriptors PID 1 keeps.
    pub kept: usize,
}

impl Plan {
    fn empty() -> Plan {
        Plan {
            sources: Vec::new(),
            mount_points: Vec::new(),
            outside: Vec::new(),
            steps: Vec::with_capacity(64),
            inside: Vec::new(),
            processes: None,
            flags: CloneFlags::PARENT,
            bare: false,
        }
    }

    /// The plan of a new container.
    ///
    /// # Errors
    /// A string of the spec has a NUL byte.
    pub fn compile(spec: &Spec, message: Message) -> Result<Plan, NulInside> {
        let mut plan = Plan::empty();
        let birth = Birth::of(spec);
        let mut own = ProcessSteps::compile(&spec.process, birth, message)?;
        plan.flags = new_namespaces(spec);
        // A user namespace may have a new proc and sysfs only where others are in view, and the zygote has the engine's mounts.
        plan.bare = birth == Birth::Alone { mapped: false };
        plan.enter_user_namespace(spec, &mut own, birth);
        plan.namespaces(spec);
        plan.steps.push(if plan.bare { Step::EnterFirstRoot } else { Step::EnterRoot });
        plan.default_mounts(spec);
        if !plan.bare {
            plan.steps.push(Step::LeaveOldRoot);
        }
        plan.volumes(spec)?;
        plan.surroundings(spec)?;
        plan.process(own);
        Ok(plan)
    }

    /// The plan of a further process in a container; `mapped` where that has a user namespace.
    ///
    /// # Errors
    /// A string has a NUL byte.
    pub fn enter(process: &Process, mapped: bool, message: Message) -> Result<Plan, NulInside> {
        let mut plan = Plan::empty();
        let mut own = ProcessSteps::compile(process, Birth::Inside { mapped }, message)?;
        plan.steps.append(&mut own.granted);
        plan.steps.push(Step::JoinFirstProcess { user: mapped });
        plan.process(own);
        Ok(plan)
    }

    /// What only the machine may do comes first. Where ids are mapped the container's namespaces have to belong to its user
    /// namespace, so whoever makes them has to be in that; and who is born in a pid namespace of others is so from the
    /// start, so whoever makes it has to have entered that.
    fn enter_user_namespace(&mut self, spec: &Spec, own: &mut ProcessSteps, birth: Birth) {
        let join = |namespace| Step::JoinNamespace { namespace };
        let user = spec.namespaces.user.as_ref().map(|_| join(Namespace::User));
        let act_as_root = user.is_some().then_some(Step::ActAsRoot);
        let mapped = user.is_some();
        match birth {
            Birth::Alone { .. } => {
                if mapped {
                    self.outside = own.granted.drain(..).chain(user).chain(act_as_root).collect();
                }
            }
            Birth::Inside { .. } => {
                self.steps.append(&mut own.granted);
                self.steps.extend(user.into_iter().chain([join(Namespace::Pid)]).chain(act_as_root));
                self.steps.push(Step::Unshare(self.flags));
            }
        }
        if mapped {
            self.steps.push(Step::Identity { uid: 0, gid: 0, groups: vec![] });
        }
    }

    fn source(&mut self, source: Source) -> File {
        self.sources.push(source);
        File::Source(self.sources.len() - 1)
    }

    fn namespaces(&mut self, spec: &Spec) {
        let ns = &spec.namespaces;
        for (join, namespace) in
            [(&ns.net, Namespace::Net), (&ns.ipc, Namespace::Ipc), (&ns.uts, Namespace::Uts)]
        {
            if let Some(Join::Namespace(_)) = join {
                self.steps.push(Step::JoinNamespace { namespace });
            }
        }
        if ns.cgroup.is_none() {
            self.steps.push(Step::Unshare(CloneFlags::NEWCGROUP));
        }
        if !self.bare {
            self.steps.push(Step::MakeMountsPrivate);
        }
    }

    /// The default mounts of security-relevant order: proc first, since later steps write below it.
    fn default_mounts(&mut self, spec: &Spec) {
        let quiet = MountAttributes::NOSUID.and(MountAttributes::NOEXEC).and(MountAttributes::NODEV);
        let unless = |writable: bool| if writable { quiet } else { quiet.and(MountAttributes::RDONLY) };
        let (sys, cgroups) = (unless(spec.writable_sys), unless(spec.writable_cgroups));
        match spec.namespaces.pid {
            // A new one would show the pid namespace of the process that mounts it, which is still the engine's.
            Some(JoinPid::Container { .. }) => self.attach(Source::Proc, c"/proc"),
            None | Some(JoinPid::Host) => self.mount_new(c"proc", c"/proc", quiet, false),
        }
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
                Some(Source::Tmpfs(TmpfsMount {
                    source: "shm",
                    options,
                    attributes: quiet,
                    propagation: None,
                }))
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
            let tree = BindMount { source, readonly: !spec.writable_cgroups, recursive: false };
            self.attach(Source::Bind(tree), c"/sys/fs/cgroup");
        } else {
            self.mount_new(c"cgroup2", c"/sys/fs/cgroup", cgroups, true);
        }
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
                VolumeKind::Bind(bind) => (Source::Bind(bind.clone()), Like::Path(bind.source.clone())),
                VolumeKind::Tmpfs(tmpfs) => (Source::Tmpfs(tmpfs.clone()), Like::Folder),
                VolumeKind::Prepared(mount) => (Source::Prepared(mount.clone()), Like::Mount(mount.clone())),
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

    fn process(&mut self, own: ProcessSteps) {
        self.steps.extend(own.granted);
        self.steps.extend(own.steps);
        self.inside = own.inside;
        self.processes = own.processes;
    }

    /// All steps in the order in which they are walked.
    pub fn all(&self) -> impl Iterator<Item = &Step> {
        self.outside.iter().chain(&self.steps).chain(&self.inside)
    }

    /// The number of the step that tells PID 1, counted from 1 and from the first of those outside.
    pub fn registers_at(&self) -> usize {
        1 + self.all().take_while(|step| !matches!(step, Step::Register { .. })).count()
    }
}

fn new_namespaces(spec: &Spec) -> CloneFlags {
    let new = |is_new: bool, flag| if is_new { flag } else { CloneFlags::default() };
    let ns = &spec.namespaces;
    CloneFlags::PARENT
        .and(CloneFlags::NEWNS)
        .and(new(ns.net.is_none(), CloneFlags::NEWNET))
        .and(new(ns.pid.is_none(), CloneFlags::NEWPID))
        .and(new(ns.ipc.is_none(), CloneFlags::NEWIPC))
        .and(new(ns.uts.is_none(), CloneFlags::NEWUTS))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
