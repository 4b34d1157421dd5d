//! The secret with which a client resumes a link (§8.1).

use std::fmt;

/// 16 random bytes with which a client proves that a link is its own. They are compared in constant time, and never shown.
#[derive(Clone, Copy)]
pub struct Token([u8; 16]);

impl Token {
    /// Makes a token of bytes from a cryptographic generator.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Reads a token off the front of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().copied().map(Self)
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}
