//! Files with holes, as GNU tar and libarchive write them into PAX archives: a map says where in the file each piece
//! of the content lies, and how long the whole file is.
//!
//! Three forms are in use ("Storing Sparse Files" in GNU tar's manual). 0.0 has two PAX records for each piece, 0.1
//! has all of them in one record, 1.0 has them as lines of text in front of the content. Go's reader, and so Docker,
//! takes all three; the older form of GNU tar itself (type `S`) Docker refuses.

use std::collections::VecDeque;

use super::LayerError;

const BROKEN: LayerError = LayerError::Malformed("broken map of a sparse file");

/// What the PAX records in front of a member say about its holes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    major: Vec<u8>,
    minor: Vec<u8>,
    /// The file's name where the member's own was made up.
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    pieces: Option<u64>,
    /// Offset, length, offset, length …
    map: Vec<u64>,
}

/// Where the map of a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It has none: its content is the file.
    Whole,
    /// In its records.
    Records,
    /// In front of its content.
    Content,
}

/// A piece of a file's content, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Sparse {
    /// Takes the record `GNU.sparse.KEY`. What is not known has no meaning, for Go as well.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        match key {
            b"major" => self.major = value.to_vec(),
            b"minor" => self.minor = value.to_vec(),
            b"name" => self.name = Some(value.to_vec()).filter(|name| !name.is_empty()),
            b"size" => self.size = Some(number(value)?),
            b"realsize" => self.real_size = Some(number(value)?),
            b"numblocks" => self.pieces = Some(number(value)?),
            b"offset" | b"numbytes" => {
                let is_offset = key == b"offset";
                if is_offset != self.map.len().is_multiple_of(2) {
                    return Err(BROKEN);
                }
                self.map.push(number(value)?);
            }
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').filter(|_| !value.is_empty());
                self.map = numbers.map(number).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn form(&self) -> Form {
        match (self.major.as_slice(), self.minor.as_slice()) {
            (b"1", b"0") => Form::Content,
            (b"0", b"0" | b"1") => Form::Records,
            (b"", b"") if !self.map.is_empty() => Form::Records,
            _ => Form::Whole,
        }
    }

    /// Length of the file, where it is said.
    pub(super) fn file_size(&self) -> Option<u64> {
        self.size.or(self.real_size)
    }

    /// The map in the records.
    pub(super) fn map(&self) -> Result<&[u64], LayerError> {
        let told = self.pieces.unwrap_or(self.map.len() as u64 / 2);
        if told.checked_mul(2) == Some(self.map.len() as u64) { Ok(&self.map) } else { Err(BROKEN) }
    }
}

/// The decimal numbers in front of a content in form 1.0, each with a newline behind it: how many pieces there are, then
/// the offset and the length of each.
#[derive(Debug, Default)]
pub(super) struct Lines {
    number: Option<u64>,
    wanted: Option<u64>,
    map: Vec<u64>,
}

impl Lines {
    /// Takes one block; the map when it is complete. What stands behind it in its last block is padding.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<Option<Vec<u64>>, LayerError> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let number = self.number.unwrap_or(0).checked_mul(10);
                    let number = number.and_then(|number| number.checked_add(u64::from(byte - b'0')));
                    self.number = Some(number.ok_or(BROKEN)?);
                }
                b'\n' => self.line()?,
                _ => return Err(BROKEN),
            }
            if self.wanted == Some(self.map.len() as u64) {
                return Ok(Some(std::mem::take(&mut self.map)));
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<(), LayerError> {
        let number = self.number.take().ok_or(BROKEN)?;
        match self.wanted {
            None => self.wanted = Some(number.checked_mul(2).ok_or(BROKEN)?),
            Some(_) => self.map.push(number),
        }
        Ok(())
    }
}

