//! Tag Exec.

use std::sync::Arc;

use containers::{ContainerError, Exec, ExecConfig, ExecState};
use hyper::StatusCode;
use process::{Chunk, Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::lifecycle::to_its_end;
use crate::app::App;
use crate::call::Call;
use crate::detach::DetachKeys;
use crate::hijack::{self, Form, Input, Typed};
use crate::reply::{self, ApiError, Reply};
use crate::version::ApiVersion;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    user: String,
    privileged: bool,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: Vec<String>,
    console_size: Option<(u16, u16)>,
}

/// `POST /containers/{id}/exec`.
pub async fn create(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body: CreateBody = call.json().await?.ok_or_else(|| ApiError::bad_request("invalid JSON: EOF"))?;
    DetachKeys::parse(Some(body.detach_keys.as_str()).filter(|keys| !keys.is_empty()))?;
    let config = ExecConfig {
        command: body.cmd,
        user: body.user,
        privileged: body.privileged,
        tty: body.tty,
        attach_stdin: body.attach_stdin,
        attach_stdout: body.attach_stdout,
        attach_stderr: body.attach_stderr,
        env: body.env,
        working_dir: body.working_dir,
        detach_keys: body.detach_keys,
        console_size: body.console_size,
        probe: false,
    };
    let id = app.containers.create_exec(&call.name, config).await?;
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": id })))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct StartBody {
    detach: bool,
    tty: bool,
    console_size: Option<(u16, u16)>,
}

/// The first version whose requests bring a terminal's size.
const CONSOLE_SIZE: ApiVersion = ApiVersion(1, 42);

/// `POST /exec/{id}/start`.
pub async fn start(app: Arc<App>, mut call: Call) -> Result<Reply, ApiError> {
    let body: StartBody = call.json().await?.unwrap_or_default();
    let size = body.console_size.filter(|_| body.tty && call.version >= CONSOLE_SIZE);
    let exec = app.containers.find_exec(&call.name)?;
    if body.detach {
        let claimed = app.containers.claim_exec(&call.name)?;
        to_its_end(async move { app.containers.start_exec(claimed, false, size).await.map(drop) }).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let keys = Some(exec.config.detach_keys.as_str()).filter(|keys| !keys.is_empty());
    let keys = DetachKeys::parse(keys)?;
    let claimed = app.containers.claim_exec(&call.name)?;
    // Clients that read the answer's head through a buffer would lose output that came along with it, so the
    // program is started only when the head is out, as dockerd does.
    let running = app.clone();
    let attached = (exec.config.attach_stdout, exec.config.attach_stderr);
    let output = async move {
        match running.containers.start_exec(claimed, true, size).await {
            Ok(output) => only(attached, output),
            Err(error) => failure(&error),
        }
    };
    // Whether the program has a terminal was said by the create, and its keys go with that; how the stream is written,
    // by this request.
    let keys = exec.config.tty.then_some(keys);
    let input = Keyboard { app: app.clone(), typing: exec.config.attach_stdin, keys, exec };
    hijack::upgrade(&mut call, Form::of(body.tty), output, input).await
}

/// What the create attached of the two streams. The rest is read and forgotten, so that the program does not wait for it.
fn only((stdout, stderr): (bool, bool), mut output: mpsc::Receiver<Chunk>) -> mpsc::Receiver<Chunk> {
    if stdout && stderr {
        return output;
    }
    let (sender, attached) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(chunk) = output.recv().await {
            let wanted = match chunk.stream {
                Stream::Stdout => stdout,
                Stream::Stderr => stderr,
            };
            if wanted && sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    attached
}

fn failure(error: &ContainerError) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(1);
    let bytes = format!("{}\r\n", model::in_go_words(&error.to_string())).into();
    // As dockerd tells it: in the place of the program's standard output. The channel is new and has room.
    let _ = sender.try_send(Chunk { stream: Stream::Stdout, bytes });
    receiver
}

struct Keyboard {
    app: Arc<App>,
    exec: Arc<Exec>,
    typing: bool,
    keys: Option<DetachKeys>,
}

impl Input for Keyboard {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<Typed> {
        if !self.typing {
            return Ok(Typed::On);
        }
        let (bytes, detach) = match &mut self.keys {
            Some(keys) => keys.filter(bytes),
            None => (bytes.to_vec(), false),
        };
        self.exec.write(&bytes).await?;
        if detach {
            self.app.containers.exec_detached(&self.exec);
        }
        Ok(if detach { Typed::Detach } else { Typed::On })
    }

    async fn finish(&mut self) {
        if self.typing {
            self.app.containers.close_exec_stdin(&self.exec).await;
        }
    }
}

/// `POST /exec/{id}/resize`.
pub async fn resize(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let (rows, columns) = super::lifecycle::size(&call)?;
    app.containers.find_exec(&call.name)?.resize(rows, columns).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /exec/{id}/json`.
pub async fn inspect(app: Arc<App>, call: Call) -> Result<Reply, ApiError> {
    let exec = app.containers.find_exec(&call.name)?;
    let config = &exec.config;
    let (running, exit_code, pid) = match exec.state() {
        ExecState::Created | ExecState::Starting => (false, None, 0),
        ExecState::Running { pid } => (true, None, pid),
        ExecState::Exited { exit_code, pid } => (false, Some(exit_code), pid),
    };
    let (entrypoint, arguments) = match config.command.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => ("", &[][..]),
    };
    Ok(reply::ok(&json!({
        "ID": exec.id, "Running": running, "ExitCode": exit_code,
        "ProcessConfig": {
            "tty": config.tty, "entrypoint": entrypoint, "arguments": arguments,
            "privileged": config.privileged, "user": config.user,
        },
        "OpenStdin": config.attach_stdin, "OpenStderr": config.attach_stderr, "OpenStdout": config.attach_stdout,
        "CanRemove": exit_code.is_some(), "ContainerID": exec.container, "DetachKeys": config.detach_keys,
        "Pid": pid,
    })))
}
