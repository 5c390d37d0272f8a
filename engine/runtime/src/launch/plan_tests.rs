use rustix::process::Resource;

use super::super::process_steps::candidates;
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
        may_share_memory: true,
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
        writable_cgroups: false,
    }
}

fn message(kept: usize) -> Message {
    Message { bytes: vec![1], kept }
}

fn position(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().position(wanted).expect("the step is in the plan")
}

#[test]
fn registration_stands_before_seccomp_and_exec_is_last() {
    let plan = Plan::compile(&spec(), message(2)).unwrap();
    assert!(matches!(plan.steps.last(), Some(Step::Exec { .. })));
    let register = position(&plan, |s| matches!(s, Step::Register { kept: 2, .. }));
    let capabilities = position(&plan, |s| matches!(s, Step::Capabilities(_)));
    assert!(register < capabilities);
    let pivot = position(&plan, |s| matches!(s, Step::EnterFirstRoot));
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
    let plan = Plan::compile(&spec, message(0)).unwrap();
    let order: Vec<_> = plan.mount_points.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(order, ["/a", "/a/b", "/a/b/c"]);
}

fn null() -> std::os::fd::OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn mapped(pid: Option<JoinPid>) -> Spec {
    let ids = crate::ids::IdMap::from(Some(100_000));
    let user = Some(UserNamespace { file: null(), ids });
    let net = Some(Join::Namespace(null()));
    Spec { namespaces: Namespaces { user, net, pid, ..Namespaces::default() }, ..spec() }
}

fn is_score(step: &Step) -> bool {
    matches!(step, Step::Write { path, .. } if path.to_bytes().ends_with(b"oom_score_adj"))
}

#[test]
fn mapped_ids_take_a_process_outside() {
    let plan = Plan::compile(&mapped(None), message(2)).unwrap();
    assert!(!plan.bare);
    let [raise, score, user, root] = &plan.outside[..] else { panic!("{:?}", plan.outside) };
    assert!(matches!(raise, Step::RaiseFiles { least: 0, .. }) && is_score(score));
    assert!(matches!(user, Step::JoinNamespace { namespace: Namespace::User }));
    assert!(matches!(root, Step::ActAsRoot));
    assert!(matches!(plan.steps[0], Step::Identity { uid: 0, .. }));
    assert!(matches!(plan.steps[1], Step::JoinNamespace { namespace: Namespace::Net }));
    assert!(!plan.steps.iter().any(is_score) && plan.inside.is_empty());
    let sys = position(&plan, |s| matches!(s, Step::MountNew { target, .. } if &**target == c"/sys"));
    assert!(sys < position(&plan, |s| matches!(s, Step::LeaveOldRoot)));
}

/// Names of steps without their fields.
fn names(steps: &[Step]) -> Vec<String> {
    let name = |step: &Step| format!("{step:?}").split([' ', '(', '{']).next().unwrap_or("").to_owned();
    steps.iter().map(name).collect()
}

#[test]
fn who_is_born_among_others_has_nothing_but_its_program() {
    let filter = crate::seccomp::builtin(crate::capabilities::CONTAINER_DEFAULT);
    let mut spec = mapped(Some(JoinPid::Container { namespace: null(), proc: null() }));
    spec.process.seccomp = Some(filter.clone());
    for is_mapped in [true, false] {
        if !is_mapped {
            spec.namespaces.user = None;
        }
        let plan = Plan::compile(&spec, message(2)).unwrap();
        assert!(plan.outside.is_empty());
        assert_eq!(names(&plan.inside), ["NewSession", "UnblockSignals", "Exec"]);
        let at = |wanted: fn(&Step) -> bool| position(&plan, wanted);
        let pid = at(|s| matches!(s, Step::JoinNamespace { namespace: Namespace::Pid }));
        let unshare = at(|s| matches!(s, Step::Unshare(flags) if *flags != CloneFlags::NEWCGROUP));
        assert!(pid < unshare && unshare < at(|s| matches!(s, Step::EnterRoot)));
        let last = names(&plan.steps[plan.steps.len() - 2..]);
        assert_eq!(last, ["Seccomp", "Capabilities"]);
        assert!(!plan.all().any(|s| matches!(s, Step::Register { .. })), "the engine tells PID 1");
        assert!(plan.sources.contains(&Source::Proc));
    }
    let plan = Plan::enter(&spec.process, false, message(0)).unwrap();
    assert_eq!(names(&plan.inside), ["NewSession", "UnblockSignals", "Exec"]);
    spec.process.terminal = true;
    let plan = Plan::enter(&spec.process, false, message(0)).unwrap();
    assert_eq!(names(&plan.inside)[..2], ["NewSession", "ControllingTerminal"]);
}

