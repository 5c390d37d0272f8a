//! A request that is refused before its body was read is heard by a client that writes all of it first.

use crate::appliance;
use pinnace_tests::api::Body;
use serde_json::json;

/// More than all buffers on the way take together.
const LARGE: usize = 8 << 20;

/// A14
#[test]
fn a_refusal_is_heard_behind_a_large_body() {
    let app = appliance();
    let body = vec![0; LARGE];
    let refused = [
        ("POST", "/nowhere", "application/x-tar", 404),
        ("PUT", "/containers/no-such/archive?path=/", "application/x-tar", 404),
        ("POST", "/v1.99/build", "application/x-tar", 400),
        ("POST", "/containers/create", "application/json", 400),
        ("GET", "/info", "text/plain", 200),
    ];
    for (method, path, kind, status) in refused {
        for _ in 0..3 {
            app.api().call(method, path, Body::Bytes(kind, &body)).is(status);
        }
    }
}

/// A14
#[test]
fn a_refusal_is_heard_each_time() {
    let app = appliance();
    let body = json!({ "Name": "x".repeat(100) });
    for _ in 0..100 {
        app.api().post_json("/nowhere", body.clone()).is(404);
    }
}

/// A24
#[test]
fn a_connection_is_used_again_behind_a_refusal() {
    let app = appliance();
    let mut connection = app.api().connect();
    let body = vec![0; 1 << 20];
    for _ in 0..5 {
        connection.call("POST", "/nowhere", Body::Bytes("application/x-tar", &body)).is(404);
    }
    connection.call("GET", "/_ping", Body::Empty).is(200);
}
