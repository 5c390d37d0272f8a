//! Points in time as Docker writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Nanoseconds since 1970 UTC. Zero is "never", which Docker writes as year 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// How Go writes its zero time; clients compare with this literal.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Timestamp {
    /// The present.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        (self.0 / 1_000_000_000) as i64
    }

    /// Without the part of the last second.
    #[must_use]
    pub fn whole_seconds(self) -> Timestamp {
        Timestamp(self.0 - self.0 % 1_000_000_000)
    }

    /// RFC 3339 with as many digits as needed (Go's `RFC3339Nano`).
    pub fn rfc3339(self) -> String {
        if self.0 == 0 {
            return NEVER.to_owned();
        }
        self.date_time().format(&Rfc3339).unwrap_or_else(|_| NEVER.to_owned())
    }

    /// RFC 3339 with exactly nine digits, as `docker logs --timestamps` prints.
    pub fn rfc3339_fixed(self) -> String {
        let t = self.date_time();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.nanosecond()
        )
    }

    /// Reads RFC 3339.
    pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(time.unix_timestamp_nanos()).ok().map(Timestamp)
    }

    /// Reads `seconds[.fraction]` since 1970, as the API's `since` and `until` are written.
    pub fn parse_unix(text: &str) -> Option<Timestamp> {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: u64 = seconds.parse().ok()?;
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        Some(Timestamp(seconds.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)?))
    }

    fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let t = Timestamp(1_767_366_245_120_000_000);
        assert_eq!(t.rfc3339(), "2026-01-02T15:04:05.12Z");
        assert_eq!(t.rfc3339_fixed(), "2026-01-02T15:04:05.120000000Z");
        assert_eq!(Timestamp::parse_rfc3339("2026-01-02T15:04:05.12Z"), Some(t));
        assert_eq!(Timestamp(0).rfc3339(), NEVER);
    }

    #[test]
    fn unix_times_are_read() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(Timestamp::parse_unix(text).map(|t| t.0), expected, "{text}");
        };
        check("5", Some(5_000_000_000));
        check("5.25", Some(5_250_000_000));
        check("5.000000001", Some(5_000_000_001));
        check("x", None);
        check("-1", None);
    }
}
