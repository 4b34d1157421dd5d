//! The form of a record in the file: a mark, a checksum, then JSON.
//!
//! redb verifies its own checksums only when it repairs a file. A flipped bit in the text of a document can leave JSON that
//! is well-formed and wrong.

use std::io;

use crate::redb_file::{checksum, damaged};

/// The first byte of a record. It differs by more than one bit from `{`, the first byte of records without a checksum.
const MARK: u8 = b'1';

/// The bytes of the mark and the checksum.
const HEAD: usize = 9;

/// The content of a record. The checksum covers it: a record under another key is not valid.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    Snapshot(&'a str),
    Commit(&'a str, u64),
}

impl Of<'_> {
    fn sum(self, json: &[u8]) -> u64 {
        match self {
            Self::Snapshot(key) => checksum([b"snapshot ", key.as_bytes(), b"\0", json]),
            Self::Commit(key, version) => {
                checksum([b"commit ", key.as_bytes(), b"\0", &version.to_le_bytes(), json])
            }
        }
    }

    /// Returns the record for some JSON.
    pub(super) fn seal(self, json: &[u8]) -> Vec<u8> {
        let mut record = Vec::with_capacity(HEAD + json.len());
        record.push(MARK);
        record.extend(self.sum(json).to_le_bytes());
        record.extend(json);
        record
    }

    /// Returns the JSON of a record.
    ///
    /// # Errors
    /// Returns an error if this record was not written under this key, or was changed since.
    pub(super) fn unseal(self, record: &[u8]) -> io::Result<&[u8]> {
        match record.split_first_chunk::<HEAD>() {
            Some(([MARK, sum @ ..], json)) if self.sum(json).to_le_bytes() == *sum => Ok(json),
            // Earlier versions of the server wrote no checksums.
            _ if record.first() == Some(&b'{') => Ok(record),
            _ => Err(damaged(match self {
                Self::Snapshot(_) => "its last snapshot differs from the written one".into(),
                Self::Commit(_, version) => {
                    format!("the commit of version {version} differs from the written one")
                }
            })),
        }
    }
}

/// Returns the bytes that may be the JSON of a damaged record.
pub(super) fn unverified(record: &[u8]) -> &[u8] {
    record.get(HEAD..).unwrap_or_default()
}

/// Returns the checksum of a name, which the file has beside it.
pub(super) fn name_sum(key: &str) -> u64 {
    checksum([b"name ", key.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_valid_only_as_it_was_written_and_where() {
        let json = br#"{"id":"a","wrote":["/x"]}"#;
        for of in [Of::Snapshot("demo/a"), Of::Commit("demo/a", 7)] {
            let record = of.seal(json);
            assert_eq!(of.unseal(&record).ok(), Some(&json[..]));
            for bit in 0..record.len() * 8 {
                let mut flipped = record.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(of.unseal(&flipped).is_err(), "bit {bit}");
            }
            for length in 0..record.len() {
                assert!(of.unseal(&record[..length]).is_err(), "{length} bytes");
            }
            for other in [Of::Snapshot("demo/b"), Of::Commit("demo/a", 8), Of::Commit("demo/b", 7)] {
                assert!(other.unseal(&record).is_err(), "{other:?}");
            }
            assert_eq!(of.unseal(json).ok(), Some(&json[..]), "written without a sum");
        }
    }
}
