//! Random choices that can be made again: from a seed, or from a fuzzer's input.

use std::collections::VecDeque;

pub(crate) enum Rng {
    /// SplitMix64: a seed means the same run everywhere.
    Seed(u64),
    /// The bytes that are left; zeros follow.
    Input(VecDeque<u8>),
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng::Seed(seed)
    }

    pub(crate) fn from_input(input: &[u8]) -> Self {
        Rng::Input(input.iter().copied().collect())
    }

    pub(crate) fn next(&mut self) -> u64 {
        match self {
            Rng::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
            // Two bytes are enough for nearly every choice, and let a short input say much.
            Rng::Input(bytes) => {
                let mut byte = || u64::from(bytes.pop_front().unwrap_or(0));
                byte() | byte() << 8
            }
        }
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
