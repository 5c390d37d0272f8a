//! Compose, the real one: a project of a page, a database with a volume and a health check, and workers, on two networks.

use crate::appliance;
use pinnace_tests::{Appliance, Backend, Outcome, Program, Running, build_folder, eventually, skip};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The project. What the database has written outlives its container; the page asks it by its name.
const PROJECT: &str = r#"
services:
  db:
    image: ${IMAGE}
    init: true
    command: sh -c 'date +%s%N >> /data/lives; touch /tmp/ready; exec nc -ll -p 5000 -e cat /data/lives'
    volumes: [data:/data]
    networks: { back: { aliases: [database] } }
    healthcheck: { test: [CMD, test, -f, /tmp/ready], interval: 1s, retries: 30 }
  page:
    image: ${IMAGE}
    init: true
    command: sh -c 'mkdir /page; echo "greetings ${GREETING:-of old}" > /page/index.html; exec busybox httpd -f -p 80 -h /page'
    ports: ["127.0.0.1::80"]
    networks: [front, back]
    depends_on: { db: { condition: service_healthy } }
    restart: unless-stopped
  worker:
    image: ${IMAGE}
    init: true
    command: sleep 600
    networks: [back]
    depends_on: [db]
  tools:
    image: ${IMAGE}
    profiles: [tools]
    networks: [back]
    command: echo a tool was run
networks: { front: {}, back: { internal: true } }
volumes: { data: {} }
"#;

/// The program, where the tests were given it.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::var_os("PINNACE_COMPOSE").map(PathBuf::from).filter(|program| program.is_file())
}

/// A project in a folder of its own, taken down at the end.
pub(crate) struct Project<'a> {
    pub(crate) app: &'a Appliance,
    compose: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) name: String,
}

impl<'a> Project<'a> {
    fn new(app: &'a Appliance, compose: PathBuf, stem: &str) -> Project<'a> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Project::of(app, compose, stem, folder, PROJECT)
    }

    pub(crate) fn of(
        app: &'a Appliance,
        compose: PathBuf,
        stem: &str,
        folder: tempfile::TempDir,
        text: &str,
    ) -> Project<'a> {
        std::fs::write(file(folder.path()), text).expect("the folder is ours");
        let name = app.name(stem).to_owned();
        Project { app, compose, folder, name }
    }

    fn program(&self, words: &[&str], greeting: &str) -> Program {
        let program = Program::new(&self.compose, self.app.patience());
        let program = program.args(["--progress", "quiet", "--project-name", &self.name, "--file"]);
        let program = program.args([file(self.folder.path())]);
        let program =
            self.app.docker_env().into_iter().fold(program, |program, (key, value)| program.env(&key, value));
        program.env("IMAGE", self.app.busybox()).env("GREETING", greeting).args(words)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        self.program(words, "").run()
    }

    /// Compose beside the test.
    pub(crate) fn beside(&self, words: &[&str]) -> Running {
        Running::start(self.program(words, ""), self.app.patience())
    }

    /// The id of a service's container.
    pub(crate) fn id(&self, service: &str) -> String {
        self.run(&["ps", "--all", "--no-trunc", "-q", service]).succeeds().word()
    }

    /// What the page says to a client on this host.
    fn page(&self) -> Option<String> {
        self.get("page", "/")
    }

    /// What a service that listens at port 80 says to a client on this host who asks for `path`.
    pub(crate) fn get(&self, service: &str, path: &str) -> Option<String> {
        let place = self.run(&["port", service, "80"]).succeeds().word();
        let mut stream = TcpStream::connect(place).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.lines().next()?.contains(" 200 ").then_some(answer)
    }

    /// What is left of it in the engine: containers, networks and volumes.
    pub(crate) fn left(&self) -> String {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let list = |words: &[&str]| {
            self.app.docker(words.iter().copied().chain(["--filter", &filter, "-q"])).succeeds().text()
        };
        [list(&["ps", "-a"]), list(&["network", "ls"]), list(&["volume", "ls"])].concat()
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        drop(self.program(&["--profile", "*", "down", "--volumes", "--timeout", "0"], "").run());
    }
}

