//! `docker top` (L1 to L3).

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, ContainerName, eventually};

fn sleeping(app: &Appliance, stem: &str, options: &[&str]) -> ContainerName {
    let (name, image) = (app.name(stem), app.busybox());
    let mut args = vec!["run", "--detach", "--name", &name];
    args.extend(options);
    args.extend([image.as_str(), "sh", "-c", "sleep 600 & exec sleep 601"]);
    app.docker(args).succeeds();
    // The shell makes room for the one and starts the other in its own time.
    eventually("both sleep", app.patience(), || {
        let lines = app.docker(["top", &name, "-o", "pid,args"]).succeeds().lines();
        let sleeps = |line: &&String| line.split_whitespace().nth(1) == Some("sleep");
        (lines.iter().filter(sleeps).count() == 2).then_some(())
    });
    name
}

/// L1
#[test]
fn processes_are_listed_as_ps_does() {
    let app = appliance();
    let name = sleeping(app, "top", &["--user", "1234"]);
    let answer = app.api().get(&format!("/containers/{}/top", &*name)).is(200).json();
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    assert_eq!(answer["Titles"], serde_json::json!(titles));
    let rows = answer["Processes"].as_array().expect("a list");
    assert_eq!(rows.len(), 2, "{answer}");
    let first = app.inspect(&name)["State"]["Pid"].as_u64().expect("a pid").to_string();
    let row =
        rows.iter().find(|row| row[1] == first.as_str()).expect("the first process by the machine's number");
    assert_eq!((&row[0], &row[7]), (&"1234".into(), &"sleep 601".into()));
    assert!(rows.iter().any(|row| row[2] == first.as_str() && row[7] == "sleep 600"), "{answer}");
    assert!(rows.iter().all(|row| row[5] == "?" && row[6] == "00:00:00"), "{answer}");
}

/// L1, L2
#[test]
fn columns_are_chosen() {
    let app = appliance();
    let name = sleeping(app, "top-columns", &["-t"]);
    app.docker(["top", &name, "aux"])
        .succeeds()
        .mentions("%CPU")
        .mentions("pts/0")
        .mentions("root")
        .mentions("sleep 601");
    let lines = app.docker(["top", &name, "-o", "pid,comm"]).succeeds().lines();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND"]);
    assert!(lines[1..].iter().all(|line| line.ends_with("sleep")), "{lines:?}");
    app.docker(["top", &name, "axo", "pid,user,args"]).succeeds().mentions("sleep 600");
}

/// L2
#[test]
fn rows_are_sorted_as_asked() {
    let app = appliance();
    let name = sleeping(app, "top-sort", &[]);
    app.docker(["exec", "--detach", &name, "sleep", "700"]).succeeds();
    let ends = |words: &[&str]| {
        let lines = app.docker(["top", &name].into_iter().chain(words.iter().copied())).succeeds().lines();
        lines[1..]
            .iter()
            .filter_map(|line| line.split(' ').next_back().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    pinnace_tests::eventually("all run", app.patience(), || (ends(&["aux"]).len() == 3).then_some(()));
    assert_eq!(ends(&["-o", "pid,args", "--sort=args"]), ["600", "601", "700"]);
    assert_eq!(ends(&["-o", "pid,args", "--sort", "-args"]), ["700", "601", "600"]);
    assert_eq!(ends(&["aux", "--sort=-pid"])[0], "700");
    assert_eq!(ends(&["axo", "pid,args", "k", "-args"]), ["700", "601", "600"]);
    let bad = format!("/containers/{}/top?ps_args=aux+--sort%3Dnope", &*name);
    app.api().get(&bad).refuses(500, "ps: error: unknown sort specifier");
}

/// L1
#[test]
fn a_program_that_was_just_started_is_told_with_its_arguments() {
    let app = appliance();
    let image = app.busybox();
    for _ in 0..20 {
        let name = app.name("top-soon");
        app.docker(["create", "--name", &name, &image, "sleep", "600"]).succeeds();
        let api = app.api();
        api.post(&format!("/containers/{}/start", &*name)).is(204);
        let rows = api.get(&format!("/containers/{}/top?ps_args=-o+pid,args", &*name)).is(200).json();
        assert_eq!(rows["Processes"][0][1], "sleep 600", "{rows}");
    }
}

/// L2, L3
#[test]
fn bad_words_are_refused() {
    let app = appliance();
    let name = sleeping(app, "top-bad", &[]);
    let top = |words: &str| app.api().get(&format!("/containers/{}/top?ps_args={words}", &*name));
    top("-o+user").refuses(500, "Couldn't find PID field in ps output");
    if !is_reference(app) {
        top("-o+user%3DPID").refuses(500, "specifying \"user=PID\" is not allowed");
        top("-L").refuses(500, "ps: unsupported argument \"-L\"");
    }
    app.docker(["kill", &name]).succeeds();
    app.docker(["wait", &name]).succeeds();
    let id = app.inspect(&name)["Id"].as_str().expect("an id").to_owned();
    top("").refuses(409, &format!("container {id} is not running"));
    app.docker(["top", "no-such"]).fails().says_on_stderr("No such container: no-such");
}
