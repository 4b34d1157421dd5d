//! The limits of each side, which it sends to the other in its HELLO (§3.1).

use crate::varint;
use crate::violation::Rule;
use crate::{Millis, Violation};

/// The cost of every message and every piece of one besides its units (§6). Without it a flood of
/// empty messages would be free; 64 is about the bytes that a receiver needs to queue an empty message.
pub const MESSAGE_OVERHEAD: u32 = 64;

/// The least window: below it a piece of [`MIN_PIECE`] could not always be sent (§6).
pub(crate) const MIN_WINDOW: u32 = 16 * 1024;

/// A message is cut to less than this only at its end: smaller pieces cost more than they give.
pub(crate) const MIN_PIECE: u32 = 4096;

/// How far ids may exceed `max_channels`: opens that left before the client knew the limit.
pub(crate) const CHANNEL_SLACK: u32 = 1024;

/// The largest message of a client that imitates a browser, in units: browsers have no limit, and 256 MiB is half of the longest
/// string of a page. HELLO holds it in four bytes.
pub const CLIENT_MAX_MESSAGE: u32 = (256 << 20) - 1;

/// Credit never exceeds this, so that no sum overflows on a peer that counts in 32 signed bits.
pub(crate) const MAX_CREDIT: u32 = i32::MAX as u32;

/// The limits that a side sets for its peer. Later versions may add some, so only [`new`](Self::new) makes one, and methods set values:
///
/// ```
/// use manysocket_protocol::Settings;
///
/// let settings = Settings::new().max_channels(100).max_message(1 << 20);
/// assert_eq!(settings.window, Settings::default().window);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Channels that may be open at once; opens beyond it are refused with 503. Only the server's
    /// counts. 16,384 lets a page open ten thousand, and bounds the memory that one link can make a server hold.
    pub max_channels: u32,
    /// Credit, in units, that each channel starts with in this side's direction (§6). 256 KiB kept
    /// the latency of other channels below native's beside a bulk transfer (1 MiB: four times it).
    pub window: u32,
    /// By how much the windows of all channels may grow, together, where that makes a transfer
    /// faster (§6). 8 MiB fill a path of 300 Mbit/s and 200 ms; it bounds the memory that a link can hold
    /// beyond its windows. Not sent to the peer.
    pub window_growth: u32,
    /// The longest target and subprotocols of an OPEN, together, in units; a longer one is refused with
    /// 431. 32 KiB is this project's limit for the head of a native request. Not sent to the peer.
    pub max_open: u32,
    /// Opens that may be aborted in ten seconds: taken back, refused, or closed by a message past
    /// `max_message`. A further OPEN ends the link with 1008: each cost the server a request, and the
    /// client two frames. 16,384: a page may give up all its channels at once. Not sent to the peer.
    pub max_churn: u32,
    /// The largest message, in units (text: UTF-16 code units, binary: bytes). A channel that gets
    /// more is closed with 1009. 64 MiB is a common limit of servers of native WebSockets.
    pub max_message: u32,
    /// The largest piece of a message, in units; longer messages are cut. 1 MiB: it bounds the memory that a
    /// physical message takes, and pieces must be joined again (256 KiB cost a transfer of 1 MiB
    /// messages a sixth of its rate). The window bounds the wait of others.
    pub max_fragment: u32,
    /// This side lets no longer time pass without sending something; 0: it makes no promise (§8).
    /// 25 s is below the 30 and 60 s after which common proxies drop a silent connection.
    pub ping_interval: Millis,
    /// How long the server keeps a link that has lost its connection, for the client to resume it (§8.1). On a client, any
    /// time but 0 says that it may resume. 0, the default: the link ends with its connection.
    pub resume_timeout: Millis,
    /// A number by which proxies can find the server again when the client resumes a link; 0: none (§8.1).
    pub node: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// Returns the defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_channels: 16_384,
            window: 256 * 1024,
            window_growth: 8 * 1024 * 1024,
            max_open: 32 * 1024,
            max_churn: 16_384,
            max_message: 64 * 1024 * 1024,
            max_fragment: 1024 * 1024,
            ping_interval: 25_000,
            resume_timeout: 0,
            node: 0,
        }
    }

    /// Sets [`max_channels`](field@Self::max_channels).
    #[must_use]
    pub const fn max_channels(mut self, count: u32) -> Self {
        self.max_channels = count;
        self
    }

    /// Sets [`window`](field@Self::window).
    #[must_use]
    pub const fn window(mut self, units: u32) -> Self {
        self.window = units;
        self
    }

    /// Sets [`window_growth`](field@Self::window_growth).
    #[must_use]
    pub const fn window_growth(mut self, units: u32) -> Self {
        self.window_growth = units;
        self
    }

    /// Sets [`max_open`](field@Self::max_open).
    #[must_use]
    pub const fn max_open(mut self, units: u32) -> Self {
        self.max_open = units;
        self
    }

    /// Sets [`max_churn`](field@Self::max_churn).
    #[must_use]
    pub const fn max_churn(mut self, count: u32) -> Self {
        self.max_churn = count;
        self
    }

    /// Sets [`max_message`](field@Self::max_message).
    #[must_use]
    pub const fn max_message(mut self, units: u32) -> Self {
        self.max_message = units;
        self
    }

    /// Sets [`max_fragment`](field@Self::max_fragment).
    #[must_use]
    pub const fn max_fragment(mut self, units: u32) -> Self {
        self.max_fragment = units;
        self
    }

    /// Sets [`resume_timeout`](field@Self::resume_timeout).
    #[must_use]
    pub const fn resume_timeout(mut self, time: Millis) -> Self {
        self.resume_timeout = time;
        self
    }

    /// Sets [`node`](field@Self::node).
    #[must_use]
    pub const fn node(mut self, number: u32) -> Self {
        self.node = number;
        self
    }

    /// Sets [`ping_interval`](field@Self::ping_interval).
    #[must_use]
    pub const fn ping_interval(mut self, time: Millis) -> Self {
        self.ping_interval = time;
        self
    }
}

