//! The closed list of what can be wrong with a request, seen from outside: the server turns a kind into a
//! status, the room that fails chooses the kind and the text.

/// What kind of failure an error is for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What was named does not exist.
    NotFound,
    /// The request itself is wrong and stays wrong when repeated.
    InvalidArgument,
    /// The request contradicts the present state.
    Conflict,
    /// Credentials are missing or were refused.
    Unauthorized,
    /// Known who asks, and not allowed.
    Forbidden,
    /// It is already as asked.
    NotModified,
    /// Something needed is away for now.
    Unavailable,
    /// Known to Docker, not to this engine.
    NotImplemented,
    /// Our own failure, or the machine's.
    Internal,
}

/// The text of an error with what the system said in Go's words. Rust writes `No such file or directory (os error 2)` where
/// Go writes `no such file or directory`, and Docker's clients compute their exit codes from Go's words.
pub fn in_go_words(text: &str) -> String {
    const NUMBER: &str = " (os error ";
    let (mut worded, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once(NUMBER) {
        let start = before.rfind(": ").map_or(0, |colon| colon + 2);
        let (lead, said) = before.split_at(start);
        let (number, tail) = behind.split_once(')').unwrap_or((behind, ""));
        worded += lead;
        match number.bytes().all(|byte| byte.is_ascii_digit()) {
            true => worded += &uncapitalized(said),
            false => worded += &format!("{said}{NUMBER}{number})"),
        }
        rest = tail;
    }
    worded + rest
}

/// With its first letter in lower case, but for an abbreviation such as `RPC`.
fn uncapitalized(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_speaks_as_go_does() {
        let check = |text: &str, expected: &str| assert_eq!(in_go_words(text), expected);
        check("open /x: No such file or directory (os error 2)", "open /x: no such file or directory");
        check("Permission denied (os error 13)", "permission denied");
        check("RPC struct is bad (os error 72)", "RPC struct is bad");
        check(
            "a: Is a directory (os error 21): b: Not a directory (os error 20)!",
            "a: is a directory: b: not a directory!",
        );
        check("No such container: x", "No such container: x");
        check("x (os error y)", "x (os error y)");
        check("x (os error", "x (os error");
        check("", "");
    }
}
