//! A project of real servers, from Debian's packages: nginx before an application whose source is mounted, PostgreSQL with a
//! health check and a volume, Redis that keeps what it has, and a worker that waits for all of them.

use crate::compose::{Project, program};
use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, Backend, build_folder, eventually, skip};

/// The files `nginx.conf`, `site`, `app`, `work.sh` and `.env` are beside it.
const PROJECT: &str = r#"
x-database: &database
  image: ${POSTGRES}
  environment: { PGHOST: db, PGUSER: postgres }
services:
  web:
    image: ${NGINX}
    ports: ["127.0.0.1::80"]
    volumes: ["./nginx.conf:/etc/nginx/nginx.conf:ro", "./site:/site:ro"]
    depends_on: [app]
  app:
    <<: *database
    init: true
    command: perl /app/server.pl
    volumes: ["./app:/app"]
    depends_on: { cache: { condition: service_healthy } }
  db:
    <<: *database
    user: postgres
    command: [postgres, -D, /var/lib/postgresql/15/main, -c, config_file=/etc/postgresql/15/main/postgresql.conf,
      -c, hba_file=/settings/hba, -c, "listen_addresses=*", -c, jit=off, -c, unix_socket_directories=/tmp, -c, external_pid_file=]
    volumes: ["database:/var/lib/postgresql"]
    shm_size: 64m
    configs: [{ source: hba, target: /settings/hba, mode: 0444 }]
    healthcheck: { test: [CMD, pg_isready, --host, 127.0.0.1], interval: 1s, retries: 120 }
  cache:
    image: ${REDIS}
    command: redis-server --bind 0.0.0.0 --protected-mode no --dir /data --appendonly yes
    volumes: ["cache:/data"]
    healthcheck: { test: [CMD-SHELL, "redis-cli ping | grep -q PONG"], interval: 1s, retries: 120 }
  tables:
    <<: *database
    command: psql -c 'CREATE TABLE IF NOT EXISTS jobs (name text)'
    depends_on: { db: { condition: service_healthy } }
  worker:
    <<: *database
    init: true
    command: bash /script/work.sh
    volumes: ["./work.sh:/script/work.sh:ro"]
    depends_on:
      tables: { condition: service_completed_successfully }
      cache: { condition: service_healthy }
configs: { hba: { content: "host all all all trust\nlocal all all trust\n" } }
volumes: { database: {}, cache: {} }
"#;

/// The name of the application is asked for with each request: its container may have been made anew.
const NGINX: &str = r"
worker_processes 1;
error_log /dev/stderr;
events { }
http {
    access_log /dev/stdout;
    resolver 127.0.0.11 valid=1s;
    server {
        listen 80;
        root /site;
        location /app/ { set $app app; proxy_pass http://$app:8000; }
    }
}
";

/// Answers with what `page.pl` makes of a request, which is read again for each.
const SERVER: &str = r#"
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 8000, Listen => 16, ReuseAddr => 1) or die "listen: $!";
sub cache { my $to = IO::Socket::INET->new(PeerAddr => "cache:6379") or die "cache: $!"; print $to "@_\r\n"; my $answer = <$to>; $answer =~ s/\s+$//; $answer }
while (my $client = $server->accept) {
    my $request = <$client>;
    while (defined(my $line = <$client>)) { last if $line eq "\r\n" }
    my ($path) = $request =~ m{^GET /app/(\w*)};
    my $text = eval { (do "/app/page.pl")->($path) } // "error: $@";
    print $client "HTTP/1.0 200 OK\r\nContent-Length: ", length $text, "\r\n\r\n$text";
}
"#;

/// Takes one job after the other from the list in Redis (its protocol's array of two strings) into the table.
const WORK: &str = r#"
exec 3<>/dev/tcp/cache/6379
while printf 'BLPOP jobs 0\r\n' >&3; do
    for line in 1 2 3 4 5; do read -r job <&3 || exit 1; done
    psql -q -c "INSERT INTO jobs VALUES ('${job%?}')" && echo "done: ${job%?}"
done
"#;

/// Two versions of the application.
const PAGES: [&str; 2] = [
    r#"sub { cache("LPUSH jobs $_[0]"); "visit " . substr(cache("INCR visits"), 1) }"#,
    r#"sub { cache("LPUSH jobs $_[0]"); "Welcome! Visit " . substr(cache("INCR visits"), 1) }"#,
];

/// What the worker has done, as the database knows it.
fn jobs(project: &Project<'_>) -> String {
    let query = "SELECT string_agg(name, ' ' ORDER BY name) FROM jobs";
    project.run(&["exec", "-T", "worker", "psql", "-At", "-c", query]).succeeds().word()
}

fn asks(project: &Project<'_>, path: &str, answer: &str) {
    let what = format!("{path} answers {answer}");
    let text = eventually(&what, project.app.patience(), || project.get("web", path));
    assert!(text.ends_with(answer), "{what}: {text}");
}

#[test]
fn a_web_server_an_application_a_database_a_cache_and_a_worker() {
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
    let images = [("NGINX", Image::Nginx), ("POSTGRES", Image::Postgres), ("REDIS", Image::Redis)];
    let settings: Vec<String> =
        images.iter().map(|(name, image)| format!("{name}={}\n", app.image(*image))).collect();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("the folder is ours");
    let make = |name: &str| std::fs::create_dir(path.join(name)).expect("the folder is ours");
    make("site");
    make("app");
    write(".env", &settings.concat());
    write("nginx.conf", NGINX);
    write("site/index.html", "the site");
    write("app/server.pl", SERVER);
    write("app/page.pl", PAGES[0]);
    write("work.sh", WORK);
    let project = Project::of(&app, compose, "servers", folder, PROJECT);
    // `tables` ends, which `--wait` takes for a failure of a service; the worker's condition waits for it.
    project.run(&["up", "--detach"]).succeeds();
    asks(&project, "/", "the site");
    asks(&project, "/app/sweep", "visit 1");
    let mut log = project.beside(&["logs", "--follow", "--no-log-prefix", "worker"]);
    log.reads_until("done: sweep");
    assert_eq!(jobs(&project), "sweep");
    // The source is saved, and the next request has it.
    write("app/page.pl", PAGES[1]);
    asks(&project, "/app/cook", "Welcome! Visit 2");
    log.reads_until("done: cook");
    log.kill();
    project.run(&["logs", "web"]).succeeds().mentions("GET /app/cook");
    // All containers go. What the two servers keep is in their volumes.
    project.run(&["down"]).succeeds();
    assert_eq!(project.left().lines().count(), 2, "the volumes: {}", project.left());
    project.run(&["up", "--detach"]).succeeds();
    assert_eq!(jobs(&project), "cook sweep");
    asks(&project, "/app/bake", "Welcome! Visit 3");
    eventually("the worker works", app.patience(), || (jobs(&project) == "bake cook sweep").then_some(()));
    project.run(&["down", "--volumes"]).succeeds();
    assert_eq!(project.left(), "");
}
