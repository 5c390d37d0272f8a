//! PID 1 holds, the engine decides: SIGKILL for `engined` while containers run.
//!
//! These tests have an appliance of their own, one after another: everybody else's connections would break.

use pinnace_tests::api::Body;
use pinnace_tests::{Appliance, Backend, build_folder, eventually, skip};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The appliance whose engine dies, and the right to kill it.
pub(crate) fn mortal() -> Option<(&'static Appliance, MutexGuard<'static, ()>)> {
    static APPLIANCE: OnceLock<Appliance> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let boot = || Appliance::boot(backend, &build_folder(&format!("test/{}-mortal", backend.word())));
    Some((APPLIANCE.get_or_init(boot), turn))
}

/// Borrows the appliance, or skips where its engine cannot be killed.
macro_rules! mortal {
    () => {{
        let Some((app, turn)) = mortal() else { skip!("the reference engine is not ours to kill") };
        if let Err(reason) = app.can_kill_engine() {
            skip!("{reason}");
        }
        (app, turn)
    }};
}

/// Prints 1 to 200000 in portions, for about two seconds.
const COUNTER: &str = "i=0; while [ $i -lt 200 ]; do seq $((i * 1000 + 1)) $((i * 1000 + 1000)); usleep 5000; i=$((i + 1)); done";

fn all_numbers() -> String {
    (1..=200_000).map(|number| format!("{number}\n")).collect()
}

#[test]
fn containers_run_on_as_the_same_process() {
    let (app, _turn) = mortal!();
    let name = app.name("survivor");
    let script = "trap 'exit 17' TERM; echo ready; while :; do usleep 20000; done";
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", script]).succeeds();
    eventually("it is ready", app.patience(), || {
        app.docker(["logs", &name]).text().contains("ready").then_some(())
    });
    let before = app.inspect(&name);
    app.kill_engine();
    let after = app.inspect(&name);
    assert_eq!(before["State"], after["State"]);
    assert_eq!(before["NetworkSettings"], after["NetworkSettings"]);
    app.docker(["exec", &name, "echo", "still here"]).prints("still here\n").succeeds();
    app.docker(["stop", &name]).succeeds();
    assert_eq!(app.inspect(&name)["State"]["ExitCode"], 17);
}

/// H7
#[test]
fn no_line_of_output_is_lost_or_doubled() {
    let (app, _turn) = mortal!();
    let name = app.name("counter");
    app.docker([
        "run",
        "--detach",
        "--name",
        &name,
        &app.busybox(),
        "sh",
        "-c",
        &format!("{COUNTER}; exit 5"),
    ])
    .succeeds();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        app.kill_engine();
    }
    app.docker(["wait", &name]).prints("5\n").succeeds();
    let outcome = app.docker(["logs", &name]).succeeds();
    assert!(outcome.text() == all_numbers(), "{outcome}");
}

#[test]
fn an_attached_client_loses_the_line_but_not_the_container() {
    let (app, _turn) = mortal!();
    let name = app.name("attached");
    let script = format!("{COUNTER}; exit 6");
    let mut attached = app.docker_beside(["run", "--name", &name, &app.busybox(), "sh", "-c", &script]);
    assert_eq!(attached.reads_until("1000"), "1000");
    app.kill_engine();
    // What the client makes of it is its own affair; it must only come to an end.
    attached.finish();
    app.docker(["wait", &name]).prints("6\n").succeeds();
    let outcome = app.docker(["logs", &name]).succeeds();
    assert!(outcome.text() == all_numbers(), "{outcome}");
}

#[test]
fn a_terminal_can_be_attached_again() {
    let (app, _turn) = mortal!();
    let name = app.name("terminal");
    app.docker(["run", "-dit", "--name", &name, &app.busybox(), "sh"]).succeeds();
    app.kill_engine();
    let mut terminal = app.docker_at_terminal(["attach", &name]);
    terminal.types("echo a''gain\n").shows("again").types("exit 4\n");
    terminal.exits(4);
    assert_eq!(app.inspect(&name)["State"]["ExitCode"], 4);
}

#[test]
fn input_reaches_a_program_through_a_new_engine() {
    let (app, _turn) = mortal!();
    let name = app.name("reader");
    app.docker(["run", "-di", "--name", &name, &app.busybox(), "cat"]).succeeds();
    app.kill_engine();
    let path = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1", &*name);
    let mut stream = app.api().hijack(&path, Body::Empty);
    std::io::Write::write_all(&mut stream, b"through\n").expect("the stream takes bytes");
    let frame = pinnace_tests::Frame::read(&mut stream).expect("cat answers");
    assert_eq!((frame.stream, &*frame.payload), (1, &b"through\n"[..]));
}

