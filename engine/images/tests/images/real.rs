//! Debian's `docker-registry` on a free port of loopback, with a folder of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use model::reference::Digest;

use crate::kit::{MANIFEST, Made};

pub struct Real {
    process: Child,
    folder: tempfile::TempDir,
    pub address: String,
}

impl Real {
    pub fn start() -> Real {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address("127.0.0.1");
        Real::serve(folder, address, "")
    }

    /// The same content over https, with a certificate for the host that nobody has signed but itself.
    pub fn with_tls(&self, host: &str) -> (Real, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=registry", "-addext", &format!("subjectAltName=IP:{host}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl is installed").success());
        std::os::unix::fs::symlink(self.folder.path().join("data"), folder.path().join("data")).unwrap();
        let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        (Real::serve(folder, free_address(host), &tls), certificate)
    }

    fn serve(folder: tempfile::TempDir, address: String, tls: &str) -> Real {
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: \
             {address}\n{tls}",
            folder.path().join("data").display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let real = Real { process, folder, address };
        for _ in 0..200 {
            if TcpStream::connect(&real.address).is_ok() {
                return real;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("docker-registry does not listen");
    }

    /// Puts an image there; its name.
    pub fn push(&self, name: &str, tag: &str, made: &Made) -> String {
        for (digest, bytes) in made.blobs() {
            self.push_blob(name, &digest, &bytes);
        }
        self.push_manifest(name, tag, MANIFEST, &made.manifest)
    }

    pub fn push_manifest(&self, name: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let path = format!("/v2/{name}/manifests/{tag}");
        let (head, body) = self.send("PUT", &path, &[("Content-Type", media_type)], bytes);
        assert!(head.starts_with("HTTP/1.1 201"), "{head} {}", String::from_utf8_lossy(&body));
        format!("{}/{name}:{tag}", self.address)
    }

    fn push_blob(&self, name: &str, digest: &str, bytes: &[u8]) {
        let (head, _) = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        let location = head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim();
        let path = location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(location);
        let (head, _) = self.send("PUT", &format!("{path}&digest={digest}"), &[], bytes);
        assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
    }

    /// Where the registry keeps a blob.
    pub fn blob_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

fn free_address(host: &str) -> String {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().to_string()
}

impl Drop for Real {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