/// The pieces of a map: in order, apart, within the `size` of the file, and together as long as the content is that the
/// archive has `stored`.
pub(super) fn pieces(map: &[u64], size: u64, stored: u64) -> Result<VecDeque<Piece>, LayerError> {
    let (pairs, odd) = map.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(BROKEN);
    }
    let (mut end, mut sum) = (0, 0u64);
    let mut pieces = VecDeque::with_capacity(pairs.len());
    for &[offset, length] in pairs {
        if offset < end {
            return Err(BROKEN);
        }
        end = offset.checked_add(length).filter(|end| *end <= size).ok_or(BROKEN)?;
        sum += length;
        if length > 0 {
            pieces.push_back(Piece { offset, length });
        }
    }
    if sum == stored { Ok(pieces) } else { Err(BROKEN) }
}

fn number(text: &[u8]) -> Result<u64, LayerError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(BROKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(records: &[(&str, &str)]) -> Option<Sparse> {
        let mut sparse = Sparse::default();
        records.iter().try_for_each(|(key, value)| sparse.set(key.as_bytes(), value.as_bytes())).ok()?;
        Some(sparse)
    }

    #[test]
    fn the_form_is_in_the_version() {
        let check = |records: &[(&str, &str)], expected: Form| {
            assert_eq!(told(records).unwrap().form(), expected, "{records:?}");
        };
        check(&[], Form::Whole);
        check(&[("major", "1"), ("minor", "0")], Form::Content);
        check(&[("major", "0"), ("minor", "1"), ("map", "0,1")], Form::Records);
        check(&[("offset", "0"), ("numbytes", "1")], Form::Records);
        check(&[("major", "2"), ("minor", "0")], Form::Whole);
    }

    #[test]
    fn maps_of_records_are_read() {
        let check = |records: &[(&str, &str)], expected: Option<&[u64]>| {
            let sparse = told(records);
            assert_eq!(sparse.as_ref().and_then(|sparse| sparse.map().ok()), expected, "{records:?}");
        };
        check(&[("map", "0,1,5,2"), ("numblocks", "2")], Some(&[0, 1, 5, 2]));
        check(&[("map", ""), ("numblocks", "0")], Some(&[]));
        check(&[("offset", "0"), ("numbytes", "1"), ("offset", "4"), ("numbytes", "2")], Some(&[0, 1, 4, 2]));
        check(&[("offset", "0"), ("offset", "1")], None);
        check(&[("numbytes", "0")], None);
        check(&[("map", "0,1"), ("numblocks", "2")], None);
        check(&[("map", "0,x")], None);
        check(&[("map", "-1,1")], None);
    }

    #[test]
    fn maps_in_front_of_the_content_are_read() {
        let check = |blocks: &[&str], expected: Option<&[u64]>| {
            let mut lines = Lines::default();
            let map = blocks.iter().find_map(|block| lines.block(block.as_bytes()).transpose());
            assert_eq!(map.and_then(Result::ok).as_deref(), expected, "{blocks:?}");
        };
        check(&["2\n0\n1\n5\n2\n\0\0"], Some(&[0, 1, 5, 2]));
        check(&["1\n0\n1", "2\n\0"], Some(&[0, 12]));
        check(&["0\n\0\0"], Some(&[]));
        check(&["1\n0\n"], None);
        check(&["x"], None);
        check(&["\n"], None);
        check(&["99999999999999999999999\n"], None);
        check(&["9999999999999999999\n"], None);
    }

    #[test]
    fn pieces_lie_in_order_and_make_up_the_content() {
        let check = |map: &[u64], size: u64, stored: u64, expected: Option<usize>| {
            assert_eq!(pieces(map, size, stored).ok().map(|pieces| pieces.len()), expected, "{map:?}");
        };
        check(&[], 9, 0, Some(0));
        check(&[0, 1, 5, 2, 9, 0], 9, 3, Some(2));
        check(&[0, 1, 5, 2], 6, 3, None);
        check(&[5, 2, 0, 1], 9, 3, None);
        check(&[0, 3, 2, 1], 9, 4, None);
        check(&[0, 1], 9, 2, None);
        check(&[0], 9, 0, None);
        check(&[1, u64::MAX], u64::MAX, u64::MAX, None);
    }
}
