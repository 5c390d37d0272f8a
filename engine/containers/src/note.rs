//! The note that rides to PID 1 with each process and tells a returning engine what the process is.

use contract::keeper::Key;
use runtime::stdio::StdioKind;
use serde::{Deserialize, Serialize};

use model::timestamp::Timestamp;

/// What a registered process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Id of the container; for its first process this is also the key.
    pub container: String,
    /// A further process of the container, not its first.
    pub exec: bool,
    /// It asks for the container's health.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
    /// When it was started.
    pub started_at: Timestamp,
    /// How its streams are to be read back.
    pub stdio: u8,
    /// Its place on the network, where an engine of the first release wrote the note. Newer ones keep it in
    /// [`super::runs`].
    #[serde(default, skip_serializing)]
    pub endpoint: Option<networks::Endpoint>,
}

impl Note {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of strings and numbers is always JSON")
    }

    pub fn decode(bytes: &[u8]) -> Option<Note> {
        serde_json::from_slice(bytes).ok()
    }

    pub fn kind(&self) -> Option<StdioKind> {
        Some(match self.stdio {
            0 => StdioKind::Null,
            1 => StdioKind::Pipes,
            2 => StdioKind::PipesWithStdin,
            3 => StdioKind::Terminal,
            _ => return None,
        })
    }

    pub fn number(kind: StdioKind) -> u8 {
        match kind {
            StdioKind::Null => 0,
            StdioKind::Pipes => 1,
            StdioKind::PipesWithStdin => 2,
            StdioKind::Terminal => 3,
        }
    }
}

/// The 32 bytes behind 64 hexadecimal digits.
pub(super) fn key(id: &str) -> Option<Key> {
    let mut bytes = [0; 32];
    if id.len() != 64 || !id.is_ascii() {
        return None;
    }
    for (slot, digits) in bytes.iter_mut().zip(id.as_bytes().chunks_exact(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Key(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::new_id;

    #[test]
    fn notes_survive_the_way_and_are_small() {
        let (container, started_at) = (new_id(), Timestamp::now());
        let note = Note { container, exec: true, probe: true, started_at, stdio: 3, endpoint: None };
        let bytes = note.encode();
        assert!(bytes.len() <= contract::keeper::NOTE_MAX / 2);
        assert_eq!(Note::decode(&bytes), Some(note));
        assert_eq!(Note::decode(b"else"), None);
    }

    /// Written by the engine of commit 101bc54, which an upgrade replaces while its containers run.
    #[test]
    fn a_note_of_the_first_release_tells_the_place_on_the_network() {
        let note =
            br#"{"container":"05f6","exec":false,"started_at":7,"stdio":1,"endpoint":{"network":"bridge",
            "endpoint_id":"ab","address":"172.17.0.2/16","gateway":"172.17.0.1","mac":"02:42:ac:11:00:02"}}"#;
        let note = Note::decode(note).unwrap();
        assert_eq!(note.endpoint.unwrap().address.unwrap().to_string(), "172.17.0.2/16");
    }

    #[test]
    fn ids_are_keys() {
        let id = new_id();
        assert_eq!(format!("{:?}", key(&id).unwrap()), id);
        assert_eq!(key("ab"), None);
        assert_eq!(key(&"zz".repeat(32)), None);
    }
}
