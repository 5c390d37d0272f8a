//! The docker CLI's context for an appliance.

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
    let host = format!("unix://{}", socket.display());
    let seen = docker(&["context", "inspect", name, "--format", "{{.Endpoints.docker.Host}}"]);
    let verb = match seen {
        Err(_) => return Context::NoCli,
        Ok(output) if output.status.success() => {
            if String::from_utf8_lossy(&output.stdout).trim() == host {
                return Context::Ready;
            }
            "update"
        }
        Ok(_) => "create",
    };
    let endpoint = format!("host={host}");
    match docker(&["context", verb, name, "--description", "Pinnace appliance", "--docker", &endpoint]) {
        Ok(output) if output.status.success() => Context::Ready,
        Ok(output) => Context::Failed(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
        Err(error) => Context::Failed(error.to_string()),
    }
}

/// Forgets the context; one that is not there is as good.
pub fn forget(name: &str) {
    let _ = docker(&["context", "rm", "--force", name]);
}

fn docker(args: &[&str]) -> std::io::Result<Output> {
    // DOCKER_HOST and DOCKER_CONTEXT only make these commands warn.
    Command::new("docker").args(args).stdin(Stdio::null()).env_remove("DOCKER_HOST").output()
}
