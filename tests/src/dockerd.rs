//! The real dockerd beside the appliance, for proving what Docker does and for measuring in one run.
//!
//! It runs in a network and a mount namespace of its own, so that its bridge and its rules are not this machine's, and reaches this
//! machine, where the registry is, over a cable.

use crate::api::Client;
use crate::guard::Guard;
use crate::workspace::eventually;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// This machine's address for that dockerd.
const HOST: &str = "10.98.7.1";

/// `$1` is the folder with `usr/sbin/dockerd`, `$2` the folder of its data and its socket, `$3` this machine's address.
const RUN: &str = r#"
PATH=$1/usr/bin:$1/usr/sbin:$PATH:/usr/sbin:/sbin
export PATH
unshare --net --mount --propagation private sh -c '
    umount /sys/fs/cgroup/unified 2>/dev/null
    ip link set lo up
    until ip link set dockerd1 up 2>/dev/null; do sleep 0.1; done
    ip address add "${3%.*}.2/24" dev dockerd1
    ip route add default via "$3"
    exec dockerd -H "unix://$2/docker.sock" --data-root "$2/data" --exec-root "$2/exec" --pidfile "$2/pid" \
        --insecure-registry "${3%.*}.0/24" --userland-proxy-path "$1/usr/sbin/docker-proxy"
' dockerd "$1" "$2" "$3" >"$2/log" 2>&1 &
server=$!
until [ "$(readlink /proc/$server/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
ip link add dockerd0 type veth peer name dockerd1 netns $server
ip address add "$3/24" dev dockerd0
ip link set dockerd0 up
"#;

/// dockerd ends its containerd itself.
const END: &str = "kill $server; wait $server; ip link delete dockerd0";

/// A running dockerd; it ends with this value, or with this process.
pub struct Dockerd {
    /// Where its API listens.
    pub socket: PathBuf,
    /// How it names this machine.
    pub host_address: &'static str,
    folder: PathBuf,
    _guard: Guard,
}

impl Dockerd {
    /// Starts the one unpacked at `root`, with its data in `folder`, and waits until it answers. It needs root, runc and
    /// iptables.
    pub fn start(root: &Path, folder: &Path) -> Dockerd {
        let words = [&*root.to_string_lossy(), &*folder.to_string_lossy(), HOST];
        let guard = Guard::new(RUN, END, &words);
        let socket = folder.join("docker.sock");
        let client = Client::unix(&socket, Duration::from_secs(60));
        eventually(
            &format!("dockerd answers; its words are in {}/log", words[1]),
            Duration::from_secs(60),
            || {
                let call = client
                    .try_connect()
                    .ok()?
                    .try_call(b"GET /_ping HTTP/1.1\r\nHost: tests\r\n\r\n")
                    .ok()?;
                call.starts_with("HTTP/1.1 200").then_some(())
            },
        );
        Dockerd { socket, host_address: HOST, folder: folder.to_owned(), _guard: guard }
    }

    /// The processes of dockerd, and of the containerd that it started.
    pub fn processes(&self) -> Vec<String> {
        let pids = ["pid", "exec/containerd/containerd.pid"].map(|name| {
            let text = std::fs::read_to_string(self.folder.join(name));
            text.expect("it writes this file before it answers").trim().to_owned()
        });
        pids.to_vec()
    }
}
