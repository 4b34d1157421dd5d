//! A bystander at one side of a link. It reads every frame that its side sends and receives, knows the protocol only as
//! `docs/protocol.md` describes it, and keeps the books: the channels that exist, and the credit of each side.

use std::collections::{BTreeMap, VecDeque};

use data_encoding::BASE64URL_NOPAD;
use manysocket_protocol::{Channel, Kind, LARGE, MESSAGE_OVERHEAD, Physical, Settings, Side};

use super::resumption_books::Books;

/// Which way a frame goes, as the side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Sent,
    Received,
}

/// The least piece of a message that is not its last (§6), beside a surrogate pair.
const MIN_PIECE: u32 = 4095;

/// The state of a channel. Pairs are by [`Way`].
#[derive(Default, Debug)]
struct Ledger {
    accepted: bool,
    ended: [bool; 2],
    /// Its side takes nothing more.
    given_up: bool,
    /// The credit that is left that way.
    credit: [u32; 2],
    /// The kind of a message of which a part has gone that way.
    partial: [Option<Kind>; 2],
    /// The cost of the last pieces of unread messages. Credit and they together never exceed the window: a piece that comes
    /// only moves its cost from one to the other.
    unread: VecDeque<u32>,
}

#[derive(Debug)]
pub(crate) struct Observer {
    side: Side,
    own: Settings,
    peer: Settings,
    hello: [bool; 2],
    raw: [Option<(Channel, bool)>; 2],
    channels: BTreeMap<Channel, Ledger>,
    highest: Channel,
    /// A PING has come that has not been answered.
    owes_pong: bool,
    /// A PING has been sent, and `take_ping` has not returned it.
    pinged: bool,
    resumption: Books,
}

impl Observer {
    pub(crate) fn new(side: Side, own: Settings, peer: Settings) -> Self {
        Self {
            side,
            own,
            peer,
            hello: [false; 2],
            raw: [None; 2],
            channels: BTreeMap::new(),
            highest: 0,
            owes_pong: false,
            pinged: false,
            resumption: Books::new(side, own, peer),
        }
    }

    /// The channels that have not ended in both directions.
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Whether the peer's HELLO has come.
    pub(crate) fn knows_peer(&self) -> bool {
        self.hello[Way::Received as usize]
    }

    pub(crate) fn owes_pong(&self) -> bool {
        self.owes_pong
    }

