//! What the server may open at all, whatever it is made to do: Landlock, as far as this kernel has it (landlock(7)).

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::path::PathBuf;

/// What is asked for; an older kernel gives what it has.
const ABI_WANTED: ABI = ABI::V6;

/// Takes from this thread, and from those it starts, every file but those below the folders, devices there, running programs,
/// TCP, and signals to others. What is open already stays. False where the kernel has no Landlock.
pub fn to(folders: &[PathBuf]) -> Result<bool, RulesetError> {
    let needed = AccessFs::from_all(ABI_WANTED)
        & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_WANTED))?
        .handle_access(AccessNet::from_all(ABI_WANTED))?
        .scope(Scope::from_all(ABI_WANTED))?
        .create()?
        .add_rules(path_beneath_rules(folders, needed))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;

    #[test]
    fn only_what_is_shared_can_be_opened() {
        let (shared, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = other.path().join("secret");
        fs::write(&secret, "x").unwrap();
        // It is the thread's alone.
        let confined = std::thread::spawn({
            let (shared, secret) = (shared.path().to_owned(), secret.clone());
            move || {
                if !to(std::slice::from_ref(&shared)).unwrap() {
                    return None;
                }
                fs::write(shared.join("file"), "y").unwrap();
                let denied = [
                    fs::read(&secret).map(drop),
                    fs::read("/etc/passwd").map(drop),
                    fs::write(secret.with_file_name("new"), "z"),
                    fs::remove_file(&secret),
                    fs::rename(&secret, shared.join("mine")),
                    fs::hard_link(&secret, shared.join("mine")),
                ];
                Some(denied.map(|result| result.unwrap_err().kind()))
            }
        });
        let Some(denied) = confined.join().unwrap() else {
            skip::skip!("this kernel has no Landlock");
        };
        for (number, kind) in denied.into_iter().enumerate() {
            assert!(
                matches!(kind, ErrorKind::PermissionDenied | ErrorKind::CrossesDevices),
                "{number}: {kind}"
            );
        }
        assert_eq!(fs::read_to_string(&secret).unwrap(), "x");
        assert_eq!(fs::read_to_string(shared.path().join("file")).unwrap(), "y");
    }
}
