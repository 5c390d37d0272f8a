//! What keeps a container in: namespaces, capabilities, seccomp, masks, devices.

use crate::{appliance, is_reference};
use pinnace_tests::{Backend, images::Image, skip};
use std::collections::BTreeMap;

/// Prints what `script` prints in a fresh container.
fn inside(script: &str) -> String {
    let app = appliance();
    app.docker(["run", "--rm", &app.busybox(), "sh", "-c", script]).succeeds().text()
}

fn namespaces(listing: &str) -> BTreeMap<String, String> {
    let lines = listing.lines().filter_map(|line| line.trim().split_once(":["));
    lines.map(|(kind, number)| (kind.to_owned(), number.trim_end_matches(']').to_owned())).collect()
}

const LIST_NAMESPACES: &str = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done";

/// The engine has folders of the machine open, and a process on its way into a container has them, too (CVE-2024-21626).
#[test]
fn no_path_leads_through_what_the_engine_has_open() {
    let app = appliance();
    let name = app.name("descriptors");
    let image = app.busybox();
    app.docker(["run", "--detach", "--name", &name, &image, "sleep", "600"]).succeeds();
    let up = "../".repeat(12);
    let outside = format!("cd {up}; if test -e sbin/engined; then echo outside; fi");
    for number in 3..40 {
        let folder = format!("/proc/self/fd/{number}");
        let program = format!("{folder}/{up}sbin/engined");
        let new = ["run", "--rm", "--workdir", &folder, &image, "sh", "-c", &outside];
        let further = ["exec", "--workdir", &folder, &name, "sh", "-c", &outside];
        for words in [&new[..], &further] {
            let outcome = app.docker(words.iter().copied());
            assert!(!outcome.text().contains("outside"), "{words:?}");
        }
        app.docker(["exec", &name, &program, "--routes"]).fails();
    }
    app.docker(["run", "--rm", "--workdir", "/proc/self/fd/0", &image, "true"])
        .fails()
        .says_on_stderr("chdir to cwd (\"/proc/self/fd/0\")");
}

#[test]
fn every_namespace_is_its_own() {
    let app = appliance();
    let name = app.name("namespaces");
    // Two at the same time: the kernel gives numbers away again.
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let one = namespaces(&app.docker(["exec", &name, "sh", "-c", LIST_NAMESPACES]).succeeds().text());
    let two = namespaces(&inside(LIST_NAMESPACES));
    assert_eq!(one.len(), 6);
    for (kind, number) in &one {
        if is_reference(app) && kind == "cgroup" {
            continue;
        }
        assert_ne!(Some(number), two.get(kind), "{kind}");
        // Numbers of another kernel mean nothing here.
        if app.backend != Backend::Qemu {
            let host =
                std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("this process has namespaces");
            assert_ne!(host.to_string_lossy(), format!("{kind}:[{number}]"));
        }
    }
}

#[test]
fn the_first_process_is_number_one() {
    let pids = inside("echo $$; ls -d /proc/[0-9]*");
    let pids: Vec<&str> = pids.lines().collect();
    assert!(pids.starts_with(&["1", "/proc/1"]) && pids.len() <= 4, "{pids:?}");
}

#[test]
fn the_cgroup_is_the_root_of_what_it_sees() {
    if is_reference(appliance()) {
        skip!("the reference engine runs on version 1 of control groups here");
    }
    // A host with version 1 beside it shows those hierarchies first.
    assert_eq!(inside("cat /proc/1/cgroup").lines().last(), Some("0::/"));
    assert_eq!(
        inside("(echo 1 > /sys/fs/cgroup/cgroup.procs) 2> /dev/null || echo read-only"),
        "read-only\n"
    );
}

/// P3
#[test]
fn capabilities_are_dockers() {
    let status = inside("grep ^Cap /proc/1/status");
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n";
    if is_reference(appliance()) {
        // Before 20.10.14 the inheritable set was not empty (CVE-2022-24769); Debian's has the fix.
        assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
        return;
    }
    assert_eq!(status, expected);
}

#[test]
fn another_user_has_no_capabilities() {
    let app = appliance();
    let args =
        ["run", "--rm", "-u", "1000", &app.busybox(), "grep", "-E", "^Cap(Prm|Eff|Bnd)", "/proc/1/status"];
    let expected = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n";
    app.docker(args).prints(expected).succeeds();
}

