//! Whatever an upstream server does, a page sees it through the gateway as it would see it directly.

mod common;

use std::net::SocketAddr;

use axum::Router;
use common::upstream::{accepted, accepting, frame, gateway, pass, upstream, value};
use common::{KINDS, Kind, Received, Server, Socket, told};
use futures_util::{FutureExt, SinkExt, StreamExt};
use manysocket_protocol::{Event, Message, Settings};
use manysocket_server::{Gateway, Multiplexer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self as ts};

/// How a page without a gateway sees a handshake end, or its socket.
async fn dial_straight(upstream: SocketAddr, protocols: &str) -> Result<Socket, String> {
    let mut request =
        ts::client::IntoClientRequest::into_client_request(format!("ws://{upstream}/")).expect("a URL");
    if !protocols.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().expect("a header value"));
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((wire, _)) => Ok(Socket::Native(Box::new(wire))),
        Err(ts::Error::Http(response)) => Err(response.status().as_u16().to_string()),
        Err(_) => Err("failed".into()),
    }
}

async fn dial_through(kind: Kind, upstream: SocketAddr, protocols: &str) -> Result<Socket, String> {
    let server = gateway(upstream).await;
    let opened = Socket::open(kind, &server, "/up/", "", protocols).await;
    opened.map(|(socket, _)| socket).map_err(|status| match status {
        502 => "failed".into(),
        status => status.to_string(),
    })
}

