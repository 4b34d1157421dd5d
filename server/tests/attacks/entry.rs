//! Entry: origins, paths, and the contents of an open.

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::any;
use manysocket_protocol::{Event, SUBPROTOCOL};
use manysocket_server::{Gateway, Multiplexer, WebSocketUpgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::common::binary::Binary;
use crate::common::upstream::{accepted, upstream, value};
use crate::common::{Link, Server, dial, told};
use crate::log;

/// The status that a link's handshake gets, its headers written by hand.
async fn handshake(server: &Server, headers: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let request = format!(
        "GET /multiplexer HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
    );
    stream.write_all(&[request.as_bytes(), headers, b"\r\n"].concat()).await.expect("a server");
    let mut line = vec![0; "HTTP/1.1 101".len()];
    stream.read_exact(&mut line).await.expect("an answer");
    String::from_utf8(line).expect("ASCII").split_off("HTTP/1.1 ".len())
}

#[tokio::test]
async fn origins() {
    let binary = Binary::start(&[], &[]).await;
    for (host, origins, status) in [
        ("example.com", &["http://example.com"][..], "101"),
        ("example.com", &["https://example.com"], "101"),
        ("example.com:80", &["http://example.com"], "101"),
        ("example.com:443", &["https://example.com"], "101"),
        ("example.com:8080", &["http://example.com:8080"], "101"),
        ("EXAMPLE.com", &["http://example.com"], "101"),
        ("example.com.", &["http://example.com."], "101"),
        ("example.com", &["HTTP://EXAMPLE.COM"], "101"),
        ("example.com", &[], "403"),
        ("example.com", &["null"], "403"),
        ("example.com", &[""], "403"),
        ("example.com", &["http://example.com", "http://example.com"], "403"),
        ("example.com", &["http://example.com", "http://evil.example"], "403"),
        ("example.com", &["http://example.com, http://evil.example"], "403"),
        ("example.com", &["http://evil.example"], "403"),
        ("example.com", &["http://example.com.evil.example"], "403"),
        ("example.com", &["http://evil.example/example.com"], "403"),
        ("example.com", &["http://example.com@evil.example"], "403"),
        ("example.com", &["http://evil.example@example.com"], "403"),
        ("example.com", &["http://evil.example#example.com"], "403"),
        ("example.com", &["http://example.com/"], "403"),
        ("example.com", &["http://example.com."], "403"),
        ("example.com.", &["http://example.com"], "403"),
        ("example.com", &["http://example.com:443"], "403"),
        ("example.com:80", &["https://example.com"], "403"),
        ("example.com", &["http://www.example.com"], "403"),
        ("example.com", &["file://example.com"], "403"),
        ("example.com", &["ws://example.com"], "403"),
        ("example.com", &["example.com"], "403"),
        ("example.com", &["http://ex\u{e4}mple.com"], "403"),
        ("ex\u{e4}mple.com", &["http://xn--exmple-cua.com"], "400"),
        ("evil.example", &["http://example.com"], "403"),
        ("example.com@evil.example", &["http://example.com"], "400"),
        ("evil.example@example.com", &["http://example.com"], "400"),
        ("", &["http://example.com"], "403"),
        // Values that are no host, and spellings of one that no browser uses (RFC 9110 §7.2, RFC 3986 §3.2.2).
        ("example.com\tx", &["http://example.com"], "400"),
        ("exam\tple.com", &["http://example.com"], "400"),
        ("exam ple.com", &["http://example.com"], "400"),
        ("example.com/x", &["http://example.com"], "400"),
        ("example.com?x", &["http://example.com"], "400"),
        ("http://example.com", &["http://example.com"], "400"),
        ("example.com:80x", &["http://example.com"], "400"),
        ("example.com:65536", &["http://example.com"], "400"),
        ("example.com:80:80", &["http://example.com"], "400"),
        ("::1", &["http://[::1]"], "400"),
        ("[::1", &["http://[::1]"], "400"),
        ("[fe80::1%25eth0]", &["http://[fe80::1]"], "400"),
        ("ex%6", &["http://ex%6"], "400"),
        ("example.com, evil.example", &["http://example.com"], "400"),
        ("example.com\r\nHost: example.com", &["http://example.com"], "400"),
        ("example.com\r\nHost: evil.example", &["http://evil.example"], "400"),
        ("ex%61mple.com", &["http://example.com"], "403"),
        ("2130706433", &["http://127.0.0.1"], "403"),
        ("0x7f.0.0.1", &["http://127.0.0.1"], "403"),
        ("127.1", &["http://127.0.0.1"], "403"),
        ("[0:0:0:0:0:0:0:1]", &["http://[::1]"], "403"),
        ("[::ffff:127.0.0.1]", &["http://127.0.0.1"], "403"),
        ("example.com:080", &["http://example.com"], "403"),
        ("[::1]:8080", &["http://[::1]:8080"], "101"),
        // Headers of proxies count for nothing: none is trusted.
        ("example.com\r\nX-Forwarded-Host: evil.example", &["http://evil.example"], "403"),
        ("example.com\r\nForwarded: host=evil.example;proto=http", &["http://evil.example"], "403"),
        ("example.com\r\nX-Forwarded-Proto: https", &["http://example.com"], "101"),
    ] {
        let mut headers = format!("Host: {host}\r\n");
        for origin in origins {
            headers += &format!("Origin: {origin}\r\n");
        }
        assert_eq!(handshake(&binary.server, headers.as_bytes()).await, status, "{headers}");
    }
}

/// The status that a request gets, written by hand up to its headers.
async fn status(server: &Server, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request = format!("{head}\r\n{upgrade}Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a server");
    let mut line = vec![0; "HTTP/1.1 101".len()];
    stream.read_exact(&mut line).await.expect("an answer");
    String::from_utf8(line).expect("ASCII").split_off("HTTP/1.1 ".len())
}

/// A proxy in front may have looked at the target (RFC 9112 §3.2.2).
#[tokio::test]
async fn the_host_of_an_absolute_target_counts_in_place_of_the_header() {
    let binary = Binary::start(&[], &[]).await;
    for (target, host, origin, expected) in [
        ("http://example.com/multiplexer", "evil.example", "http://example.com", "101"),
        ("http://example.com/multiplexer", "evil.example", "http://evil.example", "403"),
        ("http://EXAMPLE.com:80/multiplexer", "x", "http://example.com", "101"),
        ("http://example.com:81/multiplexer", "example.com", "http://example.com", "403"),
        ("http://example.com/multiplexer", "a b", "http://example.com", "400"),
        ("http://user@example.com/multiplexer", "example.com", "http://example.com", "400"),
        ("ftp://example.com/multiplexer", "example.com", "http://example.com", "400"),
        ("http://example.com/demo/topics/x", "evil.example", "http://example.com", "101"),
        ("http://example.com/demo/topics/x", "evil.example", "http://evil.example", "403"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}");
        assert_eq!(status(&binary.server, &head).await, expected, "{head}");
    }
    let without = "GET /multiplexer HTTP/1.1\r\nOrigin: http://example.com";
    assert_eq!(status(&binary.server, without).await, "400", "RFC 9112 §3.2");
}

/// Proxies add a line of their own. Lists may have several (RFC 9110 §5.3).
#[tokio::test]
async fn lists_in_several_lines_are_one_list() {
    let binary = Binary::start(&[], &[]).await;
    for path in ["/multiplexer", "/demo/echo", "/demo/topics/x", "/demo/"] {
        for connection in [
            "keep-alive\r\nConnection: Upgrade",
            "Upgrade\r\nConnection: x",
            "x, upgrade , y\r\nConnection: z",
        ] {
            for (upgrade, protocol) in [
                ("websocket", SUBPROTOCOL.to_owned()),
                ("WebSocket, x/1", format!("a, {SUBPROTOCOL}")),
                ("x\r\nUpgrade: websocket", format!("a\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}")),
            ] {
                let mut stream = TcpStream::connect(binary.server.address).await.expect("a connection");
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: a.example\r\nOrigin: http://a.example\r\nConnection: {connection}\r\n\
                     Upgrade: {upgrade}\r\nSec-WebSocket-Protocol: {protocol}\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).await.expect("a server");
                let mut line = [0; "HTTP/1.1 101".len()];
                stream.read_exact(&mut line).await.expect("an answer");
                assert_eq!(line, *b"HTTP/1.1 101", "{request}");
            }
        }
    }
}

