//! API versions, as `/v1.44/` in a path.

use std::fmt;

/// An API version; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u16, pub u16);

/// The newest spoken.
pub const NEWEST: ApiVersion = ApiVersion(1, 55);
/// The oldest accepted: what clients that pin a version were built for.
pub const OLDEST: ApiVersion = ApiVersion(1, 24);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl ApiVersion {
    /// Splits `/v1.44/rest` into the version and `/rest`; a path without a version is for the newest.
    pub fn split(path: &str) -> (Option<ApiVersion>, &str) {
        let parsed = path.strip_prefix("/v").and_then(|rest| {
            let (version, _) = rest.split_once('/')?;
            let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
            Some((ApiVersion(major.parse().ok()?, minor.parse().ok()?), &rest[version.len()..]))
        });
        match parsed {
            Some((version, rest)) => (Some(version), rest),
            None => (None, path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        assert_eq!(ApiVersion::split("/v1.44/info"), (Some(ApiVersion(1, 44)), "/info"));
        assert_eq!(ApiVersion::split("/_ping"), (None, "/_ping"));
        assert_eq!(ApiVersion::split("/volumes"), (None, "/volumes"));
        assert_eq!(ApiVersion::split("/v1.x/info"), (None, "/v1.x/info"));
        assert!(ApiVersion(1, 9) < ApiVersion(1, 24) && ApiVersion(1, 55) < ApiVersion(2, 0));
    }
}
