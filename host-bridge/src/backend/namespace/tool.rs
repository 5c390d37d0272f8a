//! The host's own tools, run to their end.

use crate::backend::BackendError;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a tool with this input; its first complaint explains a failure.
pub fn run(program: &str, args: &[&str], input: &str) -> Result<(), BackendError> {
    let tool = format!("{program} {}", args.join(" "));
    let failed = |text: String| BackendError::Tool { tool: tool.clone(), text };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(format!("{error}: is it installed?")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ended early says why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| !line.trim().is_empty());
    Err(failed(line.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())))
}
