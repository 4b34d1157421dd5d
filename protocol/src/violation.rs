//! Breaches of the protocol, which end the link.

use std::fmt;

use crate::Channel;

/// The rules that a peer can break, numbered from 1 in this order (docs/protocol.md §9): the client has no room for
/// texts, and names a rule by its number.
macro_rules! rules {
    ($($name:ident $code:literal $text:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Rule {
            $($name,)*
        }

        impl Rule {
            /// The reason, in at most 123 bytes.
            const fn text(self) -> &'static str {
                match self {
                    $(Rule::$name => $text,)*
                }
            }

            /// RFC 6455 §7.4.1: 1002, a breach of the protocol; 1007, data that is not consistent with its type; 1008, a
            /// limit that was not kept.
            const fn code(self) -> u16 {
                match self {
                    $(Rule::$name => $code,)*
                }
            }
        }

        #[cfg(test)]
        const RULES: &[Rule] = &[$(Rule::$name,)*];
    };
}

rules! {
    Cut 1002 "a frame header is cut short or a number in it too large";
    UnknownKind 1002 "unknown frame kind";
    NoHello 1002 "the first frame is not HELLO";
    SecondHello 1002 "a second HELLO";
    HelloCut 1002 "HELLO is cut short";
    HelloWindow 1002 "HELLO: the window must be 16 KiB to 2 GiB";
    HelloFragment 1002 "HELLO: max_fragment must be 4 KiB or more";
    BatchCut 1002 "a batch is shorter than its lengths tell";
    BatchLeftOver 1002 "a batch holds more content than its headers tell";
    BatchExceeded 1002 "headers tell of more content than the batch holds";
    NoPrefix 1002 "a physical text message does not begin with a channel number and ':' or '+'";
    NoRaw 1002 "a raw payload without its header";
    NoChannel 1002 "a frame for a channel that is not open";
    OpenByServer 1002 "a server does not open channels";
    OpenSkips 1002 "OPEN skips channel numbers";
    OpenTaken 1002 "OPEN of a channel that has not ended";
    OpenBeyond 1008 "OPEN far beyond max_channels";
    Churn 1008 "too many opens that came to nothing";
    AcceptByClient 1002 "a client does not accept channels";
    AcceptLate 1002 "ACCEPT of a channel that is not opening";
    RefuseByClient 1002 "a client does not refuse channels";
    RefuseLate 1002 "REFUSE of a channel that is not opening";
    CloseCode 1002 "CLOSE with a code that RFC 6455 does not allow";
    CloseReason 1002 "CLOSE with a reason of more than 123 bytes";
    CloseWithoutCode 1002 "CLOSE with a reason but no code";
    CloseEarly 1002 "CLOSE of a channel that has not been accepted";
    CloseTwice 1002 "CLOSE after CLOSE";
    GrantEarly 1002 "GRANT on a channel that has not been accepted";
    GrantLate 1002 "GRANT after CLOSE";
    GrantExcess 1002 "GRANT past the largest credit";
    DataEarly 1002 "data on a channel that has not been accepted";
    DataLate 1002 "data after CLOSE";
    DataMixed 1002 "text and binary pieces in one message";
    NoCredit 1008 "data beyond the credit";
    Silent 1008 "the peer has been silent for too long";
    Handshake 1002 "the first batch in the handshake is not base64url without padding";
    TextNotUtf8 1007 "a physical text message is not UTF-8";
    RunNotUtf8 1007 "a batch's text run is not UTF-8";
    PairCut 1007 "a text is cut inside a surrogate pair";
    Huge 1008 "a message past 4 GiB";
    Outside 1002 "a message lies outside its batch";
    HandshakeTwice 1002 "the handshake holds two first batches";
    AckBeyond 1002 "ACK or RESUMED of messages that were never sent";
    Resumption 1002 "TOKEN, RESUME or RESUMED where none is due";
}

impl Rule {
    /// It has been broken, on no channel in particular.
    pub(crate) const fn broken(self) -> Violation {
        Violation { rule: self, channel: None }
    }

    /// It has been broken on a channel.
    pub(crate) const fn on(self, channel: Channel) -> Violation {
        Violation { rule: self, channel: Some(channel) }
    }
}

/// A breach of the protocol by the peer. The host closes the link with [`Violation::code`] and
/// logs the text; other links are not concerned (§9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    rule: Rule,
    channel: Option<Channel>,
}

impl Violation {
    /// Returns the number of the broken rule, for hosts without room for texts.
    pub fn number(&self) -> u32 {
        self.rule as u32 + 1
    }

    /// Returns the code to close the physical WebSocket with.
    pub fn code(&self) -> u16 {
        self.rule.code()
    }

    /// Returns the reason, in at most 123 bytes: it fits the reason of a Close frame (RFC 6455 §5.5).
    pub fn reason(&self) -> &'static str {
        self.rule.text()
    }

    /// Returns the name of the setting whose limit was crossed, if this side has set it.
    pub fn limit(&self) -> Option<&'static str> {
        match self.rule {
            Rule::OpenBeyond => Some("max_channels"),
            Rule::Churn => Some("max_churn"),
            Rule::NoCredit => Some("window"),
            Rule::Huge => Some("max_message"),
            Rule::Silent => Some("ping_interval"),
            _ => None,
        }
    }

    /// Returns the channel of the violation, if it concerns one.
    pub fn channel(&self) -> Option<Channel> {
        self.channel
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self.channel {
            Some(channel) => write!(f, " (channel {channel}, close code {})", self.code()),
            None => write!(f, " (close code {})", self.code()),
        }
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_rule() {
        let document = include_str!("../../docs/protocol.md");
        for rule in RULES {
            let violation = rule.broken();
            let row = format!("| {} | {} | {} |", violation.number(), violation.code(), violation.reason());
            assert!(document.contains(&row), "docs/protocol.md §9 lacks: {row}");
            assert!(violation.reason().len() <= 123, "fits a Close frame: {row}");
        }
    }
}
