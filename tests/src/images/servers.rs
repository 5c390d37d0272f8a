//! Real servers, as Debian packages them: each a minimal Debian with one package more.

use super::debian::bootstrap;
use super::layer::{Compression, Layer};
use super::recipe::Recipe;
use serde_json::json;

const PATH: &str =
    "PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// nginx, which ends its work when it gets SIGQUIT.
pub fn nginx() -> Recipe {
    server("nginx", &["nginx-light"], &[], &["nginx", "-g", "daemon off;"], "SIGQUIT")
}

/// PostgreSQL with the cluster `main` below /var/lib/postgresql, without the compiler for its queries, which has half the
/// size of the image.
pub fn postgres() -> Recipe {
    let compiler =
        ["/usr/lib/llvm-*", "/usr/lib/x86_64-linux-gnu/libLLVM*", "/usr/lib/x86_64-linux-gnu/libz3*"];
    server("postgres", &["postgresql-15"], &compiler, &["postgres"], "SIGINT")
}

/// Redis.
pub fn redis() -> Recipe {
    server("redis", &["redis-server"], &[], &["redis-server"], "SIGTERM")
}

fn server(name: &str, packages: &[&str], leave_out: &[&str], command: &[&str], stop: &str) -> Recipe {
    let root = bootstrap(&format!("debian-{name}"), packages, leave_out);
    Recipe::new()
        .layer(Layer::pack(&root, Compression::Gzip))
        .config(json!({ "Cmd": command, "Env": [PATH], "StopSignal": stop }))
}
