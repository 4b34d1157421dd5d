//! Lies of a peer: about itself, about credit, about channels that it does not have.

use futures_util::SinkExt;
use manysocket_protocol::SUBPROTOCOL;
use tokio_tungstenite::tungstenite as ts;

use crate::common::binary::Binary;
use crate::common::{Link, dial};
use crate::measure::survive;
use crate::wire::{
    ACCEPT, CLOSE, ECHO, GRANT, LINK, MAX_CHANNELS, MAX_CREDIT, MAX_FRAGMENT, MAX_MESSAGE, OPEN,
    PING_INTERVAL, RAW, REFUSE, TEXT, WINDOW, batch, end, frame, hello, next, opened, opens, settled, silent,
    unknown,
};

/// The traffic before the lie.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// Channel 1 is open.
    Open,
}

/// A lie that ends a link, and the reason that it ends with.
fn wrong() -> Vec<(Before, Vec<u8>, &'static str)> {
    use Before::{Nothing, Open};
    let open = |channel| frame(channel, OPEN, &[0, 0]);
    let close = |channel, code| frame(channel, CLOSE, &[code, 0]);
    let grant = |channel, units| frame(channel, GRANT, &[units]);
    let text = |channel, units| frame(channel, TEXT, &[units]);
    // Tags have 32 bits, four of them for the kind.
    let largest = (1 << 28) - 1;
    vec![
        (Nothing, open(1), "the first frame is not HELLO"),
        (Nothing, hello(&[]).repeat(2), "a second HELLO"),
        (Open, hello(&[]), "a second HELLO"),
        (Nothing, hello(&[(WINDOW, u32::MAX as usize)]), "HELLO: the window must be 16 KiB to 2 GiB"),
        (Nothing, hello(&[(WINDOW, MAX_CREDIT + 1)]), "HELLO: the window must be 16 KiB to 2 GiB"),
        (Nothing, hello(&[(WINDOW, 0)]), "HELLO: the window must be 16 KiB to 2 GiB"),
        (Nothing, hello(&[(MAX_FRAGMENT, 1)]), "HELLO: max_fragment must be 4 KiB or more"),
        (Nothing, hello(&[(MAX_MESSAGE, 1 << 40)]), "HELLO is cut short"),
        (Nothing, [frame(0, LINK, &[1]), vec![2]].concat(), "HELLO is cut short"),
        (
            Nothing,
            [frame(0, LINK, &[100]), vec![2]].concat(),
            "a frame header is cut short or a number in it too large",
        ),
        (Open, vec![0xff; 20], "a frame header is cut short or a number in it too large"),
        (Open, frame(1, 15, &[]), "unknown frame kind"),
        (Open, grant(1, u32::MAX as usize), "GRANT past the largest credit"),
        (Open, grant(1, MAX_CREDIT), "GRANT past the largest credit"),
        (Open, grant(1, MAX_CREDIT / 2).repeat(2), "GRANT past the largest credit"),
        (Open, grant(0, 1), "a frame for a channel that is not open"),
        (Open, grant(5, 1), "a frame for a channel that is not open"),
        (Open, [open(2), grant(2, 1)].concat(), "GRANT on a channel that has not been accepted"),
        (Open, [close(1, 0), grant(1, 1)].concat(), "GRANT after CLOSE"),
        (Open, close(5, 0), "a frame for a channel that is not open"),
        (Open, close(1, 0).repeat(2), "CLOSE after CLOSE"),
        (Open, close(1, 1005), "CLOSE with a code that RFC 6455 does not allow"),
        (Open, text(5, 0), "a frame for a channel that is not open"),
        (Open, text(largest, 0), "a frame for a channel that is not open"),
        (Open, [close(1, 0), text(1, 0)].concat(), "data after CLOSE"),
        (Open, [open(2), text(2, 0)].concat(), "data on a channel that has not been accepted"),
        (Open, text(1, 100), "headers tell of more content than the batch holds"),
        (Open, open(0), "OPEN skips channel numbers"),
        (Open, open(3), "OPEN skips channel numbers"),
        (Open, open(largest), "OPEN skips channel numbers"),
        (Open, open(1), "OPEN of a channel that has not ended"),
        (Open, [open(2), open(2)].concat(), "OPEN of a channel that has not ended"),
        // The number is taken until the server has answered.
        (Open, [open(2), close(2, 1006), open(2)].concat(), "OPEN of a channel that has not ended"),
        (Open, frame(1, ACCEPT, &[0]), "a client does not accept channels"),
        (Open, frame(1, REFUSE, &[404, 0]), "a client does not refuse channels"),
    ]
}

