//! `docker login`, against servers of the test's own.

use crate::{appliance, is_reference};
use pinnace_tests::{Appliance, skip};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;

/// A server on a port of this host that answers each request as `answer` says: status line, headers, body.
fn server(answer: impl Fn(&str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 8192];
            let length = stream.read(&mut request).unwrap_or(0);
            let _ = stream.write_all(answer(&String::from_utf8_lossy(&request[..length])).as_bytes());
        }
    });
    port
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn header(request: &str, name: &str, value: &str) -> bool {
    request.lines().any(|line| line.eq_ignore_ascii_case(&format!("{name}: {value}")))
}

/// `Basic` of `sailor:secret`.
const BASIC: &str = "Basic c2FpbG9yOnNlY3JldA==";

/// A registry that knows one user by password.
fn with_password() -> u16 {
    server(|request| match header(request, "Authorization", BASIC) {
        true => http("200 OK", "", "{}"),
        false => http("401 Unauthorized", "WWW-Authenticate: Basic realm=\"tests\"\r\n", ""),
    })
}

/// A registry that wants a token, which it gives to one user.
fn with_token(app: &Appliance) -> u16 {
    let host = app.host_address.clone();
    let tokens = server(|request| {
        match header(request, "Authorization", BASIC) && request.contains("account=sailor") {
            true => http("200 OK", "", "{\"token\":\"permit\"}"),
            false => http(
                "401 Unauthorized",
                "Content-Type: application/json\r\n",
                "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"incorrect username or password\"}]}",
            ),
        }
    });
    server(move |request| match header(request, "Authorization", "Bearer permit") {
        true => http("200 OK", "", "{}"),
        false => {
            let realm = format!("Bearer realm=\"http://{host}:{tokens}/token\",service=\"tests\"");
            http("401 Unauthorized", &format!("WWW-Authenticate: {realm}\r\n"), "")
        }
    })
}

fn log_in(address: &str, password: &str) -> pinnace_tests::api::Response {
    let body = json!({ "username": "sailor", "password": password, "serveraddress": address });
    appliance().api().post_json("/auth", body)
}

fn succeeds(address: &str) {
    let answer: Value = log_in(address, "secret").is(200).json();
    assert_eq!(answer, json!({ "IdentityToken": "", "Status": "Login Succeeded" }), "{address}");
}

/// B7
#[test]
fn a_registry_without_users_lets_everybody_in() {
    let app = appliance();
    succeeds(&app.registry().address);
    succeeds(&format!("http://{}/v2/", app.registry().address));
}

/// B7
#[test]
fn passwords_are_asked_for() {
    let app = appliance();
    let address = format!("{}:{}", app.host_address, with_password());
    succeeds(&address);
    let told = format!("login attempt to http://{address}/v2/ failed with status: 401 Unauthorized");
    let answer = log_in(&address, "wrong");
    if !is_reference(app) {
        answer.refuses(401, &told);
    }
}

/// B7
#[test]
fn tokens_are_fetched() {
    let app = appliance();
    let address = format!("{}:{}", app.host_address, with_token(app));
    succeeds(&address);
    let told = format!("Get \"http://{address}/v2/\": unauthorized: incorrect username or password");
    log_in(&address, "wrong").refuses(401, &told);
}

/// B7
#[test]
fn without_a_registry_there_is_no_login() {
    log_in("localhost:1", "secret").refuses(500, "localhost:1/v2/");
    if is_reference(appliance()) {
        skip!("the reference engine takes any address");
    }
    log_in("no registry", "secret").is(400);
}

#[test]
fn the_command_line_logs_in() {
    let app = appliance();
    let address = format!("{}:{}", app.host_address, with_password());
    let login = |password: &str| {
        app.docker_fed(password, ["login", "--username", "sailor", "--password-stdin", &address])
    };
    login("secret").mentions("Login Succeeded").succeeds();
    app.docker(["logout", &address]).succeeds();
    login("wrong").says_on_stderr("401 Unauthorized").exits(1);
}
