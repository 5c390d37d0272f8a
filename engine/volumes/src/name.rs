//! Names of volumes, which are names of folders.

/// Longest name, in bytes: NAME_MAX of limits.h.
const NAME_MAX: usize = 255;

/// What is wrong with a name, in dockerd's words.
pub(super) fn check(name: &str) -> Result<(), String> {
    if name.len() == 1 {
        return Err(
            "volume name is too short, names should be at least two alphanumeric characters".to_owned()
        );
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err(format!(
            "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        ));
    }
    if name.len() > NAME_MAX {
        return Err(format!("mkdir {name}: file name too long"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        let check = |name: &str, expected: Option<&str>| {
            let got = check(name).err();
            assert_eq!(got.is_some(), expected.is_some(), "{name} {got:?}");
            assert!(got.unwrap_or_default().contains(expected.unwrap_or_default()), "{name}");
        };
        for good in ["ab", "a_", "A.b-c", "0x", &"d".repeat(64), &"d".repeat(255)] {
            check(good, None);
        }
        check("a", Some("too short"));
        for bad in ["", "-a", "_a", ".a", "a/b", "a b", "ä1", "a:", "a\n", ".."] {
            check(bad, Some("includes invalid characters"));
        }
        check(&"d".repeat(256), Some("file name too long"));
    }
}