#[test]
fn a_project_comes_up_changes_and_goes() {
    let app = appliance();
    let Some(compose) = program() else { skip!("there is no docker-compose for these tests") };
    let project = Project::new(app, compose, "compose");
    project.run(&["up", "--detach", "--wait"]).succeeds();
    assert!(app.backend == pinnace_tests::Backend::Reference || reached(&project, "greetings of old"));
    // Names, on a network that leads nowhere else.
    let lives = |project: &Project<'_>| {
        let script = "nc -w 5 database 5000 </dev/null";
        project.run(&["exec", "-T", "worker", "sh", "-c", script]).succeeds().text().lines().count()
    };
    assert_eq!(lives(&project), 1);
    project
        .run(&["exec", "-T", "worker", "busybox", "wget", "-q", "-O", "-", "http://page/"])
        .prints("greetings of old\n");
    project.run(&["ps", "--services"]).mentions("page").mentions("db").never_mentions("tools");
    project.run(&["--profile", "tools", "run", "--rm", "tools"]).mentions("a tool was run");
    // What has changed is made anew, what has not goes on.
    let id = |service: &str| project.run(&["ps", "-q", service]).succeeds().word();
    let (page, db) = (id("page"), id("db"));
    project.program(&["up", "--detach", "--wait", "--scale", "worker=3"], "of new").run().succeeds();
    let changed = project.program(&["ps", "-q", "page"], "of new").run().succeeds().word();
    assert!(changed != page && id("db") == db);
    assert_eq!(project.run(&["ps", "-q", "worker"]).succeeds().lines().len(), 3);
    assert!(app.backend == pinnace_tests::Backend::Reference || reached(&project, "greetings of new"));
    // The database's container goes, what it wrote stays.
    project.run(&["rm", "--force", "--stop", "db"]).succeeds();
    project.run(&["up", "--detach", "--wait"]).succeeds();
    assert_eq!(lives(&project), 2);
    project.run(&["logs", "page"]).succeeds();
    project.run(&["down", "--timeout", "0"]).succeeds();
    let left = project.left();
    assert_eq!(left.lines().count(), 1, "the volume stays: {left}");
    project.run(&["down", "--volumes"]).succeeds();
    assert_eq!(project.left(), "");
}

fn reached(project: &Project<'_>, greeting: &str) -> bool {
    let page = eventually("the page is there", project.app.patience(), || project.page());
    assert!(page.contains(greeting), "{page}");
    true
}

/// A page whose source, settings and secret are files of the host's.
const SOURCE: &str = r#"
services:
  page:
    image: ${IMAGE}
    init: true
    command: busybox httpd -f -p 80 -h /site
    ports: ["127.0.0.1::80"]
    volumes: ["./site:/site:ro", "./written:/written"]
    configs: [{ source: settings, target: /settings }]
    secrets: [token]
configs: { settings: { file: ./settings.conf } }
secrets: { token: { file: ./token } }
"#;

#[test]
fn a_source_on_the_host_is_served_as_it_is_saved() {
    let backend = Backend::of_this_run();
    if backend == Backend::Reference {
        skip!("the reference engine has no host beside its machine");
    }
    let Some(compose) = program() else { skip!("there is no docker-compose for these tests") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = tempfile::tempdir_in(build_folder("test")).expect("a folder");
    let path = folder.path().to_owned();
    let share = path.to_str().expect("UTF-8");
    let app = Appliance::boot_with(backend, place.path(), &["--share", "none", "--share", share]);
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("the folder is ours");
    std::fs::create_dir(path.join("site")).expect("the folder is ours");
    write("site/index.html", "first");
    write("settings.conf", "colour=blue");
    write("token", "mellon");
    let project = Project::of(&app, compose, "source", folder, SOURCE);
    project.run(&["up", "--detach", "--wait"]).succeeds();
    reached(&project, "first");
    write("site/index.html", "second");
    reached(&project, "second");
    std::fs::rename(path.join("site/index.html"), path.join("site/old.html")).expect("the folder is ours");
    write("site/index.html", "third");
    reached(&project, "third");
    let exec = |script: &str| project.run(&["exec", "-T", "page", "sh", "-c", script]).succeeds().text();
    assert_eq!(exec("cat /settings /run/secrets/token; ls /site"), "colour=bluemellonindex.html\nold.html\n");
    exec("echo made > /written/file; ! touch /site/denied 2>/dev/null");
    assert_eq!(std::fs::read_to_string(path.join("written/file")).expect("a file"), "made\n");
    project.run(&["down", "--timeout", "0"]).succeeds();
    assert_eq!(project.left(), "");
}

/// A folder of the tests' own, so that a project that is no project is refused.
#[test]
fn what_is_no_project_is_refused() {
    let app = appliance();
    let Some(compose) = program() else { skip!("there is no docker-compose for these tests") };
    let project = Project::new(app, compose, "compose-bad");
    let write = |text: &str| std::fs::write(file(project.folder.path()), text).expect("the folder is ours");
    write("services: { a: { image: none, networks: [missing] } }\n");
    project.run(&["up", "--detach"]).fails();
    write(
        "services: { a: { image: '${IMAGE}', command: sleep 600, networks: [bad] } }\nnetworks: { bad: { driver: swimming } }\n",
    );
    project.run(&["up", "--detach"]).fails().says_on_stderr("swimming");
    assert_eq!(project.left(), "");
}

fn file(folder: &Path) -> PathBuf {
    folder.join("compose.yaml")
}