/// Returns the events of a socket to its end. The page answers each message with one.
async fn seen(socket: Result<Socket, String>) -> Vec<String> {
    let mut socket = match socket {
        Ok(socket) => socket,
        Err(why) => return vec![why],
    };
    let mut log = Vec::new();
    loop {
        match socket.receive().await {
            Received::Message(message) => {
                log.push(format!("{message:?}"));
                socket.send(Message::text("got")).await;
            }
            Received::Close(code, reason) => {
                log.push(format!("closed {code:?} {reason}"));
                return log;
            }
            Received::Lost => {
                log.push("lost".into());
                return log;
            }
            Received::Failed => {
                log.push("failed".into());
                return log;
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_handshake_is_a_refusal_or_a_failure() {
    let wrong =
        "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let chosen = |protocol: &str| format!("Sec-WebSocket-Protocol: {protocol}\r\n");
    // The offer; the answer as it is, or the lines to add to a correct one; the page's event. The library
    // that dials directly here does not look at extensions; browsers do (RFC 6455 §4.1).
    let cases: [(&str, Result<&str, String>, &str); 12] = [
        ("", Ok("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nnobody"), "403"),
        ("", Ok("HTTP/1.1 302 Found\r\nLocation: /up/else\r\nContent-Length: 0\r\n\r\n"), "302"),
        ("", Ok("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "200"),
        ("", Ok("HTTP/1.1 503 Busy\r\n\r\nto the end"), "503"),
        ("", Ok("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "failed"),
        ("", Ok(""), "failed"),
        ("", Ok(wrong), "failed"),
        ("", Err(chosen("unasked")), "failed"),
        ("a, b", Err(chosen("c")), "failed"),
        ("a, b", Err(chosen("a, b")), "failed"),
        ("a, b", Err(String::new()), "failed"),
        ("", Err("Sec-WebSocket-Extensions: permessage-deflate\r\n".into()), "failed"),
    ];
    for (offered, answer, expected) in cases {
        let of_extensions = answer.as_ref().is_err_and(|more| more.contains("Extensions"));
        let told = format!("{answer:?}");
        let answer = answer.map(str::to_owned);
        let upstream = upstream(move |mut stream, head| {
            let answer = answer.clone().unwrap_or_else(|more| accepting(&head, &more));
            async move { stream.write_all(answer.as_bytes()).await.expect("a client") }
        })
        .await;
        if !of_extensions {
            assert_eq!(seen(dial_straight(upstream, offered).await).await, [expected], "straight: {told}");
        }
        for kind in KINDS {
            let seen = seen(dial_through(kind, upstream, offered).await).await;
            assert_eq!(seen, [expected], "{kind:?}: {told}");
        }
    }
}

#[tokio::test]
async fn a_refusal_comes_with_its_headers_and_all_of_its_body() {
    let upstream = upstream(async |mut stream: TcpStream, _| {
        let body = "why not ".repeat(50_000);
        let head = format!(
            "HTTP/1.1 401 No\r\nX-Why: no\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.expect("a client");
    })
    .await;
    let server = gateway(upstream).await;
    let mut stream = TcpStream::connect(server.address).await.expect("a server");
    let request = "GET /up/x HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a server");
    let mut response = String::new();
    while !response.ends_with("why not ") || response.len() < 400_000 {
        let mut part = vec![0; 65536];
        let length = stream.read(&mut part).await.expect("a response");
        assert_ne!(length, 0, "{} bytes", response.len());
        response.push_str(std::str::from_utf8(&part[..length]).expect("ASCII"));
    }
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert_eq!((value(head, "x-why"), value(head, "set-cookie")), (Some("no"), Some("a=1")), "{head}");
    assert_eq!(value(head, "keep-alive"), None, "it is of the upstream's connection: {head}");
    assert_eq!(body, "why not ".repeat(50_000));
}

/// The bytes of an upstream after its 101, the page's event, and the code that reports the fault to the upstream.
fn ends() -> Vec<(Vec<u8>, String, Option<u16>)> {
    let closed = |code: u16, reason: &str| {
        (
            frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat()),
            format!("closed Some({code}) {reason}"),
            None,
        )
    };
    let broken = |bytes: Vec<u8>, code| (bytes, "failed".to_owned(), Some(code));
    vec![
        closed(1000, ""),
        closed(1001, "moving"),
        closed(1011, "an error"),
        closed(3000, "grüße"),
        closed(4999, &"x".repeat(123)),
        (frame(0x88, b""), "closed None ".into(), None),
        // The end of the stream without a close.
        (vec![], "lost".into(), None),
        // Reserved bits, an unknown opcode, a masked frame, a continuation of nothing.
        broken(frame(0xC1, b"x"), 1002),
        broken(frame(0x83, b"x"), 1002),
        broken(vec![0x81, 0x81, 1, 2, 3, 4, b'x'], 1002),
        broken(frame(0x80, b"x"), 1002),
        // A fragmented ping, a ping of 126 bytes, a message inside a message.
        broken(frame(0x09, b"x"), 1002),
        broken([&[0x89, 126, 0, 126][..], &[0; 126]].concat(), 1002),
        broken([frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        // Text that is not UTF-8, and a close reason.
        broken(frame(0x81, &[0xFF, 0xFE]), 1007),
        // A close of one byte.
        broken(frame(0x88, &[3]), 1002),
    ]
}

#[tokio::test]
async fn every_end_of_a_connection_reaches_the_page() {
    for (bytes, end, code) in ends() {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let sent = bytes.clone();
        let upstream = upstream(move |mut stream, head| {
            let (tell, sent) = (tell.clone(), sent.clone());
            async move {
                stream.write_all(accepting(&head, "").as_bytes()).await.expect("a client");
                stream.write_all(&frame(0x81, b"before")).await.expect("a client");
                stream.write_all(&sent).await.expect("a client");
                if sent.is_empty() {
                    stream.shutdown().await.expect("a client");
                }
                let mut wire = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                while let Some(Ok(message)) = wire.next().await {
                    if let ts::Message::Close(frame) = message {
                        let _ = tell.send(frame.map(|frame| u16::from(frame.code)));
                    }
                }
            }
        })
        .await;
        let expected = ["Text(b\"before\")".to_owned(), end];
        assert_eq!(seen(dial_straight(upstream, "").await).await, expected, "straight: {bytes:?}");
        while heard.recv().now_or_never().is_some() {}
        for kind in KINDS {
            assert_eq!(seen(dial_through(kind, upstream, "").await).await, expected, "{kind:?}: {bytes:?}");
            if code.is_some() {
                assert_eq!(told(&mut heard).await, code, "{kind:?}: {bytes:?}");
            }
        }
    }
}

/// A browser fails the connection; the library would make a clean close of it.
#[tokio::test]
async fn a_code_that_must_not_be_sent_is_a_failure() {
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2000, 5000] {
        let upstream = upstream(move |mut stream: TcpStream, head: String| async move {
            stream.write_all(accepting(&head, "").as_bytes()).await.expect("a client");
            stream.write_all(&frame(0x88, &code.to_be_bytes())).await.expect("a client");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        for kind in KINDS {
            assert_eq!(seen(dial_through(kind, upstream, "").await).await, ["failed"], "{kind:?} {code}");
        }
    }
}

#[tokio::test]
async fn a_message_past_the_limit_is_a_failure() {
    // Its length says so; nothing more has to come.
    let length = u64::from(Settings::default().max_message) + 1;
    let header = [&[0x82, 127][..], &length.to_be_bytes()].concat();
    let upstream = upstream(move |mut stream: TcpStream, head: String| {
        let header = header.clone();
        async move {
            stream.write_all(accepting(&head, "").as_bytes()).await.expect("a client");
            stream.write_all(&header).await.expect("a client");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    for kind in KINDS {
        assert_eq!(seen(dial_through(kind, upstream, "").await).await, ["failed"], "{kind:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_vanishes_is_a_loss() {
    let upstream = upstream(async |stream: TcpStream, head: String| {
        let mut wire = accepted(stream, &head).await;
        wire.send(ts::Message::text("a")).await.expect("a client");
        wire.next().await.expect("an answer").expect("an answer");
        wire.get_ref().set_zero_linger().expect("a socket");
    })
    .await;
    let expected = ["Text(b\"a\")", "lost"];
    assert_eq!(seen(dial_straight(upstream, "").await).await, expected);
    for kind in KINDS {
        assert_eq!(seen(dial_through(kind, upstream, "").await).await, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_close_waits_for_the_upstreams_answer() {
    for kind in KINDS {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let (answer, answers) = tokio::sync::watch::channel(false);
        let upstream = upstream(move |stream, head| {
            let (tell, mut answers) = (tell.clone(), answers.clone());
            async move {
                let mut stream = accepted(stream, &head).await.into_inner();
                // The page's Close frame: 2 bytes of header, 4 of the mask, and the masked content.
                let mut close = [0; 2 + 4 + 2 + 4];
                stream.read_exact(&mut close).await.expect("a close");
                let _ = tell.send(close[0]);
                answers.wait_for(|&now| now).await.expect("the test goes on");
                let _ =
                    stream.write_all(&frame(0x88, &[&4001_u16.to_be_bytes()[..], b"mine"].concat())).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let mut socket = dial_through(kind, upstream, "").await.expect("open");
        socket.close(Some(4000), "done").await;
        assert_eq!(told(&mut heard).await, 0x88);
        answer.send_replace(true);
        // axum's own socket answers a close with its code, as soon as it sends anything.
        let expected = match kind {
            Kind::Native => Received::Close(Some(4000), "done".into()),
            Kind::Virtual => Received::Close(Some(4001), "mine".into()),
        };
        assert_eq!(socket.receive().await, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn an_upstream_sees_a_page_that_leaves() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let upstream = upstream(move |stream, head| {
        let tell = tell.clone();
        async move {
            let mut wire = accepted(stream, &head).await;
            while let Some(Ok(message)) = wire.next().await {
                let _ = match message {
                    ts::Message::Close(frame) => tell.send(frame.map_or(1005, |frame| frame.code.into())),
                    message => tell.send(message.len().try_into().expect("short")),
                };
            }
            let _ = tell.send(0);
        }
    })
    .await;
    for kind in KINDS {
        let mut socket = dial_through(kind, upstream, "").await.expect("open");
        socket.send(Message::text("last")).await;
        socket.leave(1001).await;
        let seen = [told(&mut heard).await, told(&mut heard).await, told(&mut heard).await];
        assert_eq!(seen, [4, 1001, 0], "{kind:?}");
    }
}

#[tokio::test]
async fn a_close_that_is_never_answered_is_a_loss() {
    for kind in KINDS {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let upstream = upstream(move |stream, head| {
            let tell = tell.clone();
            async move {
                let mut stream = accepted(stream, &head).await.into_inner();
                let _ = stream.read_exact(&mut [0; 12]).await;
                let _ = tell.send("close");
                let _ = stream.read_to_end(&mut Vec::new()).await;
                let _ = tell.send("end");
            }
        })
        .await;
        let mut socket = dial_through(kind, upstream, "").await.expect("open");
        socket.close(Some(4000), "done").await;
        assert_eq!(told(&mut heard).await, "close");
        pass(61).await;
        assert_eq!(told(&mut heard).await, "end");
        assert_eq!(socket.receive().await, Received::Lost, "{kind:?}");
    }
}

/// An upstream that accepts, sends back the head of the request, and keeps the bytes after it.
async fn telling_head() -> SocketAddr {
    upstream(async |mut stream: TcpStream, head: String| {
        let answer = accepting(&head, "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n");
        stream.write_all(answer.as_bytes()).await.expect("a client");
        let mut wire = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        wire.send(ts::Message::text(head)).await.expect("a client");
        while let Some(Ok(_)) = wire.next().await {}
    })
    .await
}

async fn head(socket: &mut Socket) -> String {
    match socket.receive().await {
        Received::Message(Message::Text(head)) => String::from_utf8(head.to_vec()).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_upstream_learns_who_asks_for_what() {
    let upstream = telling_head().await;
    let url = format!("ws://ada:p%40ss@{upstream}/base");
    let server = Server::start(Gateway::new("/up", &url).expect("a gateway").mount(Router::new())).await;
    let origin = format!("http://{}", server.address);
    for kind in KINDS {
        let path = "/up/a%20b/;x=1?q=%C3%A9&q&=?&r=%0d%0aX:%201";
        let mut socket = Socket::open(kind, &server, path, "c=1; d=2", "").await.expect("open").0;
        let head = head(&mut socket).await;
        assert!(head.starts_with("GET /base/a%20b/;x=1?q=%C3%A9&q&=?&r=%0d%0aX:%201 HTTP/1.1\r\n"), "{head}");
        for (name, expected) in [
            ("host", server.address.to_string()),
            ("cookie", "c=1; d=2".into()),
            ("origin", origin.clone()),
            ("authorization", "Basic YWRhOnBAc3M=".into()),
            ("x-forwarded-for", "127.0.0.1".into()),
            ("x-forwarded-host", server.address.to_string()),
            ("x-forwarded-proto", "http".into()),
        ] {
            assert_eq!(value(&head, name), Some(expected.as_str()), "{kind:?} {name}: {head}");
        }
    }
    // The page's own authorization comes first.
    let own = [("authorization", "Bearer own"), ("origin", origin.as_str())];
    let wire = common::dial(&server, "/up/", &own).await.expect("open");
    let head = head(&mut Socket::Native(Box::new(wire))).await;
    assert_eq!(value(&head, "authorization"), Some("Bearer own"));
}

#[tokio::test]
async fn the_cookies_of_a_101_reach_a_native_page() {
    let server = gateway(telling_head().await).await;
    let url = format!("ws://{}/up/", server.address);
    let (_, response) = tokio_tungstenite::connect_async(url).await.expect("open");
    let cookies = response.headers().get_all("set-cookie").iter().collect::<Vec<_>>();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

/// Some servers look at how the names of headers are spelled, and whether `Host` comes first.
#[tokio::test]
async fn the_upstream_is_asked_as_a_browser_asks() {
    let upstream = telling_head().await;
    let own = Gateway::new("/own", &format!("ws://{upstream}")).expect("a gateway").upstream_host();
    let app = Gateway::new("/up", &format!("ws://{upstream}")).expect("a gateway").mount(Router::new());
    let server = Server::start(own.mount(app)).await;
    for kind in KINDS {
        for (path, host) in [("/up/", server.address), ("/own/", upstream)] {
            let mut socket = Socket::open(kind, &server, path, "c=1", "").await.expect("open").0;
            let head = head(&mut socket).await;
            let lines = head.lines().collect::<Vec<_>>();
            assert_eq!(lines[1], format!("Host: {host}"), "{kind:?}: {head}");
            let spelled = |name: &str| lines.iter().any(|line| line.starts_with(&format!("{name}: ")));
            for name in [
                "Connection",
                "Upgrade",
                "Sec-WebSocket-Version",
                "Sec-WebSocket-Key",
                "Origin",
                "Cookie",
                "X-Forwarded-For",
                "X-Forwarded-Host",
                "X-Forwarded-Proto",
            ] {
                assert!(spelled(name), "{kind:?} {name}: {head}");
            }
            assert_eq!(value(&head, "x-forwarded-host"), Some(server.address.to_string().as_str()));
        }
    }
}

/// A client's claims about itself do not look like a proxy's.
#[tokio::test]
async fn forwarding_headers_are_passed_on_from_trusted_proxies_only() {
    let upstream = telling_head().await;
    let lies = [
        ("x-forwarded-for", "203.0.113.66"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.66;host=evil.example;proto=https"),
        ("x-real-ip", "203.0.113.66"),
    ];
    for (trusted, by_way_of, client, scheme, host) in [
        (None, "127.0.0.1", "127.0.0.1", "http", None),
        (Some("10.0.0.0/8"), "127.0.0.1", "127.0.0.1", "http", None),
        (Some("loopback"), "203.0.113.66, 127.0.0.1", "203.0.113.66", "https", Some("evil.example")),
    ] {
        let gateway = Gateway::new("/up", &format!("ws://{upstream}")).expect("a gateway");
        let proxies = trusted.map(|proxies| proxies.parse().expect("proxies"));
        let multiplexer = Multiplexer::new("/multiplexer").trust_forwarded(proxies);
        let server = Server::with(multiplexer, gateway.mount(Router::new())).await;
        let host = host.map_or(server.address.to_string(), str::to_owned);
        let standard = match trusted {
            Some("loopback") => lies[3].1.to_owned(),
            _ => format!("for=127.0.0.1;host=\"{host}\";proto=http"),
        };
        let origin = format!("{scheme}://{host}");
        let headers = [&lies[..], &[("origin", origin.as_str())]].concat();
        let native = common::dial(&server, "/up/", &headers).await.expect("open");
        let virtual_ = async {
            let mut link = common::Link::dial_with(&server, &headers, |_| {}).await.expect("a link");
            let channel = link.open("/up/").await;
            Socket::Virtual(Box::new(link), channel)
        };
        for mut socket in [Socket::Native(Box::new(native)), virtual_.await] {
            let head = head(&mut socket).await;
            for (name, expected) in [
                ("x-forwarded-for", Some(by_way_of)),
                ("x-forwarded-proto", Some(scheme)),
                ("x-forwarded-host", Some(host.as_str())),
                ("host", Some(host.as_str())),
                ("forwarded", Some(standard.as_str())),
                ("x-real-ip", Some(client)),
            ] {
                assert_eq!(value(&head, name), expected, "{trusted:?} {name}: {head}");
            }
        }
    }
}

/// Written by hand, since a browser's URL parser would have changed most of them.
#[tokio::test]
async fn what_an_upstream_could_take_for_another_path_reaches_none() {
    let (tell, mut heard) = mpsc::unbounded_channel();
    let upstream = upstream(move |stream, head: String| {
        let _ = tell.send(head.lines().next().unwrap_or_default().to_owned());
        async move { drop(accepted(stream, &head).await) }
    })
    .await;
    let gateway = Gateway::new("/chat", &format!("ws://{upstream}/rooms")).expect("a gateway");
    let bare = Gateway::new("/bare", &format!("ws://{upstream}")).expect("a gateway");
    let server = Server::start(bare.mount(gateway.mount(Router::new()))).await;
    let mut link = common::Link::dial(&server).await;
    for path in [
        "/chat/../admin",
        "/chat/./a",
        "/chat/..",
        "/chat/%2e%2e/admin",
        "/chat/%2E./admin",
        "/chat/..;/admin",
        "/chat/.;x/admin",
        "/chat/..%3b/admin",
        "/chat/%2e%2e;x=1/admin",
        "/chat/a;b/../../admin",
        "/chat//../admin",
        "/chat/..%2fadmin",
        "/chat/..%5cadmin",
        "/chat/..\\admin",
        "/chat/a%2fb",
        "/chat/%252e%252e/admin",
        "/chat/%25252e%25252e/admin",
        "/chat/..%252fadmin",
        "/chat/%c0%ae%c0%ae/admin",
        "/chat/%c0%afadmin",
        "/chat/%ff",
        "/chat/%u002e%u002e/admin",
        "/chat/..%20/admin",
        "/chat/%00",
        "/chat/a%2500",
        "/chat/%0d%0aX:%201",
        "/chat/%7f",
        "/chat/%1b[2J",
        "/chat/%",
        "/bare//evil.example/a",
        "/bare//",
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("a server");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("a server");
        let mut status = [0; "HTTP/1.1 400".len()];
        stream.read_exact(&mut status).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 400", "{path}");
        link.endpoint.open(path, "").expect("a channel");
        let news = link.news().await;
        assert!(matches!(news, Event::Refused { status: 400, .. }), "{path}: {news:?}");
    }
    assert!(heard.try_recv().is_err(), "nothing is passed on");
    for path in [
        "/chat//a/",
        "/chat/...",
        "/chat/a;x=..",
        "/chat/100%25",
        "/chat/gr%C3%BC%C3%9Fe?a=../%2e%2f%00&%0d%0a",
    ] {
        for kind in KINDS {
            Socket::open(kind, &server, path, "", "").await.expect("open");
            let line = told(&mut heard).await;
            assert_eq!(line, format!("GET {} HTTP/1.1", path.replace("/chat", "/rooms")), "{kind:?}");
        }
    }
}
