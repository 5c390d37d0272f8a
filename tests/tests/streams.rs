//! Standard input, output and error: every byte, in order, on the right stream.

use crate::appliance;
use pinnace_tests::Frames;
use pinnace_tests::api::Body;
use pinnace_tests::images::digest;
use serde_json::json;
use std::io::{Read, Write};

/// Bytes that no compression, text mode or framing mistake leaves alone.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

const EIGHT_MEGABYTES: usize = 8 << 20;

#[test]
fn both_outputs_stay_apart() {
    let app = appliance();
    let outcome =
        app.docker(["run", "--rm", &app.busybox(), "sh", "-c", "echo out; echo err >&2; echo more"]);
    let outcome = outcome.prints("out\nmore\n").exits(0);
    assert_eq!(outcome.stderr, b"err\n");
}

/// G6
#[test]
fn input_reaches_the_program_and_its_end_too() {
    let app = appliance();
    app.docker_fed("hi\n", ["run", "--rm", "-i", &app.busybox(), "cat"]).prints("hi\n").exits(0);
}

#[test]
fn without_i_there_is_no_input() {
    let app = appliance();
    app.docker_fed("hi\n", ["run", "--rm", &app.busybox(), "cat"]).prints("").exits(0);
}

#[test]
fn empty_input_ends_at_once() {
    let app = appliance();
    app.docker_fed("", ["run", "--rm", "-i", &app.busybox(), "wc", "-c"]).prints("0\n").exits(0);
}

#[test]
fn eight_megabytes_go_in() {
    let app = appliance();
    let bytes = noise(EIGHT_MEGABYTES);
    let sum = digest(&bytes).replace("sha256:", "");
    let outcome = app.docker_fed(bytes, ["run", "--rm", "-i", &app.busybox(), "sha256sum"]);
    outcome.prints(&format!("{sum}  -\n")).exits(0);
}

/// G7
#[test]
fn eight_megabytes_come_out() {
    let app = appliance();
    let script = "dd if=/dev/urandom of=/tmp/noise bs=1M count=8 2>/dev/null; cat /tmp/noise; sha256sum </tmp/noise >&2";
    let outcome = app.docker(["run", "--rm", &app.busybox(), "sh", "-c", script]).exits(0);
    assert_eq!(outcome.stdout.len(), EIGHT_MEGABYTES);
    let sum = digest(&outcome.stdout).replace("sha256:", "");
    outcome.says_on_stderr(&sum);
}

#[test]
fn eight_megabytes_go_through_and_back() {
    let app = appliance();
    let bytes = noise(EIGHT_MEGABYTES);
    let outcome = app.docker_fed(bytes.clone(), ["run", "--rm", "-i", &app.busybox(), "cat"]).exits(0);
    assert_eq!(digest(&outcome.stdout), digest(&bytes));
}

#[test]
fn many_lines_on_both_streams_keep_their_order() {
    let app = appliance();
    let script = "for i in $(seq 5000); do echo out $i; echo err $i >&2; done";
    let outcome = app.docker(["run", "--rm", &app.busybox(), "sh", "-c", script]).exits(0);
    let expected = |word: &str| (1..=5000).map(|i| format!("{word} {i}\n")).collect::<String>();
    assert!(outcome.text() == expected("out"), "{outcome}");
    assert!(String::from_utf8_lossy(&outcome.stderr) == expected("err"), "{outcome}");
}

#[test]
fn a_program_that_ends_early_does_not_hang_its_feeder() {
    let app = appliance();
    let bytes = noise(EIGHT_MEGABYTES);
    app.docker_fed(bytes, ["run", "--rm", "-i", &app.busybox(), "head", "-c", "1"]).exits(0);
}