/// P3
#[test]
fn seccomp_filters() {
    assert_eq!(inside("grep -E '^(Seccomp|NoNewPrivs):' /proc/1/status"), "NoNewPrivs:\t0\nSeccomp:\t2\n");
    // In Docker's default profile, and each needing CAP_SYS_ADMIN or a namespace flag.
    let app = appliance();
    for script in ["unshare -m true", "unshare -U true", "mount -t tmpfs x /tmp", "umount /proc"] {
        let outcome = app.docker(["run", "--rm", &app.busybox(), "sh", "-c", script]).fails();
        outcome.says_on_stderr("permi");
    }
}

#[test]
fn no_signal_is_ignored_or_blocked() {
    let expected = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    let app = appliance();
    let grep = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let image = app.busybox();
    app.docker(["run", "--rm", &image].into_iter().chain(grep)).prints(expected);
    // A program that writes on for nobody ends by SIGPIPE.
    app.docker(["run", "--rm", &image, "sh", "-c", "yes | head -n 1"]).prints("y\n").quietly();
    let name = app.name("signals");
    app.docker(["run", "-d", "--name", &name, &image, "sleep", "600"]).succeeds();
    app.docker(["exec", &name].into_iter().chain(grep)).prints(expected);
}

#[test]
fn no_new_privileges_on_request() {
    let app = appliance();
    let option = "no-new-privileges";
    let args =
        ["run", "--rm", "--security-opt", option, &app.busybox(), "grep", "NoNewPrivs", "/proc/1/status"];
    app.docker(args).prints("NoNewPrivs:\t1\n").succeeds();
}

/// P3
#[test]
fn masked_paths_are_empty() {
    let files = "/proc/kcore /proc/keys /proc/timer_list /proc/latency_stats /proc/sched_debug";
    assert_eq!(inside(&format!("for f in {files}; do if test -e $f; then head -c 1 $f; fi; done")), "");
    let folders = "/proc/acpi /proc/scsi /sys/firmware /sys/devices/virtual/powercap";
    assert_eq!(inside(&format!("for f in {folders}; do if test -e $f; then ls $f; fi; done")), "");
}

/// P3
#[test]
fn kernel_settings_are_read_only() {
    let app = appliance();
    let writes = [
        "echo x > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo 1 > /proc/irq/default_smp_affinity",
        "echo 1 > /sys/kernel/profiling",
    ];
    let cgroup = (!is_reference(app)).then_some("mkdir /sys/fs/cgroup/x");
    for script in writes.into_iter().chain(cgroup) {
        app.docker(["run", "--rm", &app.busybox(), "sh", "-c", script]).fails();
    }
}

#[test]
fn devices_are_the_few_that_are_harmless() {
    let expected =
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    // There is a link /dev/core where the kernel has /proc/kcore.
    assert_eq!(inside("ls /dev | grep -v ^core"), expected);
    let app = appliance();
    let mut terminal = app.docker_at_terminal([
        "run",
        "--rm",
        "-t",
        &app.busybox(),
        "sh",
        "-c",
        "ls -1 /dev | head -1; tty",
    ]);
    terminal.shows("console").shows("/dev/pts/0");
    terminal.exits(0);
    assert_eq!(
        inside("readlink /dev/ptmx; readlink /dev/fd; stat -c '%a %t:%T' /dev/null"),
        "pts/ptmx\n/proc/self/fd\n666 1:3\n"
    );
    assert_eq!(
        inside("echo gone > /dev/null; head -c 2 /dev/zero | od -An -tx1; head -c 1 /dev/urandom | wc -c"),
        " 00 00\n1\n"
    );
}

#[test]
fn a_disk_cannot_be_opened() {
    let app = appliance();
    // 254:0 is the first virtio disk, 8:0 the first SCSI disk, 1:1 the kernel's memory.
    for device in ["b 254 0", "b 8 0", "c 1 1"] {
        let script = format!("mknod /tmp/device {device} && head -c 1 /tmp/device");
        let outcome = app.docker(["run", "--rm", &app.busybox(), "sh", "-c", &script]).fails();
        outcome.says_on_stderr("not permitted");
    }
}

