//! Takes names from images and removes images. Who may is decided by [`plan`], which is pure.

use model::reference::Reference;
use store::{Durability, Holder};

use super::records::{IMAGES, MANIFESTS, REFERENCES};
use super::{Image, ImageError, ImageId, Images, Shared};

/// One thing that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name, familiar form.
    Untagged(String),
    /// An image, by id.
    Deleted(String),
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    untag: Vec<Reference>,
    delete: bool,
}

/// Who uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    /// Its id without the kind: the container's.
    id: String,
    running: bool,
}

impl Images {
    /// Removes a name, and the image with its last name; or, by id, the image with its names when they are of
    /// one repository. `running` tells of a holder whether it runs. Blocks on the disk.
    pub fn delete(
        &self,
        text: &str,
        force: bool,
        running: &dyn Fn(&Holder) -> bool,
    ) -> Result<Vec<Removed>, ImageError> {
        let shared = &self.shared;
        let changing = shared.change();
        if let Some(removed) = shared.remove_damaged_name(text)? {
            return Ok(vec![removed]);
        }
        let image = self.resolve(text)?;
        let named = named_by(text, &image);
        let removed = loop {
            let holders = self.holders(&image.id)?;
            let references = shared.index().references_of(&image.id);
            let users: Vec<User> = holders.iter().map(|holder| user(holder, running)).collect();
            let plan = plan(&image.id, named.as_ref(), &references, &users, force)?;
            if let Some(removed) = shared.carry_out(&image.id, plan, holders)? {
                break removed;
            }
        };
        drop(changing);
        shared.collect()?;
        shared.publish_removed(&image.id, &removed);
        Ok(removed)
    }
}

impl Shared {
    /// Records, then index; the files are left to [`Shared::collect`]. `None` when the holders have changed, so
    /// that the plan is void.
    pub(super) fn remove(
        &self,
        id: &ImageId,
        untag: Vec<Reference>,
        delete: bool,
        holders: Vec<Holder>,
    ) -> Result<Option<Vec<Removed>>, ImageError> {
        self.carry_out(id, Plan { untag, delete }, holders)
    }

    fn carry_out(
        &self,
        id: &ImageId,
        plan: Plan,
        holders: Vec<Holder>,
    ) -> Result<Option<Vec<Removed>>, ImageError> {
        let (key, names) = (id.clone(), plan.untag.clone());
        let gone = if plan.delete { self.index().manifests_only_of(id) } else { Vec::new() };
        let (delete, manifests) = (plan.delete, gone.clone());
        let done = self.store.write(Durability::Synced, move |writer| {
            if delete && writer.holders(&key.held_as())? != holders {
                return Ok(false);
            }
            names.iter().for_each(|name| writer.delete(REFERENCES, name));
            if delete {
                writer.delete(IMAGES, key.digest());
                manifests.iter().for_each(|digest| writer.delete(MANIFESTS, digest));
            }
            Ok(true)
        })?;
        if !done {
            return Ok(None);
        }
        let mut index = self.index_mut();
        plan.untag.iter().for_each(|reference| index.unname(reference));
        let mut removed: Vec<_> = plan.untag.iter().map(|r| Removed::Untagged(r.familiar())).collect();
        if plan.delete {
            index.remove(id, &gone);
            removed.push(Removed::Deleted(id.to_string()));
        }
        Ok(Some(removed))
    }

    /// A name that cannot be read leads nowhere: only the name goes.
    fn remove_damaged_name(&self, text: &str) -> Result<Option<Removed>, ImageError> {
        let reference = Reference::parse(text).map(Reference::or_latest).ok();
        let Some(name) = reference.filter(|name| self.index().damaged_names.contains_key(name)) else {
            return Ok(None);
        };
        let key = name.clone();
        self.store.write(Durability::Synced, move |writer| {
            writer.delete(REFERENCES, &key);
            Ok(())
        })?;
        self.index_mut().unname(&name);
        Ok(Some(Removed::Untagged(name.familiar())))
    }

    pub(super) fn publish_removed(&self, id: &ImageId, removed: &[Removed]) {
        for one in removed {
            match one {
                Removed::Untagged(name) => self.publish("untag", id.as_str(), name),
                Removed::Deleted(id) => self.publish("delete", id, id),
            }
        }
    }
}

/// The name that `text` is, when it is one rather than an id.
fn named_by(text: &str, image: &Image) -> Option<Reference> {
    let reference = Reference::parse(text).ok()?.or_latest();
    let familiar = match reference.digest() {
        Some(digest) => reference.digested(digest).familiar(),
        None => reference.familiar(),
    };
    let known = image.repo_tags.iter().chain(&image.repo_digests).any(|name| *name == familiar);
    known.then(|| Reference::parse(&familiar)).and_then(Result::ok)
}

fn user(holder: &Holder, running: &dyn Fn(&Holder) -> bool) -> User {
    let Holder::Container(id) = holder;
    User { id: id.clone(), running: running(holder) }
}

