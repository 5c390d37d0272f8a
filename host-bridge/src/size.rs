//! Sizes as people write them: `512M`, `2G`, `64GiB`.

/// Reads a size in bytes; units are powers of 1024, a number alone is bytes.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(expected)
}

fn expected() -> String {
    "expected a size such as 512M, 2G or 64G".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        let check = |text: &str, want: Option<u64>| assert_eq!(parse(text).ok(), want, "{text}");
        check("512M", Some(512 << 20));
        check("2g", Some(2 << 30));
        check("64GiB", Some(64 << 30));
        check("4096", Some(4096));
        check("", None);
        check("0", None);
        check("G", None);
        check("2X", None);
        check("99999999T", None);
        check("-1", None);
    }
}
