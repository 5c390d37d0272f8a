//! `docker stats` and `docker system df` (L4 to L8, B6).

use crate::appliance;
use serde_json::{Value, json};

/// L4, L5, L6, L7
#[test]
fn two_samples_are_compared() {
    let app = appliance();
    let name = app.name("stats");
    let id = app
        .docker(["run", "--detach", "--name", &name, &app.busybox(), "sh", "-c", "while :; do :; done"])
        .succeeds()
        .word();
    let get = |query: &str| app.api().get(&format!("/containers/{}/stats?{query}", &*name)).is(200).json();
    let two = get("stream=0");
    assert_eq!((&two["id"], &two["name"]), (&json!(id), &json!(format!("/{}", &*name))));
    let used = |of: &str| two[of]["cpu_usage"]["total_usage"].as_u64().expect("nanoseconds");
    let spent = used("cpu_stats") - used("precpu_stats");
    assert!(spent > 20_000_000, "{spent} ns in about a second of a busy loop");
    let system = |of: &str| two[of]["system_cpu_usage"].as_u64().expect("nanoseconds");
    assert!(system("cpu_stats") > system("precpu_stats"));
    assert!(two["cpu_stats"]["online_cpus"].as_u64() > Some(0));
    assert!(two["read"].as_str() > two["preread"].as_str(), "{two}");
    assert!(two["networks"]["eth0"]["rx_bytes"].is_u64(), "{two}");
    assert!(two["networks"]["lo"].is_null());
    for field in
        ["rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"]
    {
        assert!(two["networks"]["eth0"][field].is_u64(), "{field} in {two}");
    }
    for field in ["usage_in_kernelmode", "usage_in_usermode"] {
        assert!(two["cpu_stats"]["cpu_usage"][field].is_u64(), "{field} in {two}");
    }
    // Not with version 2 of control groups.
    assert!(two["cpu_stats"]["cpu_usage"]["percpu_usage"].is_null(), "{two}");
    for field in ["periods", "throttled_periods", "throttled_time"] {
        assert!(two["cpu_stats"]["throttling_data"][field].is_u64(), "{field} in {two}");
    }
    assert_eq!((&two["num_procs"], &two["storage_stats"]), (&json!(0), &json!({})));
    let others = ["io_serviced_recursive", "io_queue_recursive", "io_time_recursive", "sectors_recursive"];
    assert!(others.iter().all(|list| two["blkio_stats"][list].is_null()), "{two}");
    assert!(two["pids_stats"].is_object() && two["blkio_stats"].is_object(), "{two}");
    let one = get("stream=0&one-shot=1");
    assert_eq!(one["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(one["preread"], "0001-01-01T00:00:00Z");
    // Where control groups have no memory controller the field is empty, as dockerd has it then.
    if let Some(usage) = one["memory_stats"]["usage"].as_u64() {
        assert!(usage > 0 && one["memory_stats"]["limit"].as_u64() > Some(usage), "{one}");
        assert!(one["memory_stats"]["stats"]["inactive_file"].is_u64(), "{one}");
        assert!(one["pids_stats"]["current"].as_u64() > Some(0), "{one}");
    } else {
        assert_eq!(one["memory_stats"], json!({}));
    }
    app.docker(["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}}", &name])
        .succeeds()
        .mentions(&format!("{} ", &*name))
        .mentions("%");
}

/// L4
#[test]
fn a_stream_has_a_record_a_second_and_ends_with_the_container() {
    let app = appliance();
    let name = app.name("stats-stream");
    app.docker(["run", "--detach", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let mut stream = app.api().stream("GET", &format!("/containers/{}/stats", &*name));
    let first = stream.next_json().expect("a record");
    let second = stream.next_json().expect("another");
    assert_eq!(first["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(second["preread"], first["read"]);
    app.docker(["rm", "--force", &name]).succeeds();
    let rest = std::iter::from_fn(|| stream.next_json()).count();
    assert!(rest < 10, "{rest} more records");
}

/// L8
#[test]
fn what_does_not_run_uses_nothing() {
    let app = appliance();
    let name = app.name("stats-none");
    app.docker(["create", "--name", &name, &app.busybox(), "true"]).succeeds();
    let answer = app.api().get(&format!("/containers/{}/stats?stream=0", &*name)).is(200).json();
    assert_eq!((&answer["name"], &answer["memory_stats"]), (&json!(format!("/{}", &*name)), &json!({})));
    assert_eq!(answer["cpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(answer["read"], "0001-01-01T00:00:00Z");
    app.api().get("/containers/no-such/stats?stream=0").refuses(404, "No such container: no-such");
    let both = format!("/containers/{}/stats?stream=1&one-shot=1", &*name);
    app.api().get(&both).refuses(400, "cannot have stream=true and one-shot=true");
}

/// B6
#[test]
fn disk_usage_counts_what_exists() {
    let app = appliance();
    let name = app.name("df");
    app.docker([
        "run",
        "--name",
        &name,
        &app.busybox(),
        "dd",
        "if=/dev/zero",
        "of=/file",
        "bs=1k",
        "count=64",
    ])
    .succeeds();
    let old = app.api().get("/v1.44/system/df").is(200).json();
    for list in ["Images", "Containers", "Volumes", "BuildCache"] {
        assert!(old[list].is_array(), "{list}");
    }
    assert!(old["LayersSize"].as_u64() > Some(0) && old["ImageUsage"].is_null(), "{old}");
    let mine = |rows: &Value| {
        let rows = rows.as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["Names"] == json!([format!("/{}", &*name)])).expect("this container")
    };
    assert!(mine(&old["Containers"])["SizeRw"].as_u64() >= Some(65_536));
    let new = app.api().get("/v1.52/system/df").is(200).json();
    assert!(new["ContainerUsage"]["TotalCount"].as_u64() >= Some(1), "{new}");
    assert!(new["ContainerUsage"]["Items"].is_null() && new["Containers"].is_array());
    let verbose = app.api().get("/v1.52/system/df?verbose=1&type=container").is(200).json();
    mine(&verbose["ContainerUsage"]["Items"]);
    assert!(verbose["Containers"].is_null() && verbose["ImageUsage"].is_null(), "{verbose}");
    app.api().get("/system/df?type=nonsense").refuses(400, "unknown object type: nonsense");
    app.docker(["system", "df"]).succeeds().mentions("Images").mentions("Containers").mentions("Build Cache");
}
