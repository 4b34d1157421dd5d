//! The binary's options that decide which paths are served, and to which pages.

mod common;

use common::binary::Binary;
use common::upstream::{accepted, upstream, value};
use common::{KINDS, Link, Received, Socket, dial, get};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Event, Message};

/// It used to end with a panic: the demo has a route there, too.
#[tokio::test]
async fn a_gateway_takes_the_place_of_the_demo() {
    let echo = upstream(async |stream, head| {
        let mut wire = accepted(stream, &head).await;
        while let Some(Ok(message)) = wire.next().await {
            if wire.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let binary = Binary::start(&["--upstream", &format!("/games=ws://{echo}")], &[]).await;
    for kind in KINDS {
        let (mut socket, _) =
            Socket::open(kind, &binary.server, "/games/blue/chat", "", "").await.expect("open");
        socket.send(Message::text("hi")).await;
        assert_eq!(socket.receive().await, Received::Message(Message::text("hi")));
        let demo = Socket::open(kind, &binary.server, "/demo/echo", "", "").await;
        assert_eq!(demo.err(), Some(404), "{kind:?}: no demo beside upstreams");
    }
    assert!(get(binary.server.address, "/demo/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn an_allowed_origin_reaches_what_is_behind_the_multiplexer_either_way() {
    let binary = Binary::start(&["--allow-origin", "https://*.listed.example"], &[]).await;
    let paths = ["/demo/topics/x", "/demo/state/x", "/demo/rpc/add", "/games/x/chat"];
    for (origin, expected) in [("https://a.listed.example", None), ("https://evil.example", Some(403))] {
        for path in paths {
            let native = dial(&binary.server, path, &[("origin", origin)]).await;
            assert_eq!(native.err(), expected, "{path} from {origin}");
        }
    }
    // The header of the page's own origin is replaced: the map of headers has one of a name.
    let headers = [("origin", "https://a.listed.example")];
    let mut link = Link::dial_with(&binary.server, &headers, |_| {}).await.expect("a link");
    for path in paths {
        link.endpoint.open(path, "");
        loop {
            match link.news().await {
                Event::Accepted { .. } => break,
                Event::Message { .. } => {}
                other => panic!("{path}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn pages_of_the_server_itself_need_not_be_listed() {
    let binary = Binary::start(&[], &[]).await;
    for kind in KINDS {
        assert!(Socket::open(kind, &binary.server, "/demo/topics/x", "", "").await.is_ok());
    }
    let foreign = dial(&binary.server, "/demo/topics/x", &[("origin", "https://evil.example")]).await;
    assert_eq!(foreign.err(), Some(403));
}

/// It used to end the program. With TLS the certificate is read again: `tls.rs`.
#[cfg(unix)]
#[tokio::test]
async fn without_tls_a_signal_to_read_again_changes_nothing() {
    let mut binary = Binary::start(&[], &[]).await;
    for _ in 0..2 {
        binary.signal("HUP").await;
        binary.logged("SIGHUP").await;
    }
    assert!(get(binary.server.address, "/demo/").await.starts_with("HTTP/1.1 200"));
}

/// The program's output to its end, when it cannot start.
fn failure(arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_manysocket-server"))
        .args(arguments)
        .env_remove("NO_COLOR")
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary");
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn what_stops_a_start_is_said_in_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for (arguments, reason) in [
        (&["--listen", &address][..], format!("cannot listen on {address}: ")),
        (&["--listen", "127.0.0.1:0", "--metrics", &address], format!("cannot listen on {address}: ")),
        (
            &["--listen", "127.0.0.1:0", "--data", "/dev/null/x"],
            "cannot make the folder /dev/null/x: ".into(),
        ),
        (&["--listen", "127.0.0.1:0", "--tls-cert", "/none", "--tls-key", "/none"], "/none: ".into()),
        (&["--listen", "8080"], "127.0.0.1:8080".into()),
    ] {
        let error = failure(arguments);
        let is_plain = ["Custom {", "Os {", "kind:", "\u{1b}"].iter().all(|debug| !error.contains(debug));
        assert!(error.contains(&reason) && is_plain, "{arguments:?}: {error}");
    }
}

/// Colours are for terminals.
#[tokio::test]
async fn a_log_in_a_file_has_no_colours() {
    // The variable that other tests set is empty here, which asks for colours as little as it forbids them.
    let mut binary = Binary::start(&["--metrics", "127.0.0.1:0"], &[("NO_COLOR", "")]).await;
    let line = binary.logged("metrics on").await;
    assert!(line.contains("INFO") && !line.contains('\u{1b}'), "{line:?}");
}

/// By options, all the way: a proxy, an application's origin, and a host that the upstream expects.
#[tokio::test]
async fn what_is_trusted_is_named_on_the_command_line() {
    let upstream = upstream(async |stream, head| {
        let mut wire = accepted(stream, &head).await;
        let _ = wire.send(head.into()).await;
    })
    .await;
    let (page, own) = (format!("/page=ws://{upstream}"), format!("/own=ws://{upstream}"));
    let binary = Binary::start(
        &[
            "--upstream",
            &page,
            "--upstream",
            &own,
            "--upstream-host",
            "/own",
            "--trust-forwarded",
            "10.0.0.0/8",
            "--trust-forwarded",
            "loopback",
            "--allow-origin",
            "tauri://localhost",
        ],
        &[],
    )
    .await;
    let host = [("x-forwarded-host", "site.example"), ("x-forwarded-proto", "https")];
    for (origin, expected) in [
        ("https://site.example", None),
        ("http://site.example", Some(403)),
        ("tauri://localhost", None),
        ("tauri://other", Some(403)),
        ("null", Some(403)),
    ] {
        let headers =
            [&host[..], &[("origin", origin), ("sec-websocket-protocol", "manysocket.v1")]].concat();
        assert_eq!(dial(&binary.server, "/multiplexer", &headers).await.err(), expected, "{origin}");
    }
    for (path, expected) in [("/page", "site.example".to_owned()), ("/own", upstream.to_string())] {
        let mut wire = dial(&binary.server, path, &host).await.expect("open");
        let head = wire.next().await.expect("a message").expect("a message").into_text().expect("text");
        assert_eq!(value(&head, "host"), Some(expected.as_str()), "{path}");
        assert_eq!(value(&head, "x-forwarded-host"), Some("site.example"), "{path}");
    }
}