#[test]
fn a_filter_that_lets_nobody_be_born_comes_after_the_birth() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["clone", "fork"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let host = crate::seccomp::Host::this(crate::capabilities::CONTAINER_DEFAULT);
    let filter = crate::seccomp::Profile::parse(profile).unwrap().filter(&host).unwrap();
    let mut process = spec().process;
    process.seccomp = Some(std::sync::Arc::new(filter));
    let plan = Plan::enter(&process, false, message(0)).unwrap();
    assert_eq!(names(&plan.inside), ["NewSession", "Seccomp", "Capabilities", "UnblockSignals", "Exec"]);
    process.no_new_privileges = true;
    let plan = Plan::enter(&process, false, message(0)).unwrap();
    assert_eq!(names(&plan.inside), ["NewSession", "Seccomp", "UnblockSignals", "Exec"]);
    assert_eq!(names(&plan.steps[plan.steps.len() - 2..]), ["NoNewPrivileges", "Capabilities"]);
}

#[test]
fn orders_arrive_as_they_were_sent() {
    let mut spec = mapped(Some(JoinPid::Container { namespace: null(), proc: null() }));
    let limit = |resource| Rlimit { resource, soft: Some(5), hard: None };
    spec.process.rlimits = vec![limit(Resource::Nproc), limit(Resource::Nofile)];
    spec.process.user.groups = vec![7, 8];
    spec.process.seccomp = Some(crate::seccomp::builtin(crate::capabilities::CONTAINER_DEFAULT));
    let plan = Plan::compile(&spec, message(2)).unwrap();
    let bytes = postcard::to_stdvec(&(&plan.steps, &plan.inside)).unwrap();
    let (steps, inside): (Vec<Step>, Vec<Step>) = postcard::from_bytes(&bytes).unwrap();
    assert_eq!((names(&steps), names(&inside)), (names(&plan.steps), names(&plan.inside)));
    assert_eq!(postcard::to_stdvec(&(&steps, &inside)).unwrap(), bytes);
}

#[test]
fn a_further_process_is_given_what_it_may_have_before_its_ids_change() {
    for mapped in [false, true] {
        let plan = Plan::enter(&spec().process, mapped, message(0)).unwrap();
        let join = position(&plan, |s| matches!(s, Step::JoinFirstProcess { user } if *user == mapped));
        assert!(position(&plan, is_score) < join, "the container's /proc does not know the one who writes");
    }
}

#[test]
fn one_process_more_is_allowed_for_the_one_that_makes_it() {
    let mut process = spec().process;
    let limit = Rlimit { resource: Resource::Nproc, soft: Some(5), hard: None };
    process.rlimits = vec![limit];
    let plan = Plan::enter(&process, false, message(0)).unwrap();
    assert_eq!(plan.processes, Some(limit));
    let limits = plan.steps.iter().filter_map(|step| match step {
        Step::Rlimit(limit) if limit.resource == Resource::Nproc => Some(limit.soft),
        _ => None,
    });
    // Never lower than that: an engine that may not raise limits could not come back.
    assert_eq!(limits.collect::<Vec<_>>(), [Some(6)]);
}

#[test]
fn few_open_files_are_allowed_once_no_more_are_opened() {
    let few = Rlimit { resource: Resource::Nofile, soft: Some(5), hard: Some(6) };
    let core = Rlimit { resource: Resource::Core, soft: Some(0), hard: Some(0) };
    let opens =
        |s: &Step| matches!(s, Step::Write { .. } | Step::WorkingDirectory(_) | Step::MountNew { .. });
    for is_mapped in [false, true] {
        let mut spec = if is_mapped { mapped(None) } else { spec() };
        spec.process.rlimits = vec![few, core];
        let started = Plan::compile(&spec, message(0)).unwrap();
        let entered = Plan::enter(&spec.process, is_mapped, message(0)).unwrap();
        for plan in [&started, &entered] {
            let limits = |s: &Step| matches!(s, Step::Rlimit(limit) if limit.resource == Resource::Nofile);
            let at = position(plan, limits);
            assert_eq!(plan.all().filter(|step| limits(step)).count(), 1);
            assert!(plan.steps.iter().rposition(opens).unwrap() < at);
        }
        // The kernel compares what a user has on the way in sockets with this limit.
        let register = position(&started, |s| matches!(s, Step::Register { .. }));
        let limited =
            position(&started, |s| matches!(s, Step::Rlimit(limit) if limit.resource == Resource::Nofile));
        assert_eq!(register < limited, is_mapped);
        assert!(register < position(&started, |s| matches!(s, Step::CloseFiles { .. })));
    }
}

#[test]
fn a_nul_byte_is_an_error() {
    let mut spec = spec();
    spec.process.cwd = "/a\0b".into();
    assert_eq!(Plan::compile(&spec, message(0)).unwrap_err(), NulInside { text: "/a\0b".into() });
}

#[test]
fn joined_namespaces_are_not_made_new() {
    let mut spec = spec();
    spec.namespaces =
        Namespaces { net: Some(Join::Namespace(null())), uts: Some(Join::Host), ..Namespaces::default() };
    let plan = Plan::compile(&spec, message(3)).unwrap();
    assert!(plan.steps.iter().any(|s| matches!(s, Step::JoinNamespace { namespace: Namespace::Net })));
    assert!(!plan.steps.iter().any(|s| matches!(s, Step::Hostname(_))));
    let flags = CloneFlags::PARENT.and(CloneFlags::NEWNS).and(CloneFlags::NEWPID).and(CloneFlags::NEWIPC);
    assert_eq!(plan.flags, flags);
}
