//! The docker CLI's context for an appliance.

use crate::host::docker_host;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What became of the context.
pub enum Context {
    /// It points to the appliance.
    Ready,
    /// There is no docker CLI here.
    NoCli,
    /// The docker CLI refused.
    Failed(String),
}

/// Makes the context, or points it to this socket.
pub fn point(name: &str, socket: &Path) -> Context {
    let host = docker_host(socket);
    let verb = match pointed_to(name) {
        Err(_) => return Context::NoCli,
        Ok(Some(seen)) if seen == host => return Context::Ready,
        Ok(Some(_)) => "update",
        Ok(None) => "create",
    };
    let endpoint = format!("host={host}");
    match docker(&["context", verb, name, "--description", "Pinnace appliance", "--docker", &endpoint]) {
        Ok(output) if output.status.success() => Context::Ready,
        Ok(output) => Context::Failed(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
        Err(error) => Context::Failed(error.to_string()),
    }
}

/// Forgets the context, if it is this socket's: one of the same name may be another appliance's.
pub fn forget(name: &str, socket: &Path) {
    if matches!(pointed_to(name), Ok(Some(seen)) if seen == docker_host(socket)) {
        let _ = docker(&["context", "rm", "--force", name]);
    }
}

/// The host of a context; nothing where there is no such context, an error where there is no docker CLI.
fn pointed_to(name: &str) -> std::io::Result<Option<String>> {
    let output = docker(&["context", "inspect", name, "--format", "{{.Endpoints.docker.Host}}"])?;
    let host = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(host))
}

fn docker(args: &[&str]) -> std::io::Result<Output> {
    // DOCKER_HOST and DOCKER_CONTEXT only make these commands warn.
    Command::new("docker").args(args).stdin(Stdio::null()).env_remove("DOCKER_HOST").output()
}
