//! Clients other than the command line: docker-py, dockerode and bollard, as their users write them.

use crate::appliance;
use bollard::Docker;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::TryStreamExt;
use pinnace_tests::{Program, build_folder, skip};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A virtual environment with docker-py, made once.
fn python() -> PathBuf {
    let folder = build_folder("test-clients").join("docker-py");
    let python = folder.join("bin/python");
    if !folder.join("complete").exists() {
        let long = Duration::from_secs(600);
        Program::new("python3", long).args(["-m", "venv", &folder.to_string_lossy()]).run().succeeds();
        let install = ["-m", "pip", "install", "--quiet", "docker==7.*"];
        Program::new(&python, long).args(install).run().succeeds();
        std::fs::write(folder.join("complete"), "").expect("build/ can be written");
    }
    python
}

#[test]
fn docker_py_does_its_everyday_loop() {
    let app = appliance();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/docker_py.py");
    let program = Program::new(python(), app.patience())
        .args([script.as_os_str()])
        .args([&app.busybox(), &*app.name("py")]);
    let program =
        app.docker_env().into_iter().fold(program, |program, (key, value)| program.env(&key, value));
    program.run().succeeds().mentions("all done\n");
}

/// dockerode's folder, filled once; nothing where this machine has no npm.
fn dockerode() -> Option<PathBuf> {
    let folder = build_folder("test-clients").join("dockerode");
    let npm = std::process::Command::new("npm").arg("--version").output();
    npm.ok().filter(|output| output.status.success())?;
    if !folder.join("complete").exists() {
        let install =
            ["install", "--silent", "--no-fund", "--no-audit", "--prefix", &folder.to_string_lossy()];
        let program = Program::new("npm", Duration::from_secs(600)).args(install).args(["dockerode@5"]);
        program.run().succeeds();
        std::fs::write(folder.join("complete"), "").expect("build/ can be written");
    }
    Some(folder.join("node_modules/dockerode"))
}

#[test]
fn dockerode_attaches_with_and_without_an_upgrade() {
    let app = appliance();
    let Some(module) = dockerode() else { skip!("there is no npm to get dockerode with") };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/dockerode.js");
    let program = Program::new("node", app.patience()).args([script.as_os_str(), module.as_os_str()]);
    let program = program.args([&*app.busybox()]);
    let program =
        app.docker_env().into_iter().fold(program, |program, (key, value)| program.env(&key, value));
    program.run().succeeds().mentions("all done\n");
}

#[tokio::test]
async fn bollard_does_its_everyday_loop() {
    let app = appliance();
    let (name, image) = (app.name("bollard"), app.busybox());
    let socket = app.socket.to_string_lossy().into_owned();
    let docker = Docker::connect_with_unix(&socket, app.patience().as_secs(), bollard::API_DEFAULT_VERSION);
    let docker = docker.expect("the socket is there").negotiate_version().await.expect("it negotiates");
    assert_eq!(docker.ping().await.expect("ping"), "OK");

    let command = ["sh", "-c", "echo from bollard; until test -e /tmp/go; do usleep 20000; done; exit 11"];
    let body = ContainerCreateBody {
        image: Some(image),
        cmd: Some(command.map(str::to_owned).to_vec()),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    docker.create_container(Some(options), body).await.expect("create");
    docker.start_container(&name, None).await.expect("start");
    docker.start_container(&name, None).await.expect("304 is no error");

    // The container ends when it sees the file, and takes the exec along.
    let exec = CreateExecOptions {
        cmd: Some(vec!["sh", "-c", "echo from exec; touch /tmp/go"]),
        attach_stdout: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(&name, exec).await.expect("create exec").id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await.expect("start exec")
    else {
        panic!("the exec is attached")
    };
    let output: Vec<_> = output.try_collect().await.expect("the exec's output");
    assert_eq!(output.iter().map(ToString::to_string).collect::<String>(), "from exec\n");

    let wait = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let waited: Result<Vec<_>, _> = docker.wait_container(&name, Some(wait)).try_collect().await;
    // bollard makes an error of an exit code other than 0.
    let error = waited.expect_err("exit code 11");
    assert!(matches!(error, bollard::errors::Error::DockerContainerWaitError { code: 11, .. }), "{error:?}");
    let logs = LogsOptionsBuilder::default().stdout(true).build();
    let logs: Vec<_> = docker.logs(&name, Some(logs)).try_collect().await.expect("logs");
    assert_eq!(logs.iter().map(ToString::to_string).collect::<String>(), "from bollard\n");
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&name, Some(force)).await.expect("remove");
    let missing = docker.inspect_container(&name, None).await.expect_err("it is gone");
    assert!(missing.to_string().contains("No such container"), "{missing}");
}
