//! The resolver configuration, resolv.conf(5).

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// glibc reads no more name servers than this (MAXNS).
const MOST: usize = 3;

/// The file's text.
fn text(servers: &[Ipv4Addr], domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n"));
    let servers = servers.iter().take(MOST).map(|server| format!("nameserver {server}\n"));
    search.into_iter().chain(servers).collect()
}

/// Writes `path`, or the file it links to: the root is read-only and the image links it to /run. A reader sees
/// the old file or the new.
pub fn write(path: &Path, servers: &[Ipv4Addr], domain: Option<&str>) -> io::Result<()> {
    let file = target(path);
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text(servers, domain))?;
    std::fs::rename(&fresh, &file)
}

fn target(path: &Path) -> PathBuf {
    match std::fs::read_link(path) {
        Ok(link) => path.parent().unwrap_or(Path::new("/")).join(link),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_through_the_link() {
        let root = tempfile::tempdir().unwrap();
        let (link, file) = (root.path().join("resolv.conf"), root.path().join("run.conf"));
        std::os::unix::fs::symlink("run.conf", &link).unwrap();
        let servers: Vec<Ipv4Addr> = (1..=5).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        write(&link, &servers, Some("example.org")).unwrap();
        let want = "search example.org\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        assert_eq!(std::fs::read_to_string(&file).unwrap(), want);
        assert!(link.is_symlink());
        write(&link, &[], None).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    }
}