#[tokio::test]
async fn paths() {
    let binary = Binary::start(&["--scope", "/demo"], &[]).await;
    let mut link = Link::dial(&binary.server).await;
    let channel = link.open("/demo/echo?x=/../..&y=%2f").await;
    for (status, targets) in [
        // Characters that a URL parser would change, or that some would take for a slash.
        (
            400,
            &[
                "/demo/../multiplexer",
                "/demo/./echo",
                "/demo/%2e%2e/multiplexer",
                "/demo/.%2E/multiplexer",
                "/demo/..",
                "/demo\\..\\multiplexer",
                "/demo/%5c..%5cmultiplexer",
                "/demo/%2f../multiplexer",
                "/demo%2fecho",
                "/demo%2Fecho",
                "http://127.0.0.1/demo/echo",
                "ws://evil.example/demo/echo",
                "@evil.example/demo/echo",
                "\\\\evil.example\\demo",
                "http://b\u{fc}cher.example/demo/echo",
                "/demo/echo#x",
                "/demo/\u{e9}",
                "/demo/\u{ff0e}\u{ff0e}/x",
                "/demo/echo ",
                "",
                "?x",
                "*",
                "/demo/echo\0",
                "/demo/ec\tho",
                "/demo/echo\r\nX-Evil: 1",
                "/demo/echo HTTP/1.1\r\n\r\nGET /",
                "/multiplexer",
                "/multiplexer?x",
            ][..],
        ),
        // Another part of the site, or none: compared by whole segments, and by bytes.
        (
            403,
            &[
                "/",
                "/demos/echo",
                "/demoecho",
                "/Demo/echo",
                "//demo/echo",
                "//evil.example/demo/echo",
                "/;/demo/echo",
                "/%64emo/echo",
                "/multiplexer/",
                "/.demo/echo",
            ],
        ),
        // Inside, where nothing is: a name may have any character that stands for itself.
        (
            404,
            &[
                "/demo/ECHO",
                "/demo//echo",
                "/demo/%252e%252e/multiplexer",
                "/demo/%252fecho",
                "/demo/;/echo",
                "/demo/..;/x",
                "/demo/echo;x=1",
                "/demo/echo/",
                "/demo/echo%00",
                "/demo/.../x",
                "/demo/%65cho",
                "/demo/echo@evil.example",
            ],
        ),
    ] {
        for target in targets {
            link.endpoint.open(target, "").expect("a channel");
            let news = link.news().await;
            assert!(
                matches!(news, Event::Refused { status: given, .. } if given == status),
                "{target:?}: {news:?}"
            );
        }
    }
    link.assert_echo(channel, "still here").await;
}

