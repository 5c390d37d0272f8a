//! Where the tests keep what they make, and how they wait.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A folder below the tree's `build/`, made if it is not there.
pub fn build_folder(below: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build").join(below);
    std::fs::create_dir_all(&folder).expect("build/ can be written");
    folder.canonicalize().expect("the folder was just made")
}

/// Asks again and again until the answer is there; panics with `what` after `patience`.
pub fn eventually<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
