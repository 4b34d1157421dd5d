//! Cookies of virtual opens: which request gets them, once, and how others are answered (docs/protocol.md §4.2).

mod common;

use std::collections::HashSet;

use axum::Router;
use axum::extract::{Path, WebSocketUpgrade as AxumUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use common::upstream::{accepting, gateway, pass, upstream};
use common::{Link, PATIENCE, Server};
use manysocket_protocol::{Event, Message, Token};
use manysocket_server::{Links, Multiplexer, WebSocketUpgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

fn app() -> Router {
    let seen = async |headers: HeaderMap, upgrade: WebSocketUpgrade| {
        let cookies: Vec<_> =
            headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
        let cookies = cookies.join("; ");
        upgrade.on_upgrade(async move |mut socket| {
            let _ = socket.send(axum::extract::ws::Message::Text(cookies.into())).await;
            while let Some(Ok(_)) = socket.recv().await {}
        })
    };
    let set = |response: Response, name: String| {
        ([(header::SET_COOKIE, format!("{name}=1"))], response).into_response()
    };
    let accept = async move |Path(name): Path<String>, upgrade: WebSocketUpgrade| {
        set(upgrade.on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {}), name)
    };
    let by_axum = async move |Path(name): Path<String>, upgrade: AxumUpgrade| {
        set(upgrade.on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {}), name)
    };
    let refuse = async move |Path(name): Path<String>| set(StatusCode::UNAUTHORIZED.into_response(), name);
    Router::new()
        .route("/seen", any(seen))
        .route("/accept/{name}", any(accept))
        .route("/by-axum/{name}", any(by_axum))
        .route("/refuse/{name}", any(refuse))
}

/// Sends tickets to the multiplexer, with headers. Returns the status and the cookies that the answer sets.
async fn fetch(server: &Server, headers: &[(&str, &str)], tickets: &[u8]) -> (u16, Vec<String>) {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let mut head = format!("POST /multiplexer HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", server.address);
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", tickets.len());
    stream.write_all(&[head.as_bytes(), tickets].concat()).await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let cookies = answer.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let cookies = cookies.map(str::to_owned).collect();
    if status < 400 {
        assert!(answer.contains("cache-control: no-store"), "{answer}");
    }
    (status, cookies)
}

/// The same as a page of the server does.
async fn fetch_as_page(server: &Server, tickets: &[u8], cookie: &str) -> (u16, Vec<String>) {
    fetch(server, &[("origin", &format!("http://{}", server.address)), ("cookie", cookie)], tickets).await
}

/// Opens a socket and returns the ticket that comes before the answer.
async fn ticket(link: &mut Link, path: &str) -> [u8; 16] {
    let opened = link.endpoint.open(path, "").expect("below the limit");
    let event = link.news().await;
    let Event::Cookies { channel, ticket } = event else { panic!("{path}: {event:?}") };
    assert_eq!(channel, opened);
    let answer = link.news().await;
    assert!(
        matches!(answer, Event::Accepted { .. } | Event::Refused { status: 401, .. }),
        "{path}: {answer:?}"
    );
    *ticket.bytes()
}