/// Parameter keys of a HELLO.
mod key {
    pub(super) const MAX_CHANNELS: u32 = 1;
    pub(super) const WINDOW: u32 = 2;
    pub(super) const MAX_MESSAGE: u32 = 3;
    pub(super) const MAX_FRAGMENT: u32 = 4;
    pub(super) const PING_INTERVAL: u32 = 5;
    pub(super) const RESUME_TIMEOUT: u32 = 6;
    pub(super) const NODE: u32 = 7;
}

impl Settings {
    /// Writes the body of a HELLO.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let millis = |time: Millis| u32::try_from(time).unwrap_or(u32::MAX);
        for (key, value) in [
            (key::MAX_CHANNELS, self.max_channels),
            (key::WINDOW, self.window),
            (key::MAX_MESSAGE, self.max_message),
            (key::MAX_FRAGMENT, self.max_fragment),
            (key::PING_INTERVAL, millis(self.ping_interval)),
            (key::RESUME_TIMEOUT, millis(self.resume_timeout)),
            (key::NODE, self.node),
        ] {
            // 0 is the default of keys that the first version did not know.
            if value > 0 || key <= key::PING_INTERVAL {
                varint::write(out, key);
                varint::write(out, value);
            }
        }
    }

    /// Reads the body of a HELLO. Parameters that are missing keep their defaults, unknown ones
    /// are passed over: later versions may add some.
    pub(crate) fn decode(mut body: &[u8]) -> Result<Self, Violation> {
        let mut settings = Self::default();
        while !body.is_empty() {
            let (Some(key), Some(value)) = (varint::read(&mut body), varint::read(&mut body)) else {
                return Err(Rule::HelloCut.broken());
            };
            match key {
                key::MAX_CHANNELS => settings.max_channels = value,
                key::WINDOW => settings.window = value,
                key::MAX_MESSAGE => settings.max_message = value,
                key::MAX_FRAGMENT => settings.max_fragment = value,
                key::PING_INTERVAL => settings.ping_interval = Millis::from(value),
                key::RESUME_TIMEOUT => settings.resume_timeout = Millis::from(value),
                key::NODE => settings.node = value,
                _ => {}
            }
        }
        if settings.window < MIN_WINDOW || settings.window > MAX_CREDIT {
            return Err(Rule::HelloWindow.broken());
        }
        if settings.max_fragment < MIN_PIECE {
            return Err(Rule::HelloFragment.broken());
        }
        Ok(settings)
    }

    /// Returns the same, with every value inside the protocol's bounds.
    pub(crate) fn clamped(mut self) -> Self {
        self.window = self.window.clamp(MIN_WINDOW, MAX_CREDIT);
        self.max_fragment = self.max_fragment.max(MIN_PIECE);
        self
    }
}
