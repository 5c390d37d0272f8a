//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header").

use super::LayerError;
use super::sparse::Sparse;

const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const BROKEN: LayerError = LayerError::Malformed("broken PAX record");

/// What the extended header in front of a member says about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

impl Extended {
    /// Adds the records of one `x` header.
    pub(super) fn read(&mut self, mut data: &[u8]) -> Result<(), LayerError> {
        while !data.is_empty() {
            let space = data.iter().position(|byte| *byte == b' ').ok_or(BROKEN)?;
            let length: usize = text(&data[..space])?.parse().map_err(|_| BROKEN)?;
            let record = data.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
            let record = record.ok_or(BROKEN)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BROKEN)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    /// An empty value deletes what an earlier record said.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" => self.mtime = if given { Some(time(value)?) } else { None },
            _ => {
                if let Some(key) = key.strip_prefix(SPARSE_PREFIX) {
                    self.sparse.set(key, value)?;
                } else if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, LayerError> {
    std::str::from_utf8(bytes).map_err(|_| BROKEN)
}

fn number<N: std::str::FromStr>(value: &[u8]) -> Result<Option<N>, LayerError> {
    if value.is_empty() {
        return Ok(None);
    }
    text(value)?.parse().map(Some).map_err(|_| BROKEN)
}

/// `-1.25` is one and a quarter seconds before 1970; a timespec counts its nanoseconds upwards.
fn time(value: &[u8]) -> Result<(i64, u32), LayerError> {
    let text = text(value)?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BROKEN);
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().map_err(|_| BROKEN)?;
    let whole: i64 = seconds.parse().map_err(|_| BROKEN)?;
    match nanos {
        1.. if seconds.starts_with('-') => Ok((whole.checked_sub(1).ok_or(BROKEN)?, 1_000_000_000 - nanos)),
        _ => Ok((whole, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(data: &[u8]) -> Option<Extended> {
        let mut extended = Extended::default();
        extended.read(data).ok().map(|()| extended)
    }

    #[test]
    fn records_are_read() {
        let got = read(b"9 path=a\n11 size=42\n21 mtime=1.500000001\n27 SCHILY.xattr.user.x=a=b\n").unwrap();
        assert_eq!(got.path.as_deref(), Some(&b"a"[..]));
        assert_eq!((got.size, got.mtime), (Some(42), Some((1, 500_000_001))));
        assert_eq!(got.xattrs, [(b"user.x".to_vec(), b"a=b".to_vec())]);
    }

    #[test]
    fn times_before_1970_count_upwards() {
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"-3").unwrap(), (-3, 0));
        assert_eq!(time(b"7.1234567899").unwrap(), (7, 123_456_789));
        assert!(time(b"1.x").is_err() && time(b"").is_err());
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in ["9 path=a", "x path=a\n", "99 path=a\n", "3 a\n", "7 patha\n", "0 \n", "12 size=-1\n"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&data);
        }

        #[test]
        fn any_lengths_are_read_without_panic(length in any::<u64>(), rest in "[a-z=\n ]{0,20}") {
            let _ = read(format!("{length} {rest}").as_bytes());
        }
    }
}