#[tokio::test]
async fn lies_and_nonsense() {
    survive("35 lies about limits, credit and channels", &[], 64, async |binary| {
        for (before, headers, reason) in wrong() {
            let mut wire = match before {
                Before::Nothing => silent(&binary.server).await,
                Before::Open => opened(&binary.server, ECHO).await,
            };
            wire.send(batch(&headers, "", &[])).await.expect("an open link");
            assert_eq!(end(&mut wire).await, (1002, reason.to_owned()), "{headers:?}");
            let line = binary.logged("link closed").await;
            assert!(line.contains(reason), "{line}");
        }
    })
    .await;
}

/// Frames for a channel that has been, and for one whose number was taken again.
#[tokio::test]
async fn channels_of_the_past() {
    let binary = Binary::start(&[], &[]).await;
    let mut wire = opened(&binary.server, ECHO).await;
    wire.send(batch(&frame(1, CLOSE, &[1000, 0]), "", &[])).await.expect("an open link");
    while !next(&mut wire).await.into_data().ends_with(&frame(1, CLOSE, &[1000, 0])) {}
    // A new one under the old number: earlier frames do not concern it.
    wire.send(opens(1, 1, ECHO)).await.expect("an open link");
    while !next(&mut wire).await.into_data().ends_with(&frame(1, ACCEPT, &[0])) {}
    wire.send(ts::Message::text("1:new")).await.expect("an open link");
    assert_eq!(next(&mut wire).await, ts::Message::text("1:new"));
    wire.send(batch(&frame(1, CLOSE, &[1000, 0]), "", &[])).await.expect("an open link");
    while !next(&mut wire).await.into_data().ends_with(&frame(1, CLOSE, &[1000, 0])) {}
    wire.send(ts::Message::text("1:old")).await.expect("an open link");
    assert_eq!(end(&mut wire).await, (1002, "a frame for a channel that is not open".into()));
}

/// A page numbers its own channels; those of others are not in reach, whatever it tries.
#[tokio::test]
async fn numbers_of_other_links_channels() {
    let binary = Binary::start(&[], &[]).await;
    let mut other = Link::dial(&binary.server).await;
    let channels = [other.open(ECHO).await, other.open(ECHO).await, other.open(ECHO).await];
    for channel in 2..=3 {
        for header in [
            frame(channel, TEXT, &[0]),
            frame(channel, GRANT, &[1]),
            frame(channel, CLOSE, &[1000, 0]),
            [frame(channel, RAW, &[]), frame(channel, TEXT, &[0])].concat(),
        ] {
            let mut wire = opened(&binary.server, ECHO).await;
            wire.send(batch(&header, "", &[])).await.expect("an open link");
            assert_eq!(end(&mut wire).await, (1002, "a frame for a channel that is not open".into()));
        }
    }
    for channel in channels {
        other.assert_echo(channel, "nobody else's").await;
    }
}

/// Claims of a page about itself, however large, cost the server nothing and do not change its limits.
#[tokio::test]
async fn boasts() {
    const MAX: usize = u32::MAX as usize;
    let binary = Binary::start(&[], &[]).await;
    for parameters in [
        vec![(MAX_CHANNELS, 0), (MAX_MESSAGE, 0), (PING_INTERVAL, 1)],
        vec![
            (MAX_CHANNELS, MAX),
            (WINDOW, MAX_CREDIT),
            (MAX_MESSAGE, MAX),
            (MAX_FRAGMENT, MAX),
            (PING_INTERVAL, MAX),
        ],
        vec![(WINDOW, MAX_CREDIT), (WINDOW, 16 * 1024), (99, MAX), (MAX, MAX)],
    ] {
        let mut wire = silent(&binary.server).await;
        let greeting = [hello(&parameters), unknown(&[7; 100])].concat();
        wire.send(batch(&greeting, "", &[])).await.expect("an open link");
        settled(&mut wire).await;
        wire.send(opens(1, 1, ECHO)).await.expect("an open link");
        while !next(&mut wire).await.into_data().ends_with(&frame(1, ACCEPT, &[0])) {}
        wire.send(ts::Message::text("1:hello")).await.expect("an open link");
        assert_eq!(next(&mut wire).await, ts::Message::text("1:hello"), "{parameters:?}");
    }
}

#[tokio::test]
async fn other_versions() {
    let binary = Binary::start(&[], &[]).await;
    let origin = format!("http://{}", binary.server.address);
    let later = SUBPROTOCOL.replace("v1", "v2");
    let both = format!("{later}, {SUBPROTOCOL}");
    for (offered, refused) in [
        (later.as_str(), Some(400)),
        (&SUBPROTOCOL.to_ascii_uppercase(), Some(400)),
        (&format!("{SUBPROTOCOL}.1"), Some(400)),
        (&both, None),
    ] {
        let headers = [("origin", origin.as_str()), ("sec-websocket-protocol", offered)];
        assert_eq!(dial(&binary.server, "/multiplexer", &headers).await.err(), refused, "{offered}");
    }
}
