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