/// The cookies that a handler sees.
async fn seen(link: &mut Link) -> String {
    link.open("/seen").await;
    match link.news().await {
        Event::Message { message: Message::Text(text), .. } => {
            String::from_utf8(text.to_vec()).expect("UTF-8")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_ticket_gives_the_cookies_once_and_then_shows_the_server_those_of_the_browser() {
    let multiplexer = Multiplexer::new("/multiplexer");
    let links = multiplexer.links();
    let server = Server::with(multiplexer, app()).await;
    let mut link = Link::dial_with(&server, &[("cookie", "old=1")], |_| {}).await.expect("a link");
    for (path, cookie) in [
        ("/accept/a", "a=1; Path=/accept"),
        ("/by-axum/b", "b=1; Path=/by-axum"),
        ("/refuse/c", "c=1; Path=/refuse"),
    ] {
        let ticket = ticket(&mut link, path).await;
        assert_eq!(fetch_as_page(&server, &ticket, "old=1").await, (200, vec![cookie.to_owned()]), "{path}");
        assert_eq!(fetch_as_page(&server, &ticket, &format!("new={path}")).await, (204, vec![]), "{path}");
        assert_eq!(seen(&mut link).await, format!("new={path}"));
        // The application sees them in the handshake, too: it decides by them when a session ends.
        let cookies = registered(&links);
        assert_eq!(cookies, [format!("new={path}")]);
        // Used.
        assert_eq!(fetch_as_page(&server, &ticket, "other=1").await, (404, vec![]), "{path}");
        assert_eq!(seen(&mut link).await, format!("new={path}"));
    }
    // A browser that has no cookies.
    let ticket = ticket(&mut link, "/accept/d").await;
    assert_eq!(fetch_as_page(&server, &ticket, "old=1").await.0, 200);
    assert_eq!(fetch(&server, &[("origin", &format!("http://{}", server.address))], &ticket).await.0, 204);
    assert_eq!(seen(&mut link).await, "");
}

/// The cookies of the handshakes of all links.
fn registered(links: &Links) -> Vec<String> {
    let seen = std::sync::Mutex::new(Vec::new());
    let close = axum::extract::ws::CloseFrame { code: 4000, reason: "".into() };
    links.close_where(
        |handshake| {
            let cookie = handshake.headers.get(header::COOKIE).and_then(|value| value.to_str().ok());
            seen.lock().expect("no panic").extend(cookie.map(str::to_owned));
            false
        },
        &close,
    );
    seen.into_inner().expect("no panic")
}

#[tokio::test]
async fn guessed_and_foreign_tickets_get_nothing_and_leave_those_of_others_alone() {
    let server = Server::with(
        Multiplexer::new("/multiplexer").allow_origin("https://other.example".parse().expect("an origin")),
        app(),
    )
    .await;
    let own = format!("http://{}", server.address);
    let mut link = Link::dial_with(&server, &[("cookie", "old=1")], |_| {}).await.expect("a link");
    let ticket = ticket(&mut link, "/accept/a").await;
    let mut near = ticket;
    near[15] ^= 1;
    for (origin, tickets, status) in [
        // Guessed, cut, none.
        (Some(&*own), &near[..], 404),
        (Some(&*own), &ticket[..15], 404),
        (Some(&*own), &[], 404),
        (Some(&*own), &[0; 1024], 404),
        // From a page of another origin that may have links, from one that may not, and without an origin.
        (Some("https://other.example"), &ticket, 404),
        (Some("https://evil.example"), &ticket, 403),
        (Some("null"), &ticket, 403),
        // More than a page sends.
        (Some(&*own), &[0; 1025], 400),
    ] {
        let headers: Vec<_> =
            origin.into_iter().map(|origin| ("origin", origin)).chain([("cookie", "evil=1")]).collect();
        assert_eq!(fetch(&server, &headers, tickets).await, (status, vec![]), "{origin:?} {tickets:?}");
    }
    assert_ne!(fetch(&server, &[("cookie", "evil=1")], &ticket).await.0, 200, "no origin");
    assert_eq!(seen(&mut link).await, "old=1");
    assert_eq!(fetch_as_page(&server, &ticket, "old=1").await.0, 200);
    // The second step is as protected.
    assert_eq!(
        fetch(&server, &[("origin", "https://other.example"), ("cookie", "evil=1")], &ticket).await.0,
        404
    );
    assert_eq!(seen(&mut link).await, "old=1");
    assert_eq!(fetch_as_page(&server, &ticket, "new=1").await.0, 204);
    assert_eq!(seen(&mut link).await, "new=1");
}

#[tokio::test]
async fn a_thousand_tickets_are_bounded_and_the_sockets_open_all_the_same() {
    let server = Server::start(app()).await;
    let mut link = Link::dial(&server).await;
    let mut neighbour = Link::dial(&server).await;
    let (mut tickets, mut accepted) = (Vec::new(), 0);
    let held = |server: &Server| server.stats.memory();
    let before = held(&server);
    for n in 0..1000 {
        link.endpoint.open(&format!("/accept/n{n}"), "").expect("below the limit");
        loop {
            match link.news().await {
                Event::Cookies { ticket, .. } => tickets.push(ticket),
                Event::Accepted { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        accepted += 1;
    }
    assert_eq!((accepted, tickets.len()), (1000, 256));
    assert_eq!(tickets.iter().map(Token::bytes).collect::<HashSet<_>>().len(), 256);
    let full = held(&server);
    assert!(full > before + 256 * 1024, "what tickets hold is counted");
    // Other links have separate tickets.
    ticket(&mut neighbour, "/accept/a").await;
    // Several in one request, and no more cookies in an answer than a proxy passes on.
    let request: Vec<u8> = tickets.iter().take(64).flat_map(|ticket| *ticket.bytes()).collect();
    let mut cookies = Vec::new();
    loop {
        let (status, more) = fetch_as_page(&server, &request, "old=1").await;
        if status == 204 {
            break;
        }
        assert_eq!(status, 200);
        assert!(more.iter().map(String::len).sum::<usize>() <= 3 * 1024);
        cookies.extend(more);
    }
    let expected: HashSet<_> = (0..64).map(|n| format!("n{n}=1; Path=/accept")).collect();
    assert_eq!(cookies.into_iter().collect::<HashSet<_>>(), expected);
    assert!(held(&server) < full - 32 * 1024, "and no longer, once they are used");
    // Fetched tickets make room.
    ticket(&mut link, "/accept/a").await;
}

#[tokio::test]
async fn a_ticket_expires() {
    let server = Server::start(app()).await;
    let mut link = Link::dial(&server).await;
    let ticket = ticket(&mut link, "/accept/a").await;
    pass(31).await;
    assert_eq!(fetch_as_page(&server, &ticket, "").await, (404, vec![]));
}

#[tokio::test]
async fn the_last_of_equal_cookies_counts() {
    let server = Server::start(app()).await;
    let mut link = Link::dial(&server).await;
    let mut request = Vec::new();
    for path in ["/accept/a", "/accept/b", "/accept/a"] {
        request.extend(ticket(&mut link, path).await);
    }
    let (status, cookies) = fetch_as_page(&server, &request, "").await;
    assert_eq!(
        (status, cookies),
        (200, vec!["a=1; Path=/accept".to_owned(), "b=1; Path=/accept".to_owned()])
    );
}

#[tokio::test]
async fn an_upstream_sets_cookies() {
    let upstream = upstream(async |mut stream: TcpStream, head: String| {
        let answer = if head.starts_with("GET /no") {
            "HTTP/1.1 401 Unauthorized\r\nset-cookie: up=2; Path=/\r\ncontent-length: 0\r\n\r\n".to_owned()
        } else {
            accepting(&head, "set-cookie: up=1; HttpOnly\r\nset-cookie: more=1\r\n")
        };
        stream.write_all(answer.as_bytes()).await.expect("sent");
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    let server = gateway(upstream).await;
    let mut link = Link::dial(&server).await;
    for (path, expected) in [
        ("/up/chat/room", vec!["up=1; HttpOnly; Path=/up/chat", "more=1; Path=/up/chat"]),
        ("/up/no", vec!["up=2; Path=/"]),
    ] {
        let ticket = ticket(&mut link, path).await;
        assert_eq!(
            fetch_as_page(&server, &ticket, "").await,
            (200, expected.into_iter().map(str::to_owned).collect())
        );
    }
}
