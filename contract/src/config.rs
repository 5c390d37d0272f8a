//! The configuration document: what the engine is told by whoever owns the machine, and nobody else may read.
//!
//! A boot's settings ([`crate::settings`]) are words of the kernel's command line, which every container can read, and have
//! room for little. All that no boot needs is one document instead: over the control line
//! ([`crate::line::Request::Config`]). PID 1 passes it on, sealed and unread, at [`crate::paths::CONFIG_FD`].
//!
//! It is an object in JSON. A field that its reader does not know is told and passed over; where that would be wrong,
//! the version is raised, and a reader of a lower one refuses the whole.

use serde::{Deserialize, Serialize};

/// Raised when a field is added that no reader may pass over.
pub const VERSION: u16 = 1;

/// First ids that leave room for 65536: the highest number is no id.
pub const REMAPS: std::ops::RangeInclusive<u32> = 1..=u32::MAX - (1 << 16);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// [`VERSION`] of the writer.
    pub version: u16,
    /// `HOST[:PORT]` or CIDR: spoken to without TLS verification, then without TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub insecure_registries: Vec<String>,
    /// URLs, with credentials in them where they need some: tried before Docker Hub.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_mirrors: Vec<String>,
    /// The machine's number of the containers' root; they get 65536 ids from there. Absent: theirs are the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns_remap: Option<u32>,
    /// Folders of the host that are in the machine at the same path: the n-th is mounted on
    /// [`crate::paths::HOST_FOLDERS`]`/n` before the engine starts, or the entry `n` of the virtiofs file system
    /// [`crate::paths::HOST_FOLDERS_TAG`]. Absent: the machine has no host to share with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_folders: Option<Vec<String>>,
    /// The path of the user's ssh agent on the host: a bind of it is one of [`crate::paths::SSH_AGENT_SOCKET`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_agent: Option<String>,
    /// How the machine stands to its host. Absent: there is none that containers could reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
}

/// A host whose services containers reach, see [`crate::host`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// Networks by which the machine, and no container, has the host's loopback interface or its resolver, in CIDR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barred: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            version: VERSION,
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            userns_remap: None,
            host_folders: None,
            ssh_agent: None,
            host: None,
        }
    }
}

/// Why a document is not followed. None of it is shown: it may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON, or its fields are of another kind.
    #[error("the configuration is not readable, at line {line} column {column}")]
    Unreadable {
        /// Where.
        line: usize,
        /// Where in it.
        column: usize,
    },
    /// It needs a later release.
    #[error("the configuration is of version {found}, and this release knows {VERSION}")]
    Version {
        /// What it says.
        found: u16,
    },
    /// A first id without room behind it.
    #[error("userns-remap is {found}: expected a number from {} to {}", REMAPS.start(), REMAPS.end())]
    Remap {
        /// What it says.
        found: u32,
    },
}

impl Config {
    /// The document.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a configuration is plain data")
    }

    /// Reads a document; also returns the fields that it has and this release does not know.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<(Config, Vec<String>), ConfigError> {
        let unreadable =
            |error: serde_json::Error| ConfigError::Unreadable { line: error.line(), column: error.column() };
        let mut unknown = Vec::new();
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let read: Result<Config, _> =
            serde_ignored::deserialize(&mut reader, |path| unknown.push(path.to_string()));
        let version = || serde_json::from_slice::<Version>(bytes).map(|read| read.version);
        // A later version may have made a known field something else.
        match version() {
            Ok(found) if found > VERSION => return Err(ConfigError::Version { found }),
            _ => {}
        }
        let config = read.and_then(|config| reader.end().map(|()| config)).map_err(unreadable)?;
        match config.userns_remap {
            Some(found) if !REMAPS.contains(&found) => Err(ConfigError::Remap { found }),
            _ => Ok((config, unknown)),
        }
    }
}

#[derive(Deserialize)]
struct Version {
    version: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_survives_the_way() {
        let config = Config {
            insecure_registries: vec!["10.0.0.0/8".into(), "a b\"c".into()],
            registry_mirrors: vec!["https://user:token@mirror.example".into()],
            userns_remap: Some(100_000),
            host_folders: Some(vec!["/home/me".into()]),
            ..Config::default()
        };
        assert_eq!(Config::from_bytes(&config.to_bytes()).unwrap(), (config, vec![]));
        assert_eq!(Config::default().to_bytes(), br#"{"version":1}"#);
    }

    #[test]
    fn what_is_not_known_is_told_and_what_must_be_known_refused() {
        let (config, unknown) =
            Config::from_bytes(br#"{"version":1,"proxies":{"http":"x"},"userns-remap":7}"#).unwrap();
        assert_eq!((config.userns_remap, unknown), (Some(7), vec!["proxies".to_owned()]));
        let check = |text: &str, want: &str| {
            assert_eq!(Config::from_bytes(text.as_bytes()).unwrap_err().to_string(), want)
        };
        let later = "the configuration is of version 2, and this release knows 1";
        check(r#"{"version":2}"#, later);
        check(r#"{"version":2,"registry-mirrors":{"a":1}}"#, later);
        check(
            r#"{"version":1,"registry-mirrors":"https://secret"}"#,
            "the configuration is not readable, at line 1 column 48",
        );
        check("", "the configuration is not readable, at line 1 column 0");
        check(r#"{"version":1} x"#, "the configuration is not readable, at line 1 column 15");
        check(
            r#"{"version":1,"userns-remap":0}"#,
            "userns-remap is 0: expected a number from 1 to 4294901759",
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Config::from_bytes(&bytes);
        }
    }
}