/// G1, G2, G5, G7
#[test]
fn attach_before_start_misses_no_byte() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("first-byte"));
    let create = json!({ "Image": app.busybox(), "Cmd": ["sh", "-c", "echo first; echo second >&2"] });
    api.post_json(&format!("/containers/create?name={}", &*name), create).is(201);
    let attach = format!("/v1.41/containers/{}/attach?stream=1&stdout=1&stderr=1", &*name);
    let mut stream = api.hijack(&attach, Body::Empty);
    assert_eq!((stream.head.status, &*stream.head.reason), (101, "UPGRADED"));
    assert_eq!(stream.head.header("Upgrade"), Some("tcp"));
    assert_eq!(stream.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    // The CLI closes its side before it starts the container (G5).
    stream.half_close();
    api.post(&format!("/containers/{}/start", &*name)).is(204);
    let frames = Frames::read(stream);
    assert_eq!((&*frames.stdout(), &*frames.stderr()), ("first\n", "second\n"));
}

/// G2
#[test]
fn newer_clients_are_told_that_the_stream_is_multiplexed() {
    let app = appliance();
    if crate::is_reference(app) {
        return;
    }
    let (api, name) = (app.api(), app.name("content-type"));
    let body = json!({ "Image": app.busybox(), "Cmd": ["true"] });
    api.post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    for (version, kind) in [("v1.41", "raw"), ("v1.42", "multiplexed"), ("v1.55", "multiplexed")] {
        let path = format!("/{version}/containers/{}/attach?stream=1&stdout=1", &*name);
        let expected = format!("application/vnd.docker.{kind}-stream");
        assert_eq!(api.hijack(&path, Body::Empty).head.header("Content-Type"), Some(&*expected));
    }
}

/// G1: without an upgrade the connection is raw behind a plain 200, in both directions.
#[test]
fn attach_without_upgrade_is_a_raw_stream() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("no-upgrade"));
    let script = "echo old client; cat; echo err >&2";
    let body =
        json!({ "Image": app.busybox(), "Cmd": ["sh", "-c", script], "OpenStdin": true, "StdinOnce": true });
    api.post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    let path = format!("/v1.45/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1", &*name);
    // dockerode sends its options as JSON, too; they are not for the program.
    let options = json!({ "stream": true, "stdin": true, "stdout": true, "stderr": true });
    let mut stream = api.raw(&path, Body::Json(&options));
    assert_eq!((stream.head.status, &*stream.head.reason), (200, "OK"));
    assert_eq!(stream.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    for absent in ["Transfer-Encoding", "Content-Length", "Upgrade"] {
        assert_eq!(stream.head.header(absent), None);
    }
    api.post(&format!("/containers/{}/start", &*name)).is(204);
    stream.write_all(b"typed\n").expect("the stream takes bytes");
    stream.half_close();
    // Framed all the same.
    let frames = Frames::read(stream);
    assert_eq!((&*frames.stdout(), &*frames.stderr()), ("old client\ntyped\n", "err\n"));
}

/// G1, G16: what is typed follows the JSON on the same connection, whatever packets it comes in.
#[test]
fn exec_without_upgrade_is_a_raw_stream() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("exec-no-upgrade"));
    app.docker(["run", "-d", "--name", &name, &app.busybox(), "sleep", "600"]).succeeds();
    let command = ["sh", "-c", "echo out; cat; exit 3"];
    for tty in [false, true] {
        let create = json!({
            "Cmd": command, "Tty": tty, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
        });
        let id = api.post_json(&format!("/containers/{}/exec", &*name), create).is(201).json()["Id"].clone();
        let id = id.as_str().expect("an id");
        let start = json!({ "Detach": false, "Tty": tty });
        let mut stream = api.raw(&format!("/exec/{id}/start"), Body::Json(&start));
        assert_eq!((stream.head.status, &*stream.head.reason), (200, "OK"));
        assert_eq!(stream.head.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
        if tty {
            stream.write_all(b"typed\n\x04").expect("the stream takes bytes");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("text");
            // The terminal's echo may come between a line and its end.
            assert!(text.contains("out") && text.ends_with("typed\r\n"), "{text:?}");
        } else {
            stream.write_all(b"typed\n").expect("the stream takes bytes");
            stream.half_close();
            assert_eq!(Frames::read(stream).stdout(), "out\ntyped\n");
        }
        let after = api.get(&format!("/exec/{id}/json")).is(200).json();
        assert_eq!((&after["Running"], &after["ExitCode"]), (&json!(false), &json!(3)), "{after}");
    }
}

