//! Names of images as people write them, and digests.
//!
//! The grammar and the normalisation are those of Docker's reference format: `debian` means
//! `docker.io/library/debian`, a first component that looks like a host is one, and what is shown to people
//! is the *familiar* form, with the defaults left out again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Longest repository path, in bytes.
const NAME_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_MAX: usize = 128;

/// Why a text is not a reference; the texts are the ones Docker's clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// A repository path is lower case.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// It would be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Hexadecimal(String),
    /// The repository path has more than 255 bytes.
    #[error("invalid reference format: repository name must not be more than {NAME_MAX} characters")]
    TooLong,
    /// A digest other than `sha256:` and 64 lower-case hexadecimal digits.
    #[error("invalid checksum digest format")]
    Digest,
}

/// A sha256 digest: `sha256:<64 hexadecimal digits>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    const PREFIX: &'static str = "sha256:";

    /// The digest of a finished sha256.
    pub fn from_sha256(hash: &[u8; 32]) -> Digest {
        let hex = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = hex.map(|nibble| char::from(b"0123456789abcdef"[usize::from(nibble)]));
        Digest(Digest::PREFIX.chars().chain(digits).collect())
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_sha256(&Sha256::digest(bytes).into())
    }

    /// `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0[Digest::PREFIX.len()..]
    }

    /// The first 12 hexadecimal digits, as shown to people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Digest, ReferenceError> {
        let hex = text.strip_prefix(Digest::PREFIX).ok_or(ReferenceError::Digest)?;
        if is_full_hex(hex) { Ok(Digest(text.to_owned())) } else { Err(ReferenceError::Digest) }
    }
}