/// Scripts look for `overlay` and `shm` in what df(1) prints.
#[test]
fn mounts_have_the_names_that_runc_gives() {
    let mounts = inside("cut -d' ' -f1,2 /proc/mounts");
    let expected = [
        "overlay /",
        "proc /proc",
        "tmpfs /dev",
        "devpts /dev/pts",
        "sysfs /sys",
        "mqueue /dev/mqueue",
        "shm /dev/shm",
        "cgroup /sys/fs/cgroup",
    ];
    for mount in expected {
        assert!(mounts.lines().any(|line| line == mount), "{mount} in\n{mounts}");
    }
}

#[test]
fn nothing_of_the_host_is_mounted() {
    let mounts = inside("cut -d' ' -f2,3 /proc/mounts");
    let expected = [
        "/ overlay",
        "/proc proc",
        "/dev tmpfs",
        "/dev/pts devpts",
        "/sys sysfs",
        "/dev/mqueue mqueue",
        "/dev/shm tmpfs",
    ];
    for mount in expected {
        assert!(mounts.lines().any(|line| line == mount), "{mount} in\n{mounts}");
    }
    let known = ["/", "/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
    for line in mounts.lines() {
        let point = line.split(' ').next().unwrap_or_default();
        let below = ["/proc/", "/dev/", "/sys/"].iter().any(|top| point.starts_with(top));
        assert!(known.contains(&point) || below, "{line} in\n{mounts}");
    }
    let info = inside("cat /proc/self/mountinfo");
    assert!(!info.contains("/home/"), "{info}");
}

/// P7, P10
#[test]
fn what_a_container_needs_is_writable() {
    assert_eq!(inside("touch /x /tmp/x /dev/shm/x && echo written"), "written\n");
    assert_eq!(inside("df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"), "65536\n");
}

/// P4
#[test]
fn low_ports_and_ping_need_no_root() {
    let app = appliance();
    let read = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range";
    app.docker(["run", "--rm", "-u", "1000", &app.busybox(), "sh", "-c", read])
        .prints("0\n0\t2147483647\n")
        .succeeds();
}

#[test]
fn processes_of_others_are_out_of_reach() {
    let app = appliance();
    let name = app.name("victim");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    assert_eq!(inside("kill -9 -1; echo still here"), "still here\n");
    assert_eq!(app.inspect(&name)["State"]["Status"], "running");
}

#[test]
fn hostname_and_hosts_name_the_container() {
    let app = appliance();
    let name = app.name("hosts");
    let script = "hostname; cat /etc/hostname; grep $(hostname) /etc/hosts | cut -f2";
    let outcome = app.docker(["run", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    let id = app.inspect(&name)["Id"].as_str().expect("an id")[..12].to_owned();
    outcome.prints(&format!("{id}\n{id}\n{id}\n"));
}

#[test]
fn zombies_do_not_outlive_their_container() {
    let app = appliance();
    let name = app.name("children");
    let script = "sleep 1000 & sleep 1001 & exit 0";
    app.docker(["run", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    assert_eq!(app.inspect(&name)["State"]["Status"], "exited");
}

#[test]
fn debian_runs_as_contained_as_busybox() {
    let app = appliance();
    let script = "grep -E '^(CapEff|Seccomp):' /proc/self/status; ls -A /dev | grep -vc ^core";
    let outcome = app.docker(["run", "--rm", &app.image(Image::Debian), "bash", "-c", script]).succeeds();
    outcome.mentions("CapEff:\t00000000a80425fb\n").mentions("Seccomp:\t2\n").mentions("14\n");
}

/// The kernel's own default would be SELinux and TOMOYO, which cost something at every system call and do nothing.
#[test]
fn no_security_module_waits_for_a_policy() {
    let app = appliance();
    if app.backend != Backend::Qemu {
        skip!("this host's kernel is its own");
    }
    let script = "mount -t securityfs none /sys/kernel/security && cat /sys/kernel/security/lsm";
    let modules =
        app.docker(["run", "--rm", "--privileged", &app.busybox(), "sh", "-c", script]).succeeds().text();
    for module in ["selinux", "tomoyo", "apparmor", "smack"] {
        assert!(!modules.split(',').any(|name| name.trim() == module), "{modules}");
    }
    assert!(modules.contains("landlock"), "{modules}");
}
