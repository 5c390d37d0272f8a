//! Durations as Go writes and reads them.

use std::time::Duration;

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("\u{b5}s", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads `1h30m`, `1.5s` and the like; not before the present.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

/// Writes `30s`, `1m0s`, `500ms`, `1.5s`.
pub fn print(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let fraction = |whole: u64, rest: u64, digits: usize, unit: &str| {
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { format!("{whole}{unit}") } else { format!("{whole}.{rest}{unit}") }
    };
    let nanos = u64::from(duration.subsec_nanos());
    match seconds {
        0 => fraction(nanos / 1_000_000, nanos % 1_000_000, 6, "ms"),
        1..60 => fraction(seconds, nanos, 9, "s"),
        60..3600 => format!("{}m{}", seconds / 60, fraction(seconds % 60, nanos, 9, "s")),
        _ => format!("{}h{}m{}", seconds / 3600, seconds / 60 % 60, fraction(seconds % 60, nanos, 9, "s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let check = |millis: u64, expected: &str| assert_eq!(print(Duration::from_millis(millis)), expected);
        check(30_000, "30s");
        check(500, "500ms");
        check(1500, "1.5s");
        check(60_000, "1m0s");
        check(3_723_000, "1h2m3s");
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(parse("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse(".5h"), Some(Duration::from_secs(1800)));
        assert_eq!(parse("1m1us"), Some(Duration::from_micros(60_000_001)));
        for bad in ["", "1", "h", "1d", "-1h", "1h2", "1.2.3s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
