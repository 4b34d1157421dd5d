//! The state of one virtual socket that its application sees.

use crate::connection::MAX_REASON;

/// `WebSocket.readyState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ReadyState {
    /// The server has not answered.
    #[default]
    Connecting = 0,
    /// Messages may be sent.
    Open = 1,
    /// The application has closed the socket.
    Closing = 2,
    /// The socket has ended.
    Closed = 3,
}

/// The host's action when an application closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing: the socket was closed before.
    Nothing,
    /// Fail the connection: the socket never opened (WHATWG, `close()`).
    Fail,
    /// Start the closing handshake, behind all that was sent.
    Handshake,
}

/// The state of a socket that its application sees.
///
/// It follows the events when the host delivers them: an application that has not seen `open` yet still reads
/// [`ReadyState::Connecting`], although the server has accepted the socket. It serves sockets over a [`Link`](super::Link)
/// and sockets that a host carries in another way.
#[derive(Debug, Default)]
pub struct Socket {
    state: ReadyState,
    dropped: u64,
}

impl Socket {
    /// Returns the state that the application sees.
    pub fn ready_state(&self) -> ReadyState {
        self.state
    }

    /// Bytes that were sent in vain once closing had begun. They stay in `bufferedAmount`.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts bytes that will never be sent.
    pub fn count_dropped(&mut self, bytes: u64) {
        self.dropped += bytes;
    }

    /// Closes the socket for the application.
    pub fn close(&mut self) -> Closing {
        let closing = match self.state {
            ReadyState::Connecting => Closing::Fail,
            ReadyState::Open => Closing::Handshake,
            ReadyState::Closing | ReadyState::Closed => return Closing::Nothing,
        };
        self.state = ReadyState::Closing;
        closing
    }

    /// Delivers an `open`. Returns whether the application sees it: not once it has closed the socket.
    pub fn deliver_open(&mut self) -> bool {
        let opens = self.state == ReadyState::Connecting;
        if opens {
            self.state = ReadyState::Open;
        }
        opens
    }

    /// Delivers a message. Returns whether the application sees it: only while the socket is open (WHATWG, "a
    /// WebSocket message has been received").
    pub fn deliver_message(&self) -> bool {
        self.state == ReadyState::Open
    }

    /// Delivers an `error` or a `close`.
    pub fn deliver_end(&mut self) {
        self.state = ReadyState::Closed;
    }
}

/// Checks an application's close code and the length of its reason in bytes (WHATWG, `close()`), and returns the code to
/// send: 1000 for a reason without a code.
///
/// # Errors
/// Returns the reason: the code is neither 1000 nor from 3000 to 4999, or the reason is longer than 123 bytes.
pub fn check_close(code: Option<u16>, reason_bytes: usize) -> Result<Option<u16>, &'static str> {
    if code.is_some_and(|code| code != 1000 && !(3000..=4999).contains(&code)) {
        return Err("the close code must be 1000 or from 3000 to 4999");
    }
    if reason_bytes > MAX_REASON as usize {
        return Err("the close reason must not be longer than 123 bytes of UTF-8");
    }
    Ok(code.or((reason_bytes > 0).then_some(1000)))
}
