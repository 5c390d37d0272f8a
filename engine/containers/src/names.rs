//! Names of containers.

use rand::seq::IndexedRandom;

use super::error::ContainerError;

/// Docker's rule: at least two characters, the first a letter or digit.
pub(super) fn validate(name: &str) -> Result<&str, ContainerError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut characters = bare.bytes();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'));
    if first && rest && bare.len() >= 2 {
        return Ok(bare);
    }
    let text = format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    Err(ContainerError::Invalid(text))
}

/// `adjective_surname`, with a digit from the second attempt on.
pub(super) fn generate(attempt: u32) -> String {
    let mut random = rand::rng();
    let adjective = ADJECTIVES.choose(&mut random).unwrap_or(&"calm");
    let surname = SURNAMES.choose(&mut random).unwrap_or(&"hopper");
    match attempt {
        0 => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", rand::random_range(0..10)),
    }
}

const ADJECTIVES: [&str; 48] = [
    "able", "agile", "amber", "apt", "bold", "brave", "brisk", "calm", "candid", "clear", "clever", "cool",
    "crisp", "deft", "eager", "early", "exact", "fair", "fleet", "fresh", "gentle", "glad", "keen", "kind",
    "lively", "loyal", "lucid", "merry", "mild", "neat", "nimble", "noble", "patient", "plain", "prompt",
    "proud", "quick", "quiet", "ready", "sharp", "sincere", "spry", "steady", "swift", "tidy", "vivid",
    "warm", "wise",
];

/// People whose work computers and ships stand on.
const SURNAMES: [&str; 48] = [
    "babbage",
    "backus",
    "bartik",
    "boole",
    "borg",
    "cerf",
    "church",
    "clarke",
    "codd",
    "cook",
    "curie",
    "dijkstra",
    "easley",
    "engelbart",
    "euler",
    "faraday",
    "feinler",
    "floyd",
    "galois",
    "gauss",
    "goldwasser",
    "hamilton",
    "hamming",
    "harrison",
    "hertz",
    "hoare",
    "holberton",
    "hopper",
    "johnson",
    "kay",
    "kilburn",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "mercator",
    "milner",
    "napier",
    "noether",
    "perlman",
    "pike",
    "ritchie",
    "shannon",
    "thompson",
    "turing",
    "wilkes",
    "wing",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "a1", "/web", "a_b.c-d", "0x"] {
            assert!(validate(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", "_ab", "a b", "a/b", "ä1", "/"] {
            assert!(validate(bad).is_err(), "{bad}");
        }
        for attempt in 0..100 {
            assert!(validate(&generate(attempt)).is_ok());
        }
    }
}