    /// Whether its side has sent a PING since it was last asked.
    pub(crate) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.pinged)
    }

    /// Whether the link must outlive the loss of its carrier.
    pub(crate) fn can_resume(&self) -> bool {
        self.resumption.can_resume()
    }

    /// The messages that the peer has not acknowledged, and their cost.
    pub(crate) fn unacknowledged(&self) -> (usize, usize) {
        self.resumption.unacknowledged()
    }

    /// The window that its side has announced.
    pub(crate) fn window(&self) -> u32 {
        self.own.window
    }

    /// The credit that is left one way.
    pub(crate) fn credit(&self, channel: Channel, way: Way) -> u32 {
        self.channels[&channel].credit[way as usize]
    }

    /// All that its side wanted to send has been seen: its windows must not have grown further than they may, together.
    pub(crate) fn check_windows(&self) {
        let Settings { window, window_growth, .. } = self.own;
        // Messages on others are not kept.
        let kept =
            self.channels.values().filter(|ledger| !ledger.given_up && !ledger.ended[Way::Received as usize]);
        let sizes =
            kept.map(|ledger| ledger.credit[Way::Received as usize] + ledger.unread.iter().sum::<u32>());
        let grown: u32 = sizes.map(|size| size.saturating_sub(window)).sum();
        assert!(grown <= window_growth, "the windows have grown by {grown}, and may by {window_growth}");
    }

    /// The side's application has read so many messages.
    pub(crate) fn consumed(&mut self, channel: Channel, messages: usize) {
        if let Some(ledger) = self.channels.get_mut(&channel) {
            ledger.unread.drain(..messages.min(ledger.unread.len()));
        }
    }

    /// The first batch, as it stands in the URL.
    pub(crate) fn see_handshake(&mut self, way: Way, parameter: &str) {
        self.batch(way, &BASE64URL_NOPAD.decode(parameter.as_bytes()).expect("base64url"));
    }

    pub(crate) fn see(&mut self, way: Way, message: &Physical) {
        if way == Way::Sent && self.resumption.repeats(message) {
            return;
        }
        let counted = match message {
            Physical::Text(bytes) => {
                let text = str::from_utf8(bytes).expect("UTF-8");
                let (sign, _) = text.char_indices().find(|(_, c)| !c.is_ascii_digit()).expect("a sign");
                let channel = text[..sign].parse().expect("a channel");
                let units = text[sign + 1..].encode_utf16().count() as u32;
                self.data(way, channel, Kind::Text, text.as_bytes()[sign] == b':', units);
                Some(units)
            }
            Physical::Binary(bytes) => match self.raw[way as usize] {
                Some((channel, fin)) if bytes.len() as u32 >= LARGE => {
                    self.data(way, channel, Kind::Binary, fin, bytes.len() as u32);
                    Some(bytes.len() as u32)
                }
                _ => self.batch(way, bytes),
            },
        };
        if let Some(units) = counted {
            self.resumption.count(way, message, units);
        }
    }

    /// Returns the units of the batch if it counts (§8.1): the bytes of its headers, and those of its runs.
    fn batch(&mut self, way: Way, mut bytes: &[u8]) -> Option<u32> {
        let (mut has_hello, mut counts) = (false, false);
        let (headers, text) = (integer(&mut bytes) as usize, integer(&mut bytes) as usize);
        let (mut headers, rest) = bytes.split_at(headers);
        let length = headers.len() as u32;
        let (text, binary) = rest.split_at(text);
        let (mut texts, mut binaries) = (0, 0);
        while !headers.is_empty() {
            let tag = integer(&mut headers);
            let (channel, kind) = (tag >> 4, tag & 15);
            let is_of_carrier = kind == 11 && !(3..8).contains(&channel);
            has_hello |= tag == 11;
            counts |= !is_of_carrier;
            assert!(self.hello[way as usize] || tag == 11, "HELLO comes first");
            match kind {
                0..=3 => {
                    let units = integer(&mut headers);
                    let (kind, sum) =
                        if kind < 2 { (Kind::Text, &mut texts) } else { (Kind::Binary, &mut binaries) };
                    *sum += units;
                    self.data(way, channel, kind, tag & 1 == 0, units);
                }
                4 | 5 => self.raw[way as usize] = (channel != 0).then_some((channel, kind == 4)),
                6 | 12 => {
                    let strings = if kind == 6 { 2 } else { 3 };
                    texts += (0..strings).map(|_| integer(&mut headers)).sum::<u32>();
                    self.open(way, channel);
                }
                7 => {
                    texts += integer(&mut headers);
                    self.accept(way, channel);
                }
                8 => {
                    let _status = integer(&mut headers);
                    texts += integer(&mut headers);
                    self.by(way, Side::Server);
                    assert!(!self.channel(channel).accepted, "REFUSE {channel} after ACCEPT");
                    self.end(way, channel);
                }
                9 => {
                    let code = integer(&mut headers);
                    texts += integer(&mut headers);
                    let gives_up_early = code == 1006 && self.sender(way) == Side::Client;
                    // The answer to a REFUSE follows it.
                    let ledger = self.channel(channel);
                    let refused = ledger.ended[1 - way as usize];
                    assert!(ledger.accepted || gives_up_early || refused, "CLOSE {channel} before ACCEPT");
                    ledger.given_up |= way == Way::Sent && matches!(code, 1006 | 1009);
                    self.end(way, channel);
                }
                10 => {
                    let units = integer(&mut headers);
                    self.grant(way, channel, units);
                }
                11 => {
                    let length = integer(&mut headers) as usize;
                    let (body, rest) = headers.split_at(length);
                    headers = rest;
                    self.link_frame(way, channel, body);
                }
                _ => panic!("frame kind {kind}"),
            }
        }
        let text = str::from_utf8(text).expect("UTF-8").encode_utf16().count();
        assert_eq!(
            (texts as usize, binaries as usize),
            (text, binary.len()),
            "headers tell of what there is"
        );
        let units = length + (text + binary.len()) as u32;
        (counts && !has_hello).then_some(units)
    }

    fn sender(&self, way: Way) -> Side {
        match (self.side, way) {
            (side, Way::Sent) => side,
            (Side::Client, Way::Received) => Side::Server,
            (Side::Server, Way::Received) => Side::Client,
        }
    }

    fn by(&self, way: Way, side: Side) {
        assert_eq!(self.sender(way), side, "the frame is the {side:?}'s");
    }

    fn channel(&mut self, channel: Channel) -> &mut Ledger {
        self.channels.get_mut(&channel).unwrap_or_else(|| panic!("channel {channel} is not open"))
    }

    fn link_frame(&mut self, way: Way, link: u32, mut body: &[u8]) {
        match link {
            0 => assert!(!std::mem::replace(&mut self.hello[way as usize], true), "a second HELLO"),
            1 if way == Way::Received => self.owes_pong = true,
            1 => self.pinged = true,
            2 if way == Way::Sent => {
                // Over another carrier, it would answer a later PING.
                assert!(std::mem::take(&mut self.owes_pong), "PONG without a PING");
            }
            8 => self.resumption.acknowledge(way, integer(&mut body)),
            9 => self.resumption.token(way, body.is_empty()),
            10 => {
                let _carrier = integer(&mut body);
                self.resumption.acknowledge(way, integer(&mut body));
                self.begin_carrier();
            }
            11 => {
                self.resumption.acknowledge(way, integer(&mut body));
                self.begin_carrier();
            }
            _ => {}
        }
    }

    /// RESUME or RESUMED: pings that wait for an answer get none over another carrier.
    fn begin_carrier(&mut self) {
        (self.owes_pong, self.pinged) = (false, false);
        self.resumption.begin_carrier();
    }

    fn open(&mut self, way: Way, channel: Channel) {
        self.by(way, Side::Client);
        if way == Way::Sent && self.knows_peer() {
            assert!(self.channels.len() < self.peer.max_channels as usize, "OPEN beyond max_channels");
        }
        assert!(channel > 0 && channel <= self.highest + 1, "OPEN {channel} skips numbers");
        self.highest = self.highest.max(channel);
        let before = self.channels.insert(channel, Ledger::default());
        assert!(before.is_none(), "OPEN of channel {channel}, which has not ended");
    }

    fn accept(&mut self, way: Way, channel: Channel) {
        self.by(way, Side::Server);
        let credit = [self.peer.window, self.own.window];
        let ledger = self.channel(channel);
        assert!(
            !ledger.accepted && !ledger.ended[way as usize],
            "ACCEPT of channel {channel}, which is not opening"
        );
        (ledger.accepted, ledger.credit) = (true, credit);
    }

    fn data(&mut self, way: Way, channel: Channel, kind: Kind, fin: bool, units: u32) {
        let receiver = if way == Way::Sent { self.peer } else { self.own };
        let ledger = self.channel(channel);
        assert!(
            ledger.accepted && !ledger.ended[way as usize],
            "data on channel {channel}, which is not open"
        );
        assert!(units <= receiver.max_fragment, "a piece of {units} units");
        assert!(fin || units >= MIN_PIECE, "a piece of {units} units that is not the last");
        let partial = ledger.partial[way as usize].replace(kind);
        assert!(partial.is_none_or(|partial| partial == kind), "pieces of one kind");
        if fin {
            ledger.partial[way as usize] = None;
        }
        let (cost, credit) = (units + MESSAGE_OVERHEAD, &mut ledger.credit[way as usize]);
        *credit =
            credit.checked_sub(cost).unwrap_or_else(|| panic!("{cost} units with a credit of {credit}"));
        if fin && way == Way::Received {
            ledger.unread.push_back(cost);
        }
    }

    fn grant(&mut self, way: Way, channel: Channel, units: u32) {
        let ledger = self.channel(channel);
        assert!(
            ledger.accepted && !ledger.ended[way as usize],
            "GRANT on channel {channel}, which is not open"
        );
        // The other side may send as much as this side grants.
        ledger.credit[1 - way as usize] += units;
    }

    /// A terminal frame.
    fn end(&mut self, way: Way, channel: Channel) {
        let ledger = self.channel(channel);
        assert!(!ledger.ended[way as usize], "channel {channel} ends twice");
        ledger.ended[way as usize] = true;
        if ledger.ended == [true; 2] {
            self.channels.remove(&channel);
        }
        if self.raw[way as usize].is_some_and(|(raw, _)| raw == channel) {
            self.raw[way as usize] = None;
        }
    }
}

/// Takes an integer off the front (§2.1).
fn integer(bytes: &mut &[u8]) -> u32 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a whole integer");
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