/// Docker's rules, with one difference: an image that a stopped container uses loses its names when forced, but
/// stays until the container goes, because the container's root is made of it.
fn plan(
    id: &ImageId,
    named: Option<&Reference>,
    references: &[Reference],
    users: &[User],
    force: bool,
) -> Result<Plan, ImageError> {
    let Some(named) = named else { return plan_by_id(id, references, users, force) };
    if !force
        && of_one_repository(references)
        && let Some(user) = users.first()
    {
        return Err(ImageError::Conflict(format!(
            "conflict: unable to remove repository reference \"{}\" (must force) - container {} is using its \
             referenced image {}",
            named.familiar(),
            short(&user.id),
            id.short()
        )));
    }
    let mut untag = vec![named.clone()];
    let left = || references.iter().filter(|reference| *reference != named);
    let other_tag = left().any(|r| r.digest().is_none() && r.same_repository(named));
    if named.digest().is_none() && !other_tag {
        // Digests of a repository without a tag of it are of no use to people.
        untag.extend(left().filter(|r| r.same_repository(named)).cloned());
    }
    let delete = users.is_empty() && untag.len() == references.len();
    Ok(Plan { untag, delete })
}

fn plan_by_id(
    id: &ImageId,
    references: &[Reference],
    users: &[User],
    force: bool,
) -> Result<Plan, ImageError> {
    let conflict = |forceable: &str, reason: String| {
        let text = format!("conflict: unable to delete {} ({forceable}) - {reason}", id.short());
        Err(ImageError::Conflict(text))
    };
    if let Some(user) = users.iter().find(|user| user.running) {
        let reason = format!("image is being used by running container {}", short(&user.id));
        return conflict("cannot be forced", reason);
    }
    if !force {
        if !of_one_repository(references) {
            return conflict("must be forced", "image is referenced in multiple repositories".to_owned());
        }
        if let Some(user) = users.first() {
            let reason = format!("image is being used by stopped container {}", short(&user.id));
            return conflict("must be forced", reason);
        }
    }
    Ok(Plan { untag: references.to_vec(), delete: users.is_empty() })
}

/// At most one tag, and digests only of its repository.
fn of_one_repository(references: &[Reference]) -> bool {
    let tags = references.iter().filter(|reference| reference.digest().is_none()).count();
    let together = references.iter().all(|reference| reference.same_repository(&references[0]));
    references.len() <= 1 || (tags <= 1 && together)
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        named: Option<&str>,
        references: &[&str],
        users: &[(&str, bool)],
        force: bool,
        expected: Result<(&[&str], bool), &str>,
    ) {
        let id = ImageId::new(format!("sha256:{}", "ab".repeat(32)).parse().unwrap());
        let parse = |text: &&str| Reference::parse(&text.replace('D', &"d".repeat(64))).unwrap();
        let references: Vec<Reference> = references.iter().map(parse).collect();
        let users: Vec<User> =
            users.iter().map(|(id, running)| User { id: (*id).to_owned(), running: *running }).collect();
        let got = plan(&id, named.as_ref().map(parse).as_ref(), &references, &users, force);
        match (got, expected) {
            (Ok(plan), Ok((untag, delete))) => {
                assert_eq!(plan, Plan { untag: untag.iter().map(parse).collect(), delete });
            }
            (Err(error), Err(text)) => assert_eq!(error.to_string(), text),
            (got, expected) => panic!("{named:?} {references:?}: got {got:?}, expected {expected:?}"),
        }
    }

    const CONTAINER: &str = "0123456789abcdef";

    #[test]
    fn names_go_one_by_one_and_the_image_with_the_last() {
        check(Some("a:1"), &["a:1"], &[], false, Ok((&["a:1"], true)));
        check(Some("a:1"), &["a:1", "a@sha256:D"], &[], false, Ok((&["a:1", "a@sha256:D"], true)));
        check(Some("a:1"), &["a:1", "a:2", "a@sha256:D"], &[], false, Ok((&["a:1"], false)));
        check(Some("a:1"), &["a:1", "b:1", "a@sha256:D"], &[], false, Ok((&["a:1", "a@sha256:D"], false)));
        check(Some("a@sha256:D"), &["a:1", "a@sha256:D"], &[], false, Ok((&["a@sha256:D"], false)));
        check(Some("a@sha256:D"), &["a@sha256:D"], &[], false, Ok((&["a@sha256:D"], true)));
    }

    #[test]
    fn ids_go_with_all_names_of_one_repository() {
        check(None, &["a:1", "a@sha256:D"], &[], false, Ok((&["a:1", "a@sha256:D"], true)));
        check(None, &[], &[], false, Ok((&[], true)));
        let several = "conflict: unable to delete abababababab (must be forced) - image is referenced in multiple repositories";
        check(None, &["a:1", "b:1"], &[], false, Err(several));
        check(None, &["a:1", "a:2"], &[], false, Err(several));
        check(None, &["a:1", "b:1"], &[], true, Ok((&["a:1", "b:1"], true)));
    }

    #[test]
    fn images_in_use_stay() {
        let by_name = "conflict: unable to remove repository reference \"a:1\" (must force) - container \
                       0123456789ab is using its referenced image abababababab";
        for running in [true, false] {
            check(Some("a:1"), &["a:1"], &[(CONTAINER, running)], false, Err(by_name));
            check(Some("a:1"), &["a:1"], &[(CONTAINER, running)], true, Ok((&["a:1"], false)));
            check(Some("a:1"), &["a:1", "b:1"], &[(CONTAINER, running)], false, Ok((&["a:1"], false)));
        }
        let running = "conflict: unable to delete abababababab (cannot be forced) - image is being used by running \
                       container 0123456789ab";
        check(None, &["a:1"], &[("x", false), (CONTAINER, true)], true, Err(running));
        let stopped = "conflict: unable to delete abababababab (must be forced) - image is being used by stopped \
                       container 0123456789ab";
        check(None, &["a:1"], &[(CONTAINER, false)], false, Err(stopped));
        check(None, &["a:1"], &[(CONTAINER, false)], true, Ok((&["a:1"], false)));
    }
}