#[test]
fn an_end_while_the_engine_is_away_is_known() {
    let (app, _turn) = mortal!();
    let (kept, removed, image) = (app.name("ended-away"), app.name("ended-away-rm"), app.busybox());
    let script = "sleep 1; usleep 100000; exit 23";
    app.docker(["run", "--detach", "--name", &kept, &image, "sh", "-c", script]).succeeds();
    app.docker(["run", "--detach", "--rm", "--name", &removed, &image, "sh", "-c", script]).succeeds();
    let end = std::time::Instant::now() + Duration::from_millis(2500);
    while std::time::Instant::now() < end {
        app.kill_engine();
    }
    app.docker(["wait", &kept]).prints("23\n").succeeds();
    eventually("--rm is honoured", app.patience(), || {
        (app.api().get(&format!("/containers/{}/json", &*removed)).head.status == 404).then_some(())
    });
}

#[test]
fn what_was_acknowledged_is_still_there() {
    let (app, _turn) = mortal!();
    let (created, image) = (app.name("created"), app.busybox());
    let id =
        app.docker(["create", "--name", &created, "--label", "kept=yes", &image, "true"]).succeeds().word();
    app.kill_engine();
    let after = app.inspect(&created);
    assert_eq!((&after["Id"], &after["State"]["Status"]), (&id.into(), &"created".into()));
    assert_eq!(after["Config"]["Labels"]["kept"], "yes");
    app.docker(["create", "--name", &created, &image, "true"]).says_on_stderr("is already in use").exits(1);
    app.docker(["start", "--attach", &created]).succeeds();
}

#[test]
fn a_death_at_any_moment_of_a_run_leaves_a_whole_container_or_none() {
    let (app, _turn) = mortal!();
    let image = app.busybox();
    for delay in (0..12).map(|step| Duration::from_millis(step * 7)) {
        let name = app.name("any-moment");
        let run =
            app.docker_beside(["run", "--detach", "--name", &name, &image, "sh", "-c", "sleep 1; exit 3"]);
        std::thread::sleep(delay);
        app.kill_engine();
        run.finish();
        let answer = app.api().get(&format!("/containers/{}/json", &*name));
        if answer.head.status == 404 {
            continue;
        }
        let state = answer.is(200).json()["State"].clone();
        match state["Status"].as_str() {
            Some("created") => app.docker(["start", &name]).succeeds(),
            Some("running" | "exited") => app.docker(["inspect", &name]).succeeds(),
            other => panic!("status {other:?} after the engine died"),
        };
        app.docker(["wait", &name]).prints("3\n").succeeds();
    }
}

#[test]
fn restart_policies_go_on() {
    let (app, _turn) = mortal!();
    let image = app.busybox();
    let (waits, stopped, ends) =
        (app.name("policy-waits"), app.name("policy-stopped"), app.name("policy-ends"));
    let count = |name: &str| app.inspect(name)["RestartCount"].as_u64().expect("a count is a number");
    let run = |name: &str, policy: &str, script: &str| {
        app.docker(["run", "-d", "--restart", policy, "--name", name, &image, "sh", "-c", script]).succeeds();
    };
    run(&waits, "always", "exit 3");
    run(&stopped, "always", "exec sleep 600");
    run(&ends, "on-failure:1", "sleep 1; usleep 200000; exit 4");
    app.docker(["stop", "-t", "0", &stopped]).succeeds();
    eventually("its delay is long", app.patience(), || (count(&waits) >= 5).then_some(()));
    let before = count(&waits);
    // Once in the delay, and once about when the other ends.
    app.kill_engine();
    app.kill_engine();
    eventually("it is started again", app.patience(), || (count(&waits) > before).then_some(()));
    eventually("it ran twice", app.patience(), || {
        let seen = app.inspect(&ends);
        (seen["RestartCount"] == 1 && seen["State"]["Status"] == "exited").then_some(())
    });
    assert_eq!(app.inspect(&ends)["State"]["ExitCode"], 4);
    // What was stopped by hand stays so: only the engine returned, not the machine.
    assert_eq!(app.inspect(&stopped)["State"]["Status"], "exited");
}

#[test]
fn health_goes_on_and_no_probe_is_doubled() {
    let (app, _turn) = mortal!();
    let (well, slow, image) = (app.name("health-well"), app.name("health-slow"), app.busybox());
    let run = |name: &str, check: &str| {
        let args = ["run", "-d", "--name", name, "--health-cmd", check, "--health-interval", "300ms"];
        app.docker(args.into_iter().chain([image.as_str(), "sleep", "600"])).succeeds();
    };
    run(&well, "true");
    run(&slow, "exec sleep 88");
    let health = |name: &str| app.inspect(name)["State"]["Health"].clone();
    eventually("it is healthy", app.patience(), || (health(&well)["Status"] == "healthy").then_some(()));
    for _ in 0..3 {
        app.kill_engine();
        // Known at once, not only after the next probe.
        assert_eq!(health(&well)["Status"], "healthy");
        std::thread::sleep(Duration::from_millis(500));
        let probes = app.docker(["exec", &slow, "ps"]).succeeds().text().matches("sleep 88").count();
        assert!(probes <= 1, "{probes} probes at once");
    }
    let last = health(&well)["Log"][4]["End"].clone();
    eventually("it is asked again", app.patience(), || {
        (health(&well)["Log"][4]["End"] != last).then_some(())
    });
}
