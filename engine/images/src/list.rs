//! Which images to show, as `docker images --filter` asks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Image, ImageError, Images};
use model::reference::{Digest, Reference};
use model::timestamp::Timestamp;

/// Conditions on labels: every one of `with`, none of `without`; a value of `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Must be there.
    pub with: Vec<(String, Option<String>)>,
    /// Must not be there.
    pub without: Vec<(String, Option<String>)>,
}

/// Conditions that all must be met; the default shows everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With no tag, or with one.
    pub dangling: Option<bool>,
    /// See [`Labels`].
    pub labels: Labels,
    /// Created before this image, by name or id.
    pub before: Option<String>,
    /// Created after this image, by name or id.
    pub since: Option<String>,
    /// Created before this time.
    pub until: Option<Timestamp>,
    /// One of these patterns fits a familiar name, with its tag or without. Only fitting names are shown.
    pub references: Vec<String>,
}

impl Labels {
    pub(super) fn allow(&self, image: &Image) -> bool {
        self.match_map(&image.config.labels)
    }

    /// Whether something with these labels meets the conditions.
    pub fn match_map(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            let own = labels.get(key);
            own.is_some_and(|own| value.as_ref().is_none_or(|value| value == own))
        };
        self.with.iter().all(has) && !self.without.iter().any(has)
    }
}

impl Images {
    /// The images that meet the conditions, newest first.
    pub fn list_filtered(&self, filter: &Filter) -> Result<Vec<Arc<Image>>, ImageError> {
        let created = |text: &Option<String>| text.as_ref().map(|text| Ok(self.resolve(text)?.created));
        let before = created(&filter.before).transpose().map_err(not_a_filter)?;
        let since = created(&filter.since).transpose().map_err(not_a_filter)?;
        let shown = self.list().into_iter().filter(|image| {
            filter.dangling.is_none_or(|dangling| image.is_dangling() == dangling)
                && filter.labels.allow(image)
                && before.is_none_or(|before| image.created < before)
                && since.is_none_or(|since| image.created > since)
                && filter.until.is_none_or(|until| image.created.is_some_and(|created| created < until))
        });
        Ok(shown.filter_map(|image| only_fitting(image, &filter.references)).collect())
    }

    /// Every image, newest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<_> = self.shared.index().images.values().cloned().collect();
        images.sort_by_key(|image| Reverse(image.created));
        images
    }

    /// Bytes of the image's layers that other images have, too.
    pub fn shared_size(&self, image: &Image) -> u64 {
        let index = self.shared.index();
        let elsewhere = |diff_id: &Digest| {
            index.images.values().any(|other| other.id != image.id && other.diff_ids.contains(diff_id))
        };
        let shared = image.diff_ids.iter().filter(|diff_id| elsewhere(diff_id));
        shared.filter_map(|diff_id| Some(index.layers.get(diff_id)?.record.size)).sum()
    }
}

/// Docker answers 404 for any other name that is not there, but not for one in a filter.
fn not_a_filter(error: ImageError) -> ImageError {
    match error {
        ImageError::NotFound(_) => ImageError::Invalid(error.to_string()),
        other => other,
    }
}

fn only_fitting(image: Arc<Image>, patterns: &[String]) -> Option<Arc<Image>> {
    if patterns.is_empty() {
        return Some(image);
    }
    let fits = |name: &&String| patterns.iter().any(|pattern| fits_reference(pattern, name));
    let repo_tags: Vec<String> = image.repo_tags.iter().filter(fits).cloned().collect();
    let repo_digests: Vec<String> = image.repo_digests.iter().filter(fits).cloned().collect();
    let any = !repo_tags.is_empty() || !repo_digests.is_empty();
    any.then(|| Arc::new(Image { repo_tags, repo_digests, ..Image::clone(&image) }))
}

/// A pattern may be for a name as people write it or for the whole of it, with its tag or without.
fn fits_reference(pattern: &str, familiar: &str) -> bool {
    let Ok(reference) = Reference::parse(familiar) else {
        return fits(pattern.as_bytes(), familiar.as_bytes());
    };
    let names = [familiar.to_owned(), reference.familiar_name(), reference.to_string(), reference.name()];
    names.iter().any(|name| fits(pattern.as_bytes(), name.as_bytes()))
}

/// Go's `path.Match`: `*` and `?` do not take a slash, `[a-z]` and `[^a-z]` are sets, `\` quotes.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            let reach = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=reach).any(|at| fits(rest, &text[at..]))
        }
        Some((token, rest)) => {
            let Some((first, others)) = text.split_first() else { return false };
            match (token, rest) {
                (b'?', _) => *first != b'/' && fits(rest, others),
                (b'[', _) => {
                    in_set(rest, *first).is_some_and(|(fitting, rest)| fitting && fits(rest, others))
                }
                (b'\\', [quoted, rest @ ..]) => quoted == first && fits(rest, others),
                _ => token == first && fits(rest, others),
            }
        }
    }
}

/// Whether the byte is in the set that begins here, and what follows the set; `None` for one that never ends.
fn in_set(set: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match set.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, set),
    };
    let (mut found, mut any) = (false, false);
    loop {
        match rest {
            [b']', rest @ ..] if any => return Some((found != negated, rest)),
            [low, b'-', high, others @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest = others;
            }
            [one, others @ ..] => {
                found |= *one == byte;
                rest = others;
            }
            [] => return None,
        }
        any = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_fit_as_gos_do() {
        for (pattern, name, expected) in [
            ("debian", "debian:12", true),
            ("debian:12", "debian:12", true),
            ("deb*", "debian:12", true),
            ("*", "debian:12", true),
            ("*", "me/app:1", false),
            ("*/*", "me/app:1", true),
            ("*:1", "me/app:1", false),
            ("m?/[a-c]pp:[^2]", "me/app:1", true),
            ("m?/[a-c]pp:[^1]", "me/app:1", false),
            ("debian:1\\2", "debian:12", true),
            ("[", "debian:12", false),
            ("debia", "debian:12", false),
            ("docker.io/library/debian", "debian:12", true),
            ("docker.io/library/deb*:12", "debian:12", true),
            ("docker.io/*/debian", "debian:12", true),
            ("docker.io/debian", "debian:12", false),
            ("docker.io/me/app", "me/app:1", true),
            ("docker.io/library/debian:13", "debian:12", false),
            ("x.test/library/debian", "debian:12", false),
        ] {
            assert_eq!(fits_reference(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_is_tried_without_panic(pattern in "[a*?\\[\\]^\\\\-]{0,8}", text in "[a/]{0,8}") {
            fits(pattern.as_bytes(), text.as_bytes());
        }
    }
}
