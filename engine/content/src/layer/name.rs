//! Names in an archive, cleaned lexically as Go's `filepath.Clean` does it for Docker.

use super::LayerError;

/// Longest name, in bytes: PATH_MAX of limits.h.
const PATH_MAX: usize = 4096;

/// Removes `.`, `..`, doubled and leading slashes; empty is the layer's root. A name that would leave the root
/// is refused.
pub fn clean(name: &[u8]) -> Result<Vec<u8>, LayerError> {
    let outside = || LayerError::Outside(String::from_utf8_lossy(name).into_owned());
    if name.len() > PATH_MAX {
        return Err(LayerError::Malformed("a name is longer than 4096 bytes"));
    }
    if name.contains(&0) {
        return Err(LayerError::Malformed("a name contains a null byte"));
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop().ok_or_else(outside)?),
            _ => components.push(component),
        }
    }
    Ok(components.join(&b'/'))
}

/// The folder and the last component of a cleaned name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("a/../b", Some("b")),
            ("a/b/../../c", Some("c")),
            ("", Some("")),
            ("./", Some("")),
            ("a/..", Some("")),
            ("..", None),
            ("../a", None),
            ("a/../../b", None),
            ("/../etc", None),
            ("...", Some("...")),
        ] {
            let got = clean(name.as_bytes()).ok();
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{name}");
        }
        assert!(clean(b"a\0b").is_err());
        assert!(clean(&[b'a'; 4097]).is_err());
    }

    proptest! {
        #[test]
        fn a_clean_name_has_only_ordinary_components(name in "[a./]{0,40}") {
            if let Ok(path) = clean(name.as_bytes()) {
                prop_assert!(path.is_empty() || path.split(|b| *b == b'/').all(|c| !matches!(c, b"" | b"." | b"..")));
                prop_assert_eq!(clean(&path).unwrap(), path);
            }
        }
    }
}
