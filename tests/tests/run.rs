//! `docker run`: what becomes of its options, and of the exit code.

use crate::{appliance, is_reference};
use pinnace_tests::images::Image;
use serde_json::json;

#[test]
fn a_foreground_container_prints_and_ends() {
    let app = appliance();
    app.docker(["run", "--rm", &app.busybox(), "echo", "hi"]).prints("hi\n").quietly().exits(0);
}

/// F3
#[test]
fn the_exit_code_is_the_programs() {
    let app = appliance();
    let image = app.busybox();
    for code in [0, 1, 3, 42, 255] {
        app.docker(["run", "--rm", &image, "sh", "-c", &format!("exit {code}")]).exits(code);
    }
}

#[test]
fn a_signal_counts_128_more() {
    let app = appliance();
    let image = app.busybox();
    app.docker(["run", "--rm", &image, "sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]).exits(137);
    app.docker(["run", "--rm", &image, "sh", "-c", "exec sh -c 'kill -TERM $$; exit 5'"]).exits(5);
}

/// F2, F3
#[test]
fn a_missing_program_is_127() {
    let app = appliance();
    let outcome = app.docker(["run", "--rm", &app.busybox(), "no-such-program"]).exits(127);
    outcome.says_on_stderr("exec: \"no-such-program\": executable file not found in $PATH");
    let outcome = app.docker(["run", "--rm", &app.busybox(), "/no/such/program"]).exits(127);
    outcome.says_on_stderr("no such file or directory");
}

/// F2, F3
#[test]
fn a_program_that_cannot_be_executed_is_126() {
    let app = appliance();
    let image = app.busybox();
    app.docker(["run", "--rm", &image, "/etc/passwd"]).says_on_stderr("permission denied").exits(126);
    app.docker(["run", "--rm", &image, "/etc"]).exits(126);
}

/// F3
#[test]
fn a_refusal_of_the_engine_is_125() {
    let app = appliance();
    let image = app.busybox();
    let outcome = app.docker(["run", "--rm", "--name", "-bad-name", &image, "true"]).exits(125);
    outcome.says_on_stderr("Invalid container name (-bad-name)");
}

/// F4
#[test]
fn a_failed_start_leaves_a_created_container() {
    let app = appliance();
    let name = app.name("failed-start");
    app.docker(["run", "--name", &name, &app.busybox(), "no-such-program"]).exits(127);
    let state = app.inspect(&name)["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("created"), &json!(127)), "{state}");
    assert!(state["Error"].as_str().is_some_and(|error| error.contains("no-such-program")), "{state}");
}

#[test]
fn detached_prints_the_id_and_runs_on() {
    let app = appliance();
    let name = app.name("detached");
    let id =
        app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds().word();
    assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    let inspect = app.inspect(&name);
    assert_eq!(inspect["Id"], id.as_str());
    assert_eq!(inspect["State"]["Status"], "running");
}

/// F16
#[test]
fn rm_leaves_nothing() {
    let app = appliance();
    let name = app.name("rm-at-end");
    app.docker(["run", "--rm", "--name", &name, &app.busybox(), "true"]).succeeds();
    app.api().get(&format!("/containers/{}/json", &*name)).refuses(404, "No such container");
}

/// P1
#[test]
fn environment_comes_from_engine_and_user() {
    let app = appliance();
    let image = app.busybox();
    let args =
        ["run", "--rm", "--hostname", "ship", "-e", "COLOUR=red and blue", "-e", "EMPTY=", &image, "env"];
    let mut lines = app.docker(args).succeeds().lines();
    lines.sort();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["COLOUR=red and blue", "EMPTY=", "HOME=/root", "HOSTNAME=ship", path]);
}

/// P1
#[test]
fn a_terminal_has_a_term_variable() {
    let app = appliance();
    let mut terminal =
        app.docker_at_terminal(["run", "--rm", "-it", &app.busybox(), "sh", "-c", "echo TERM is $TERM."]);
    terminal.shows("TERM is xterm.");
    terminal.exits(0);
}

/// D29
#[test]
fn the_working_directory_is_made() {
    let app = appliance();
    app.docker(["run", "--rm", "-w", "/a/b/c", &app.busybox(), "pwd"]).prints("/a/b/c\n").succeeds();
    app.docker(["run", "--rm", "-w", "/a/../b/.", &app.busybox(), "pwd"]).prints("/b\n").succeeds();
    let relative = app.docker(["run", "--rm", "-w", "a", &app.busybox(), "pwd"]).exits(125);
    relative.says_on_stderr("the working directory 'a' is invalid, it needs to be an absolute path");
}

/// P2
#[test]
fn users_are_found_by_name_and_number() {
    let app = appliance();
    let image = app.busybox();
    let cases = [
        ("guest", "uid=1000(guest) gid=1000(guest) groups=29(audio),1000(guest)\n"),
        ("1000", "uid=1000(guest) gid=1000(guest) groups=29(audio),1000(guest)\n"),
        ("1000:29", "uid=1000(guest) gid=29(audio) groups=29(audio)\n"),
        ("guest:audio", "uid=1000(guest) gid=29(audio) groups=29(audio)\n"),
        ("4321", "uid=4321 gid=0(root) groups=0(root)\n"),
        ("4321:8765", "uid=4321 gid=8765 groups=8765\n"),
    ];
    for (user, expected) in cases {
        let got = app.docker(["run", "--rm", "-u", user, &image, "id"]).succeeds().word();
        assert_eq!(sorted_groups(&got), sorted_groups(expected.trim()), "user {user}");
    }
}

/// The order of supplementary groups is nobody's promise.
fn sorted_groups(id: &str) -> (String, Vec<String>) {
    let (ids, groups) = id.split_once(" groups=").expect("id prints groups");
    let mut groups: Vec<String> = groups.split(',').map(str::to_owned).collect();
    groups.sort();
    groups.dedup();
    (ids.to_owned(), groups)
}

/// P2
#[test]
fn an_unknown_user_is_told() {
    let app = appliance();
    let outcome = app.docker(["run", "--rm", "-u", "nobody-here", &app.busybox(), "id"]).fails();
    outcome.says_on_stderr("unable to find user nobody-here: no matching entries in passwd file");
}

/// P1
#[test]
fn home_follows_the_user() {
    let app = appliance();
    let home = |user: &str| {
        let args = ["run", "--rm", "-u", user, &app.busybox(), "sh", "-c", "echo $HOME"];
        app.docker(args).succeeds().word()
    };
    assert_eq!(home("root"), "/root");
    assert_eq!(home("guest"), "/home");
    assert_eq!(home("4321"), "/");
}

#[test]
fn an_entrypoint_takes_the_arguments() {
    let app = appliance();
    let image = app.busybox();
    app.docker(["run", "--rm", "--entrypoint", "echo", &image, "a", "b c"]).prints("a b c\n").succeeds();
}

/// D6, D7
#[test]
fn the_images_configuration_is_the_default() {
    let app = appliance();
    let image = app.image(Image::Configured);
    app.docker(["run", "--rm", &image]).prints("entry: default words\n").succeeds();
    app.docker(["run", "--rm", &image, "mine"]).prints("entry: mine\n").succeeds();
    // A new entrypoint drops the image's command.
    app.docker(["run", "--rm", "--entrypoint", "pwd", &image]).prints("/made/by/engine\n").succeeds();
    app.docker(["run", "--rm", "--entrypoint", "", &image, "id", "-un"]).prints("guest\n").succeeds();
    let script = "echo $COLOUR $SIZE";
    let args = ["run", "--rm", "-e", "SIZE=9", "--entrypoint", "sh", &image, "-c", script];
    app.docker(args).prints("green 9\n").succeeds();
}

/// D12: clients take the holder's id from the text.
#[test]
fn a_used_name_is_a_conflict() {
    let app = appliance();
    let (name, image) = (app.name("taken"), app.busybox());
    let id = app.docker(["create", "--name", &name, &image, "true"]).succeeds().word();
    let text = format!(
        "Conflict. The container name \"/{}\" is already in use by container \"{id}\". \
         You have to remove (or rename) that container to be able to reuse that name.",
        &*name
    );
    app.docker(["create", "--name", &name, &image, "true"]).says_on_stderr(&text).exits(1);
    let body = json!({ "Image": image, "Cmd": ["true"] });
    app.api().post_json(&format!("/containers/create?name={}", &*name), body).refuses(409, &text);
}

/// D12
#[test]
fn many_at_once_for_one_name_give_one_container() {
    let app = appliance();
    let (name, image) = (app.name("race"), app.busybox());
    let path = format!("/containers/create?name={}", &*name);
    let create = || app.api().post_json(&path, json!({ "Image": image, "Cmd": ["true"] })).head.status;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}

/// D13
#[test]
fn a_nameless_container_gets_a_name() {
    let app = appliance();
    let id = app.docker(["create", &app.busybox(), "true"]).succeeds().word();
    let name = app.inspect(&id)["Name"].as_str().expect("a name").to_owned();
    let (adjective, noun) = name.trim_start_matches('/').split_once('_').expect("adjective_surname");
    assert!(name.starts_with('/') && !adjective.is_empty() && !noun.is_empty(), "{name}");
    app.docker(["rm", &id]).prints(&format!("{id}\n")).succeeds();
}

/// D5
#[test]
fn nothing_to_run_is_refused() {
    let app = appliance();
    let body = json!({ "Image": app.busybox(), "Entrypoint": [""], "Cmd": [] });
    let answer = app.api().post_json("/containers/create", body);
    if !is_reference(app) {
        answer.refuses(400, "no command specified");
    }
}

#[test]
fn create_and_start_are_two_steps() {
    let app = appliance();
    let name = app.name("two-steps");
    app.docker(["create", "--name", &name, &app.busybox(), "sh", "-c", "echo started; exit 4"]).succeeds();
    assert_eq!(app.inspect(&name)["State"]["Status"], "created");
    app.docker(["start", "--attach", &name]).prints("started\n").exits(4);
    app.docker(["start", "--attach", &name]).prints("started\n").exits(4);
}

/// F1
/// A15
#[test]
fn starting_a_running_container_changes_nothing() {
    let app = appliance();
    let name = app.name("start-twice");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let pid = app.inspect(&name)["State"]["Pid"].clone();
    let answer = app.api().post(&format!("/containers/{}/start", &*name)).is(304);
    assert!(answer.body.is_empty());
    assert_eq!(app.inspect(&name)["State"]["Pid"], pid);
}

/// P10
#[test]
fn files_stay_in_their_container() {
    let app = appliance();
    let (name, image) = (app.name("writes"), app.busybox());
    let script = "test -e /root/file && cat /root/file; echo kept > /root/file; rm -f /etc/group";
    app.docker(["run", "--name", &name, &image, "sh", "-c", script]).succeeds();
    app.docker(["run", "--rm", &image, "ls", "/root/file"]).fails();
    app.docker(["run", "--rm", &image, "ls", "/etc/group"]).succeeds();
    app.docker(["start", "--attach", &name]).prints("kept\n").succeeds();
}

#[test]
fn twenty_containers_run_at_once() {
    let app = appliance();
    let image = app.busybox();
    let run =
        |number: usize| app.docker(["run", "--rm", &image, "echo", &number.to_string()]).succeeds().word();
    let printed: Vec<String> = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..20).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(printed, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}