impl TryFrom<String> for Digest {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Digest, ReferenceError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A normalised image name: domain, repository path, and a tag, a digest, both or neither.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads what a person or a client wrote.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if is_full_hex(text) {
            return Err(ReferenceError::Hexadecimal(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_path(path)?;
        if !is_domain(&domain) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        let digest = digest.map(str::parse).transpose().map_err(|_| ReferenceError::Format)?;
        Ok(Reference { domain, path: path.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// The registry's name: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path on the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, when there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name people use: `debian`, `me/app`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        let first_is_host = self.path.split_once('/').is_some_and(|(first, _)| looks_like_host(first));
        if self.domain != DEFAULT_DOMAIN || first_is_host {
            return self.name();
        }
        let official = self.path.strip_prefix(OFFICIAL_PREFIX).filter(|rest| !rest.contains('/'));
        official.unwrap_or(&self.path).to_owned()
    }

    /// [`Reference::familiar_name`] with tag and digest.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// With `:latest` when there is neither tag nor digest.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag only.
    pub fn tagged(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest only.
    pub fn digested(&self, digest: &Digest) -> Reference {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// Whether both name the same repository.
    pub fn same_repository(&self, other: &Reference) -> bool {
        self.domain == other.domain && self.path == other.path
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

/// The canonical text: everything spelt out. [`Reference::parse`] reads it back as the same reference.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

fn is_full_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What comes before the first slash is a domain when it could not be a path component of Docker Hub.
fn split_domain(text: &str) -> (String, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN.to_owned(), format!("{OFFICIAL_PREFIX}{text}"));
    };
    let (domain, path) = match first {
        LEGACY_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if looks_like_host(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    let prefix = if domain == DEFAULT_DOMAIN && !path.contains('/') { OFFICIAL_PREFIX } else { "" };
    (domain.to_owned(), format!("{prefix}{path}"))
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(path.to_owned()));
    }
    if !path.split('/').all(is_path_component) {
        return Err(ReferenceError::Format);
    }
    if path.len() > NAME_MAX { Err(ReferenceError::TooLong) } else { Ok(()) }
}

/// Runs of `[a-z0-9]` with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut ends = component.chars().next().into_iter().chain(component.chars().next_back());
    let separators = component.split(alphanumeric).filter(|between| !between.is_empty());
    !component.is_empty()
        && ends.all(alphanumeric)
        && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=TAG_MAX).contains(&tag.len())
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let is_address =
                !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    host.split('.').all(is_domain_component) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !component.starts_with('-')
        && !component.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(text: &str, expected: Result<(&str, &str), &str>) {
        let got = Reference::parse(text);
        match (got, expected) {
            (Ok(reference), Ok((canonical, familiar))) => {
                assert_eq!(reference.to_string(), canonical);
                assert_eq!(reference.familiar(), familiar);
                assert_eq!(Reference::parse(canonical), Ok(reference));
            }
            (Err(error), Err(text)) => assert_eq!(error.to_string(), text),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        check("debian", Ok(("docker.io/library/debian", "debian")));
        check("debian:12", Ok(("docker.io/library/debian:12", "debian:12")));
        check("library/debian", Ok(("docker.io/library/debian", "debian")));
        check("docker.io/debian", Ok(("docker.io/library/debian", "debian")));
        check("index.docker.io/debian", Ok(("docker.io/library/debian", "debian")));
        check("index.docker.io/me/app:1", Ok(("docker.io/me/app:1", "me/app:1")));
        check("me/app", Ok(("docker.io/me/app", "me/app")));
        check("library/a/b", Ok(("docker.io/library/a/b", "library/a/b")));
        check("localhost/x", Ok(("localhost/x", "localhost/x")));
        check("localhost:5000/a/b:t", Ok(("localhost:5000/a/b:t", "localhost:5000/a/b:t")));
        check("ghcr.io/x/y", Ok(("ghcr.io/x/y", "ghcr.io/x/y")));
        check("Host/x", Ok(("Host/x", "Host/x")));
        check("[::1]:5000/x", Ok(("[::1]:5000/x", "[::1]:5000/x")));
        check("a__b-c--d/e.f", Ok(("docker.io/a__b-c--d/e.f", "a__b-c--d/e.f")));
        check("docker.io/a.b/c", Ok(("docker.io/a.b/c", "docker.io/a.b/c")));
        let digested = format!("debian:12@sha256:{HEX}");
        check(&digested, Ok((&format!("docker.io/library/{digested}"), &digested)));
    }

    #[test]
    fn what_is_no_reference_is_told() {
        for bad in ["", ":x", "a b", "a//b", "/a", "a/", "-a", "a-", "a___b", "a..b", "x:", "x:.t", "x@", "é"]
        {
            check(bad, Err("invalid reference format"));
        }
        check("x@sha256:12", Err("invalid reference format"));
        check("a.b-.c:5000/x", Err("invalid reference format"));
        check("host:port/x", Err("invalid reference format"));
        check(&format!("x:{}", "t".repeat(129)), Err("invalid reference format"));
        check("Debian", Err("invalid reference format: repository name (library/Debian) must be lowercase"));
        check("a.b/C:x", Err("invalid reference format: repository name (C) must be lowercase"));
        check(
            HEX,
            Err(&format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
        );
        let long = "a".repeat(256);
        check(
            &format!("x.y/{long}"),
            Err("invalid reference format: repository name must not be more than 255 characters"),
        );
    }

    #[test]
    fn digests_are_strict() {
        assert!(format!("sha256:{HEX}").parse::<Digest>().is_ok());
        for bad in [HEX.to_owned(), format!("sha512:{HEX}"), format!("sha256:{}", HEX.to_uppercase())] {
            assert_eq!(bad.parse::<Digest>(), Err(ReferenceError::Digest));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,80}") {
            let _ = Reference::parse(&text);
        }

        #[test]
        fn canonical_and_familiar_texts_are_read_back(
            text in "([a-z0-9.-]{1,8}(:[0-9]{1,4})?/)?[a-z0-9._/-]{1,20}(:[\\w.-]{1,9})?",
        ) {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference.clone()));
                prop_assert_eq!(Reference::parse(&reference.familiar()), Ok(reference));
            }
        }
    }
}