/// A head may have 32 KiB: a hundred lines of it in a second would be 3 MB.
#[tokio::test]
async fn what_is_long_is_logged_in_short() {
    const SHORT: usize = 600;
    let mut binary = Binary::start(&["--upstream", "/up=ws://127.0.0.1:1"], &[]).await;
    let long = "x".repeat(20_000);
    let headers = format!("Host: example.com\r\nOrigin: http://{long}.example\r\n");
    assert_eq!(handshake(&binary.server, headers.as_bytes()).await, "403");
    assert!(binary.logged("link refused").await.len() < SHORT);
    let path = format!("/up/{long}?secret");
    assert_eq!(dial(&binary.server, &path, &[]).await.err(), Some(502));
    let line = binary.logged("cannot be reached").await;
    assert!(line.len() < SHORT && !line.contains("secret"), "{line}");
}

/// Opens that would break out of the line or the header that they come to stand in.
const TRICKS: [(&str, &str); 12] = [
    ("/up/a\r\nX-Evil: 1", ""),
    ("/up/a\nWARN forged", ""),
    ("/up/a\0", ""),
    ("/up/a HTTP/1.1\r\n\r\nGET /secret", ""),
    ("/up/\u{202e}\u{7f}\u{1b}[2J", ""),
    ("/up/", "a\r\nX-Evil: 1"),
    ("/up/", "a\nWARN forged"),
    ("/up/", "a\0"),
    ("/up/", "\u{1b}[2J"),
    ("/up/", "\u{e9}"),
    ("/up/", "a b"),
    ("/up/", "a, , b"),
];

