//! Makes contents of messages from their numbers, so that a receiver can compare.

use fastrand::Rng;
use manysocket_protocol::Message;

/// The length of messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sizes {
    /// Mostly below 200 bytes, some of some KiB.
    Small,
    /// 4 to 16 KiB: a few dozen fill a window.
    Medium,
    /// 64 KiB to 1 MiB.
    Large,
}

impl Sizes {
    fn choose(self, rng: &mut Rng) -> usize {
        match self {
            Self::Small if rng.u8(..) < 16 => rng.usize(0..8 << 10),
            Self::Small => rng.usize(0..200),
            Self::Medium => rng.usize(4 << 10..16 << 10),
            Self::Large => rng.usize(64 << 10..1 << 20),
        }
    }
}

/// The characters of texts: of one, two, three and four bytes.
const LETTERS: [&str; 4] = ["plain ", "élève ", "日本語 ", "👩‍🚀 "];

/// Makes the message with the given number: text or binary, now and then empty.
pub(crate) fn content(seed: u64, number: u64, sizes: Sizes) -> Message {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
    let is_text = rng.bool();
    if rng.u8(..) < 8 {
        return if is_text { Message::text("") } else { Message::binary(Vec::new()) };
    }
    let size = sizes.choose(&mut rng);
    // Its number comes first, so that no two are alike.
    let mut text = format!("{number}:");
    if is_text {
        let letters = LETTERS[rng.usize(..LETTERS.len())];
        text.push_str(&letters.repeat(size / letters.len()));
        Message::text(text)
    } else {
        let mut bytes = text.into_bytes();
        let block: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(64).collect();
        bytes.extend(block.iter().cycle().take(size));
        Message::binary(bytes)
    }
}
