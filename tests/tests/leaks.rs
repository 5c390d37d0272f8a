//! What many short lives leave behind: nothing.

use crate::engine_death::mortal;
use pinnace_tests::api::Body;
use pinnace_tests::{Appliance, Backend, eventually, skip};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many lives; ten thousand for those who ask for them by `PINNACE_LEAK_LIVES`.
fn lives() -> usize {
    std::env::var("PINNACE_LEAK_LIVES").ok().and_then(|number| number.parse().ok()).unwrap_or(200)
}

#[test]
fn short_lives_leave_nothing_behind() {
    let Some((app, _turn)) = mortal() else {
        skip!("the reference engine's processes are not ours to look into")
    };
    if Backend::of_this_run() != Backend::Namespace {
        skip!("the processes of a virtual machine are out of sight");
    }
    // Pools and caches fill first.
    live(app, 40);
    let before = settled(app);
    live(app, lives());
    let after = settled(app);
    for (what, count) in &before {
        // Threads that wait for work come and go, and so do ready sandboxes.
        let slack = match what.split(' ').next() {
            Some("cgroups" | "folders") => 0,
            // An allocator keeps some of what was freed.
            Some("KiB") => 4 << 10,
            _ => 6,
        };
        assert!(
            after[what] <= count + slack,
            "{what}: {count} before, {} after; {before:?} {after:?}",
            after[what]
        );
    }
}

/// One after the other on two threads: made, started, waited for, sometimes exec'd, removed.
fn live(app: &Appliance, count: usize) {
    let image = app.busybox();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let image = &image;
            scope.spawn(move || (thread..count).step_by(2).for_each(|n| live_once(app, image, n)));
        }
    });
}

fn live_once(app: &Appliance, image: &str, n: usize) {
    let api = app.api();
    let network = if n.is_multiple_of(4) { "bridge" } else { "none" };
    let command = if n.is_multiple_of(5) { json!(["sleep", "1000"]) } else { json!(["true"]) };
    let create = json!({
        "Image": image, "Cmd": command, "Tty": n.is_multiple_of(3), "HostConfig": { "NetworkMode": network },
    });
    let made = api.post_json("/containers/create", create).is(201).json();
    let id = made["Id"].as_str().expect("an id");
    api.post(&format!("/containers/{id}/start")).is(204);
    if n.is_multiple_of(5) {
        let exec =
            api.post_json(&format!("/containers/{id}/exec"), json!({ "Cmd": ["true"] })).is(201).json();
        let exec = exec["Id"].as_str().expect("an id");
        api.post_json(&format!("/exec/{exec}/start"), json!({ "Detach": true })).is(200);
        api.post(&format!("/containers/{id}/kill")).is(204);
    }
    api.post(&format!("/containers/{id}/wait")).is(200);
    api.call("DELETE", &format!("/containers/{id}?force=1"), Body::Empty).is(204);
}

/// The counts, once two looks in a row agree.
fn settled(app: &Appliance) -> BTreeMap<String, usize> {
    let mut last = BTreeMap::new();
    eventually("the counts settle", app.patience(), || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = counts(app);
        let same = same(&now, &last);
        last = now;
        same.then(|| last.clone())
    })
}

/// Memory is never quite still.
fn same(now: &BTreeMap<String, usize>, last: &BTreeMap<String, usize>) -> bool {
    now.len() == last.len()
        && now
            .iter()
            .all(|(what, count)| count.abs_diff(last[what]) <= if what.starts_with("KiB") { 64 } else { 0 })
}

fn counts(app: &Appliance) -> BTreeMap<String, usize> {
    let init = app.status()["machine_pid"].as_u64().expect("a machine runs").to_string();
    let engine = app.engine_process().expect("an engine runs");
    let mut counts = BTreeMap::new();
    for (name, pid) in [("init", &init), ("engine", &engine)] {
        let process = PathBuf::from("/proc").join(pid);
        counts.insert(format!("descriptors of {name}"), entries(&process.join("fd")));
        counts.insert(format!("threads of {name}"), entries(&process.join("task")));
        counts.insert(format!("mounts of {name}"), lines(&process.join("mountinfo")));
        counts.insert(format!("KiB of {name}"), anonymous_kib(&process));
    }
    let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).expect("it runs");
    counts.insert("children of init".to_owned(), children.split_whitespace().count());
    let root = PathBuf::from(format!("/proc/{init}/root"));
    counts.insert("cgroups".to_owned(), entries(&root.join("sys/fs/cgroup/docker")));
    for folder in ["var/lib/pinnace/containers", "run/pinnace/spool"] {
        counts.insert(format!("folders of {folder}"), entries(&root.join(folder)));
    }
    counts.insert("interfaces".to_owned(), lines(&PathBuf::from(format!("/proc/{init}/net/dev"))));
    counts
}

/// Memory of its own, see proc_pid_smaps_rollup(5).
fn anonymous_kib(process: &Path) -> usize {
    let rollup = std::fs::read_to_string(process.join("smaps_rollup")).expect("root may look");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a field of it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}