/// G1: both forms on a connection that served requests before.
#[test]
fn a_used_connection_can_become_raw() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("used-raw"));
    let body = json!({ "Image": app.busybox(), "Cmd": ["echo", "hi"] });
    api.post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    for headers in [&[][..], &[("Connection", "Upgrade"), ("Upgrade", "tcp")]] {
        let mut connection = api.connect();
        connection.call("GET", "/_ping", Body::Empty).is(200);
        let path = format!("/containers/{}/attach?stream=1&stdout=1", &*name);
        let stream = connection.into_raw(&path, headers, Body::Empty);
        assert_eq!(stream.head.status, if headers.is_empty() { 200 } else { 101 });
        api.post(&format!("/containers/{}/start", &*name)).is(204);
        assert_eq!(Frames::read(stream).stdout(), "hi\n");
        api.post(&format!("/containers/{}/wait", &*name)).is(200);
    }
}

/// G4, G6
#[test]
fn input_sent_before_start_is_kept() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("early-input"));
    let create = json!({ "Image": app.busybox(), "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true });
    api.post_json(&format!("/containers/create?name={}", &*name), create).is(201);
    let attach = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1", &*name);
    let mut stream = api.hijack(&attach, Body::Empty);
    stream.write_all(b"early\n").expect("the stream takes bytes");
    stream.half_close();
    api.post(&format!("/containers/{}/start", &*name)).is(204);
    assert_eq!(Frames::read(stream).stdout(), "early\n");
    let wait = api.post(&format!("/containers/{}/wait", &*name)).is(200).json();
    assert_eq!(wait["StatusCode"], 0);
}

/// One message from the server: its opcode and its bytes.
fn message(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a message begins");
    assert!(head[1] < 126, "a short message");
    let mut bytes = vec![0; usize::from(head[1])];
    stream.read_exact(&mut bytes).expect("a message is whole");
    (head[0], bytes)
}

/// G13
#[test]
fn a_websocket_carries_both_directions() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("websocket"));
    let script = "read line; echo got $line; read line; echo to stderr >&2";
    let body = json!({ "Image": app.busybox(), "Cmd": ["sh", "-c", script], "OpenStdin": true });
    api.post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    api.post(&format!("/containers/{}/start", &*name)).is(204);
    let path = format!("/containers/{}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", &*name);
    let mut socket = api.websocket(&path);
    assert_eq!(socket.head.status, 101);
    assert_eq!(socket.head.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    // Clients mask; a mask of zeros changes nothing. First a binary message, then text.
    socket.write_all(b"\x82\x86\0\0\0\0hello\n").expect("the socket takes bytes");
    assert_eq!(message(&mut socket), (0x82, b"got hello\n".to_vec()));
    socket.write_all(b"\x81\x82\0\0\0\0x\n").expect("the socket takes bytes");
    assert_eq!(message(&mut socket), (0x82, b"to stderr\n".to_vec()));
    // The end of the container closes it.
    assert_eq!(message(&mut socket).0, 0x88);
    api.get(&path).refuses(400, "websocket");
}

/// G13
#[test]
fn input_that_nobody_reads_does_not_hold_back_the_output_of_a_websocket() {
    let app = appliance();
    let (api, name) = (app.api(), app.name("websocket-full"));
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; echo tick $i; done";
    let body = json!({ "Image": app.busybox(), "Cmd": ["sh", "-c", script], "OpenStdin": true });
    api.post_json(&format!("/containers/create?name={}", &*name), body).is(201);
    let path = format!("/containers/{}/attach/ws?stream=1&stdin=1&stdout=1", &*name);
    let mut socket = api.websocket(&path);
    api.post(&format!("/containers/{}/start", &*name)).is(204);
    // More than a pipe takes; 126 announces a length of two bytes.
    for _ in 0..3 {
        let head = [0x82, 0x80 | 126, 0xff, 0xff, 0, 0, 0, 0];
        socket.write_all(&[&head[..], &[b'x'; 0xffff]].concat()).expect("the socket takes bytes");
    }
    for tick in 1..=10 {
        assert_eq!(message(&mut socket), (0x82, format!("tick {tick}\n").into_bytes()));
    }
    assert_eq!(message(&mut socket).0, 0x88);
}