#[tokio::test]
async fn what_stands_in_an_open_stays_in_its_place() {
    log::begin();
    let (tell, mut heard) = mpsc::unbounded_channel();
    let telling = tell.clone();
    let upstream = upstream(move |stream, head: String| {
        let _ = telling.send(head.clone());
        async move { drop(accepted(stream, &head).await) }
    })
    .await;
    let handler = async move |headers: HeaderMap, upgrade: WebSocketUpgrade| {
        let _ = tell.send(format!("{headers:?}"));
        upgrade.protocols(["b"]).on_upgrade(async |_| {})
    };
    let gateway = Gateway::new("/up", &format!("ws://{upstream}")).expect("a gateway");
    let server = Server::start(gateway.mount(Router::new().route("/own", any(handler)))).await;
    let mut link = Link::dial(&server).await;
    for (target, protocols) in TRICKS {
        for target in [target, &target.replace("/up/", "/own")] {
            link.endpoint.open(target, protocols).expect("a channel");
            let news = link.news().await;
            assert!(matches!(news, Event::Refused { status: 400, .. }), "{target:?} {protocols:?}: {news:?}");
        }
    }
    // The first that anybody has heard of is one with nothing wrong.
    link.endpoint.open("/up/X-Evil:%201?%0d%0aX-Evil:%201", "a, b").expect("a channel");
    link.flush().await;
    let head = told(&mut heard).await;
    assert!(head.starts_with("GET /X-Evil:%201?%0d%0aX-Evil:%201 HTTP/1.1\r\n"), "{head}");
    assert_eq!((value(&head, "x-evil"), value(&head, "sec-websocket-protocol")), (None, Some("a, b")));
    while !matches!(link.news().await, Event::Closed { .. }) {}
    link.endpoint.open("/own", "a, b").expect("a channel");
    link.flush().await;
    let headers = told(&mut heard).await;
    assert!(
        headers.contains("\"sec-websocket-protocol\": \"a, b\"") && !headers.contains("evil"),
        "{headers}"
    );
    let accepted = link.news().await;
    assert!(matches!(&accepted, Event::Accepted { protocol, .. } if protocol == "b"), "{accepted:?}");

    let log = log::text();
    assert_eq!(log.lines().filter(|line| line.contains("open refused")).count(), 2 * TRICKS.len(), "{log}");
    for line in log.lines() {
        // A time comes first.
        assert!(
            line.starts_with("20") && !line.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{line:?}"
        );
    }
}

/// A gateway dials its configured upstreams only, whatever a page asks for and wherever an upstream points.
#[tokio::test]
async fn upstreams_that_nobody_named() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let upstream = upstream(move |mut stream: TcpStream, head: String| {
        let _ = tell.send(head);
        async move {
            let answer =
                "HTTP/1.1 307 No\r\nLocation: ws://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.expect("a client");
        }
    })
    .await;
    let gateway = Gateway::new("/up", &format!("ws://{upstream}/rooms")).expect("a gateway");
    let server = Server::with(Multiplexer::new("/multiplexer"), gateway.mount(Router::new())).await;
    let mut link = Link::dial(&server).await;
    for (target, status, asked) in [
        ("/up@169.254.169.254/x", 404, None),
        ("/up:80/x", 404, None),
        ("/up.evil.example/x", 404, None),
        ("/upx", 404, None),
        ("/", 404, None),
        ("/up/../x", 400, None),
        ("/up//169.254.169.254/x", 307, Some("/rooms//169.254.169.254/x")),
        ("/up/@169.254.169.254/x", 307, Some("/rooms/@169.254.169.254/x")),
        ("/up/http://169.254.169.254/", 307, Some("/rooms/http://169.254.169.254/")),
        ("/up?url=ws://169.254.169.254/", 307, Some("/rooms?url=ws://169.254.169.254/")),
    ] {
        link.endpoint.open(target, "").expect("a channel");
        let news = link.news().await;
        assert!(
            matches!(news, Event::Refused { status: given, .. } if given == status),
            "{target}: {news:?}"
        );
        if let Some(asked) = asked {
            let head = told(&mut heard).await;
            assert!(head.starts_with(&format!("GET {asked} HTTP/1.1\r\n")), "{head}");
            assert_eq!(value(&head, "host"), Some(server.address.to_string().as_str()), "the page's");
        }
        assert!(heard.try_recv().is_err(), "once, and nothing for paths outside of the prefix");
    }
}
