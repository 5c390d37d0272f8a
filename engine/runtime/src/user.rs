//! Who a process runs as: `user[:group]` against the container's own /etc/passwd and /etc/group.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use crate::launch::UserIds;
use crate::rootfs::open_if;

/// A user or group is not known to the container. The texts are those Docker's users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Not in /etc/passwd.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// Not in /etc/group.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// No container has such a number.
    #[error("uids and gids must be in range 0-{ID_MAX}")]
    Range,
}

/// The highest number of a user or group that Docker takes.
const ID_MAX: u32 = i32::MAX as u32;

/// A resolved identity with its home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Numeric ids.
    pub ids: UserIds,
    /// Home folder, `/` where unknown.
    pub home: String,
}

/// Longest /etc/passwd or /etc/group read, in bytes: the files are the image's.
const FILE_MAX: u64 = 1 << 20;

/// Resolves `user` (`uid`, `name`, each with an optional `:gid` or `:group`; empty is root) and further
/// `groups` in the container behind `root`.
///
/// # Errors
/// A name is not in the container's files.
pub fn resolve(root: BorrowedFd<'_>, user: &str, groups: &[String]) -> Result<Identity, UserError> {
    resolve_in(&read(root, "/etc/passwd"), &read(root, "/etc/group"), user, groups)
}

fn read(root: BorrowedFd<'_>, path: &str) -> String {
    let mut text = Vec::new();
    let is_file =
        |stat: &rustix::fs::Stat, _: &_| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if let Ok(file) = open_if(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK, is_file) {
        let _ = std::fs::File::from(file).take(FILE_MAX).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Entry { name, uid, gid, home: fields.nth(1).unwrap_or("/") })
    })
}

fn group(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn resolve_in(
    passwd_text: &str,
    group_text: &str,
    user: &str,
    groups: &[String],
) -> Result<Identity, UserError> {
    let (user, group_name) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let wanted = if user.is_empty() { "0" } else { user };
    let number = number(wanted)?;
    // What is a number is never taken for a name.
    let entry = passwd(passwd_text).find(|e| number.map_or(e.name == wanted, |uid| e.uid == uid));
    let (uid, mut gid, name, home) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.name, entry.home),
        (None, Some(uid)) => (uid, 0, "", "/"),
        (None, None) => return Err(UserError::User(user.to_owned())),
    };
    let mut supplementary = Vec::new();
    match group_name {
        Some(wanted) => gid = group_id(group_text, wanted)?,
        None => supplementary.extend(
            group(group_text)
                .filter(|(_, _, members)| !name.is_empty() && members.split(',').any(|m| m == name))
                .map(|(_, gid, _)| gid),
        ),
    }
    for wanted in groups {
        supplementary.push(group_id(group_text, wanted)?);
    }
    if supplementary.is_empty() || !supplementary.contains(&gid) {
        supplementary.insert(0, gid);
    }
    let mut seen = std::collections::HashSet::new();
    supplementary.retain(|gid| seen.insert(*gid));
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity { ids: UserIds { uid, gid, groups: supplementary }, home: home.to_owned() })
}

fn group_id(text: &str, wanted: &str) -> Result<u32, UserError> {
    let number = number(wanted)?;
    let known = || group(text).find(|(name, _, _)| *name == wanted).map(|(_, gid, _)| gid);
    number.or_else(known).ok_or_else(|| UserError::Group(wanted.to_owned()))
}

/// The number that the text is, as Go reads one; `None` where it is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // Too many digits are out of range as well.
    text.parse()
        .ok()
        .filter(|id| (0..=i64::from(ID_MAX)).contains(id))
        .map(|id: i64| Some(id as u32))
        .ok_or(UserError::Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app\napp:x:1001:\nwheel:x:10:root,app\n";

    #[test]
    fn users_and_groups_are_found() {
        let check = |user: &str, groups: &[&str], expected: Result<(u32, u32, &[u32], &str), UserError>| {
            let groups: Vec<_> = groups.iter().map(|g| (*g).to_owned()).collect();
            let got = resolve_in(PASSWD, GROUP, user, &groups);
            let want = expected.map(|(uid, gid, groups, home)| Identity {
                ids: UserIds { uid, gid, groups: groups.to_vec() },
                home: home.into(),
            });
            assert_eq!(got, want, "{user}");
        };
        check("", &[], Ok((0, 0, &[0, 10], "/root")));
        check("app", &[], Ok((1000, 1001, &[1001, 50, 10], "/home/app")));
        check("1000", &[], Ok((1000, 1001, &[1001, 50, 10], "/home/app")));
        check("app:staff", &[], Ok((1000, 50, &[50], "/home/app")));
        check("4242", &[], Ok((4242, 0, &[0], "/")));
        check("4242:77", &["wheel"], Ok((4242, 77, &[77, 10], "/")));
        check("01000", &[], Ok((1000, 1001, &[1001, 50, 10], "/home/app")));
        check("2147483647:+7", &[], Ok((2_147_483_647, 7, &[7], "/")));
        for big in ["2147483648", "4294967295", "-1", "99999999999999999999", "0:2147483648", "app:-5"] {
            check(big, &[], Err(UserError::Range));
        }
        check("app", &["2147483648"], Err(UserError::Range));
        check("0x10", &[], Err(UserError::User("0x10".into())));
        check("nobody", &[], Err(UserError::User("nobody".into())));
        check("app:nogroup", &[], Err(UserError::Group("nogroup".into())));
    }
}
