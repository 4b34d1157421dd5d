//! Indexes, over native and virtual sockets, Server-Sent Events and plain HTTP; and what else lives at a site's paths.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::extract::ws::Message as WsMessage;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use common::{KINDS, Kind, Received, Server, Socket, dial};
use futures_util::{StreamExt, stream};
use manysocket_protocol::Message;
use manysocket_server::{Endpoint, Gateway, LastEventId, Listing, Site, SseMessage, WebSocketUpgrade, sse};
use serde_json::{Value, json};
use tower::ServiceExt;
use url::Url;

/// A handler that sends the name in its path.
async fn name(Path(name): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        let _ = socket.send(WsMessage::Text(name.into())).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

async fn open(kind: Kind, server: &Server, path: &str) -> Socket {
    Socket::open(kind, server, path, "", "").await.unwrap_or_else(|status| panic!("{path}: {status}")).0
}

async fn text(socket: &mut Socket) -> String {
    match socket.receive().await {
        Received::Message(Message::Text(text)) => String::from_utf8(text.to_vec()).expect("UTF-8"),
        other => panic!("{other:?}"),
    }
}

async fn value(socket: &mut Socket) -> Value {
    serde_json::from_str(&text(socket).await).expect("JSON")
}

/// Sends a GET request to an application, with headers.
async fn request(app: &Router, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::get(path).header("host", "example.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer")
}

async fn body(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn header_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The founding example.
fn data() -> Router {
    let ok = || get(|| async { "ok" });
    let geo = Site::new().route("/raster", ok()).route("/vector", ok());
    Site::new().route("/data/users", ok()).nest("/data/geo", geo).into_router()
}

#[tokio::test]
async fn interior_paths_list_their_children() {
    for kind in KINDS {
        let server = Server::start(data()).await;
        for (path, expected) in [
            ("/", json!(["data/"])),
            ("/data", json!(["geo/", "users"])),
            ("/data/", json!(["geo/", "users"])),
            ("/data/geo", json!(["raster", "vector"])),
            ("/data/geo/?query", json!(["raster", "vector"])),
        ] {
            assert_eq!(value(&mut open(kind, &server, path).await).await, expected, "{kind:?} {path}");
        }
        for (path, status) in [("/nowhere", 404), ("/data/nowhere/", 404), ("/data//", 404)] {
            assert_eq!(Socket::open(kind, &server, path, "", "").await.err(), Some(status), "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_made_at_run_time_comes_and_goes() {
    for kind in KINDS {
        let rooms = Listing::new();
        let site = Site::new()
            .route("/rooms/rules", get(|| async { "be kind" }))
            .endpoint("/rooms/{room}", Endpoint::new(any(name)).listing(rooms.clone()))
            .route("/rooms/{room}/log", get(|| async { "empty" }));
        let server = Server::start(site.into_router()).await;
        rooms.insert("blue");
        let mut socket = open(kind, &server, "/rooms/").await;
        assert_eq!(value(&mut socket).await, json!(["blue", "blue/", "rules"]));
        rooms.insert("red");
        let change = json!({ "added": ["red", "red/"], "removed": [] });
        assert_eq!(value(&mut socket).await, change, "a room is an endpoint and an index");
        rooms.remove("blue");
        rooms.insert("rules");
        let change = json!({ "added": ["rules/"], "removed": ["blue", "blue/"] });
        assert_eq!(value(&mut socket).await, change, "a route stays a route");
        assert_eq!(value(&mut open(kind, &server, "/rooms/red/").await).await, json!(["log"]));
    }
}

#[tokio::test]
async fn thousands_of_rapid_changes_are_few_messages() {
    for kind in KINDS {
        let names = Listing::new();
        for n in 0..10_000 {
            names.insert(&format!("{n:05}"));
        }
        let site = Site::new().endpoint("/{name}", Endpoint::new(any(name)).listing(names.clone()));
        let server = Server::start(site.into_router()).await;
        let mut socket = open(kind, &server, "/").await;
        let names_of = |value: Value| serde_json::from_value::<BTreeSet<String>>(value).expect("names");
        let mut listed = names_of(value(&mut socket).await);
        assert_eq!(listed.len(), 10_000);
        let churn = tokio::spawn(async move {
            for n in 10_000..15_000 {
                names.insert(&format!("{n:05}"));
                names.remove(&format!("{:05}", n - 10_000));
                if n % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            names.insert("last");
        });
        let (began, mut messages) = (Instant::now(), 0);
        while !listed.contains("last") {
            messages += 1;
            match value(&mut socket).await {
                all @ Value::Array(_) => listed = names_of(all),
                mut change => {
                    listed = &listed - &names_of(change["removed"].take());
                    listed.append(&mut names_of(change["added"].take()));
                }
            }
        }
        churn.await.expect("no panic");
        let expected: BTreeSet<_> =
            (5_000..15_000).map(|n| format!("{n:05}")).chain(["last".into()]).collect();
        assert_eq!(listed, expected);
        let most = 2 + began.elapsed().as_millis() / 100;
        assert!(messages <= most, "10,001 changes in {messages} messages, at most {most}");
    }
}

#[tokio::test]
async fn names_resolve_from_the_index_whatever_is_in_them() {
    let odd = [
        "a b",
        "ä",
        "日本",
        "a/b",
        "a\\b",
        "...",
        "%2e%2e",
        "?q",
        "#f",
        "a:b",
        "//host",
        "javascript:alert(1)",
        "<b>",
        "\"",
        "'",
        "{x}",
        "a\nb",
        "\u{0}",
        "+",
        "&amp;",
    ];
    for kind in KINDS {
        let names = Listing::new();
        for name in odd {
            assert!(names.insert(name), "{name:?}");
        }
        let site = Site::new().endpoint("/in/{name}", Endpoint::new(any(name)).listing(names));
        let server = Server::start(site.into_router()).await;
        let listed = value(&mut open(kind, &server, "/in/").await).await;
        let base = Url::parse(&format!("ws://{}/in/", server.address)).expect("a URL");
        let mut seen = Vec::new();
        for entry in listed.as_array().expect("a list") {
            let url = base.join(entry.as_str().expect("a string")).expect("a relative URL");
            match Socket::open(kind, &server, url.path(), "", "").await {
                Ok((mut socket, _)) => seen.push(text(&mut socket).await),
                // A multiplexer refuses encoded separators, which some servers take for real ones.
                Err(400) if kind == Kind::Virtual => {
                    assert!(url.path().contains("%2F") || url.path().contains("%5C"));
                }
                Err(status) => panic!("{url}: {status}"),
            }
        }
        let reachable = |name: &&str| kind == Kind::Native || !name.contains(['/', '\\']);
        let mut expected: Vec<_> = odd.into_iter().filter(reachable).collect();
        expected.sort_unstable();
        seen.sort();
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn hidden_children_are_not_shown() {
    for kind in KINDS {
        let names = Listing::new();
        names.insert("open");
        names.insert("secret");
        let ok = || get(|| async { "ok" });
        let below = Site::new()
            .route("/x/public", ok())
            .route("/x/private", ok())
            .endpoint("/rooms/{room}", Endpoint::new(any(name)).listing(names.clone()))
            .visible(|_, path| !path.ends_with("/private"));
        let site = Site::new().nest("/all", below).visible(|request, path| {
            !path.starts_with("/all/rooms/secret") || header_of(&request.headers, "cookie") == "session=good"
        });
        let app = site.into_router();
        assert_eq!(body(request(&app, "/all/rooms/", &[]).await).await, r#"["open"]"#);
        assert_eq!(body(request(&app, "/all/x/", &[]).await).await, r#"["public"]"#);
        let server = Server::start(app).await;
        let mut anyone = open(kind, &server, "/all/rooms/").await;
        let (mut known, _) =
            Socket::open(kind, &server, "/all/rooms/", "session=good", "").await.expect("open");
        assert_eq!(value(&mut anyone).await, json!(["open"]));
        assert_eq!(value(&mut known).await, json!(["open", "secret"]));
        names.insert("secret2");
        assert_eq!(value(&mut known).await, json!({ "added": ["secret2"], "removed": [] }));
        names.remove("secret2");
        assert_eq!(value(&mut known).await, json!({ "added": [], "removed": ["secret2"] }));
        names.insert("open2");
        assert_eq!(value(&mut anyone).await, json!({ "added": ["open2"], "removed": [] }));
    }
}

#[tokio::test]
async fn another_spelling_of_a_path_shows_no_more() {
    let site = Site::new().route("/{tenant}/a:b", get(|| async { "ok" }));
    let app = site.visible(|_, path| path == "/open &/a:b".replace(' ', "%20")).into_router();
    for (path, listed) in [
        ("/secret/", "[]"),
        ("/open%20&/", r#"["./a:b"]"#),
        ("/%6fpen%20%26/", r#"["./a:b"]"#),
        ("/open%2520&/", "[]"),
        ("/open%20&%2f/", "[]"),
        ("/%ff/", "[]"),
    ] {
        assert_eq!(body(request(&app, path, &[]).await).await, listed, "{path}");
    }
}

#[tokio::test]
async fn merged_sites_answer_and_list_both() {
    let ok = |text: &'static str| get(move || async move { text });
    for kind in KINDS {
        let rooms = Listing::new();
        rooms.insert("blue");
        let chat = Site::new()
            .endpoint("/rooms/{room}", Endpoint::new(any(name)).listing(rooms.clone()))
            .route("/data/users", ok("users"))
            .nest("/up", Site::new().route("/x", ok("x")));
        let data = Site::new().route("/data/geo/raster", ok("raster")).route("/data", ok("own"));
        let site = Site::new().merge(data).expect("no conflict").merge(chat).expect("no conflict");
        let server = Server::start(site.into_router()).await;
        for (path, expected) in [
            ("/", json!(["data", "data/", "rooms/", "up/"])),
            ("/data/", json!(["geo/", "users"])),
            ("/data/geo", json!(["raster"])),
            ("/rooms/", json!(["blue"])),
            ("/up/", json!(["x"])),
        ] {
            assert_eq!(value(&mut open(kind, &server, path).await).await, expected, "{kind:?} {path}");
        }
        assert!(common::get(server.address, "/data").await.ends_with("own"));
        assert!(common::get(server.address, "/up/x").await.ends_with('x'));
    }
}

#[tokio::test]
async fn a_layer_stays_around_the_routes_of_its_site() {
    let ok = || get(|| async { "ok" });
    let hidden: Site = Site::new().route("/admin/log", ok()).visible(|_, path| !path.starts_with("/admin/"));
    let open_to_all = Site::new().route("/news", ok());
    for site in [open_to_all.merge(hidden).expect("no conflict"), {
        let hidden: Site =
            Site::new().route("/admin/log", ok()).visible(|_, path| !path.starts_with("/admin/"));
        hidden.merge(Site::new().route("/news", ok())).expect("no conflict")
    }] {
        assert_eq!(body(request(&site.into_router(), "/", &[]).await).await, r#"["news"]"#);
    }
}

#[test]
fn routes_that_overlap_are_errors_that_name_both() {
    let ok = || get(|| async { "ok" });
    let gateway = |prefix| Gateway::new(prefix, "ws://127.0.0.1:1").expect("a gateway");
    let site = |paths: &[&str]| paths.iter().fold(Site::<()>::new(), |site, path| site.route(path, ok()));
    let merged = |one: &[&str], other: &[&str]| {
        site(one).merge(site(other)).map(drop).map_err(|conflict| {
            let (one, other) = conflict.routes();
            (one.to_owned(), other.to_owned())
        })
    };
    for (one, other) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/{user}", "/{room}"),
        ("/a/{user}/log", "/a/{room}/log"),
        ("/a/{*rest}", "/a/{*path}"),
        ("/a/{name}", "/a/{*path}"),
    ] {
        assert_eq!(merged(&["/x", one, "/y"], &["/z", other]), Err((one.into(), other.into())));
        if one == other {
            continue;
        }
        let conflict = site(&[one, other]).try_into_router().expect_err("a conflict");
        assert_eq!(conflict.routes(), (one, other));
        let text = conflict.to_string();
        assert!(text.contains(one) && text.contains(other), "{text}");
    }
    for (one, other) in [("/a", "/a/"), ("/a/b", "/a/{name}"), ("/a/b/", "/a/{*rest}"), ("/a", "/b")] {
        assert_eq!(merged(&[one], &[other]), Ok(()), "{one} {other}");
        assert!(site(&[one, other]).try_into_router().is_ok(), "{one} {other}");
    }
    // Gateways.
    let two = Site::<()>::new().gateway(gateway("/up")).merge(Site::new().gateway(gateway("/up")));
    assert_eq!(two.expect_err("a conflict").routes(), ("/up/{*rest}", "/up/{*rest}"));
    let beside = Site::<()>::new().route("/up/{name}", ok()).gateway(gateway("/up")).try_into_router();
    assert_eq!(beside.expect_err("a conflict").routes(), ("/up/{name}", "/up/{*rest}"));
    // Both would have to be around the one index.
    let layered = |path| site(&[path]).visible(|_, _| true);
    let conflict = layered("/a/x").merge(layered("/a/y")).expect_err("two indexes");
    assert!(conflict.to_string().contains("index"), "{conflict}");
}

#[tokio::test]
async fn gateways_take_the_place_of_indexes() {
    let gateway = |prefix| Gateway::new(prefix, "ws://127.0.0.1:1").expect("a gateway");
    let ok = || get(|| async { "ok" });
    let site = Site::new().route("/demo/x", ok()).route("/y/z", ok());
    let app = site.gateway(gateway("/demo")).gateway(gateway("/up")).into_router();
    assert_eq!(body(request(&app, "/demo/x", &[]).await).await, "ok");
    assert_eq!(request(&app, "/demo/", &[]).await.status(), 400, "the gateway wants a WebSocket");
    assert_eq!(body(request(&app, "/", &[]).await).await, r#"["demo","demo/","up","up/","y/"]"#);
    let app = Site::new().route("/y/z", ok()).gateway(gateway("/")).into_router();
    assert_eq!(request(&app, "/", &[]).await.status(), 400);
    assert_eq!(body(request(&app, "/y/", &[]).await).await, r#"["z"]"#);
}

#[tokio::test]
async fn a_layer_is_around_the_indexes_of_what_it_is_around() {
    async fn only_with_session(request: axum::extract::Request, next: Next) -> Response {
        match header_of(request.headers(), "cookie") {
            "session=good" => next.run(request).await,
            _ => StatusCode::UNAUTHORIZED.into_response(),
        }
    }
    let ok = || get(|| async { "ok" });
    let admin = Site::new().route("/a/log", ok()).layer(middleware::from_fn(only_with_session));
    let site = Site::new().nest("/admin", admin).route("/news", ok());
    let server = Server::start(site.into_router()).await;
    for kind in KINDS {
        for path in ["/admin", "/admin/", "/admin/a", "/admin/a/"] {
            assert_eq!(Socket::open(kind, &server, path, "", "").await.err(), Some(401), "{kind:?} {path}");
            assert!(Socket::open(kind, &server, path, "session=good", "").await.is_ok(), "{kind:?} {path}");
        }
        assert_eq!(value(&mut open(kind, &server, "/").await).await, json!(["admin/", "news"]));
    }
}

#[tokio::test]
async fn what_an_application_adds_takes_the_place_of_an_index() {
    let ok = || get(|| async { "ok" });
    let own = || get(|| async { "own" });
    let below = Site::new().route("/x", ok()).layer(tower::layer::util::Identity::new());
    let site = Site::new().nest("/a", below).route("/a/", own()).route("/", own()).route("/b/{*rest}", ok());
    let app = site.into_router();
    assert_eq!(body(request(&app, "/a/", &[]).await).await, "own");
    assert_eq!(body(request(&app, "/", &[]).await).await, "own");
    assert_eq!(request(&app, "/b/", &[]).await.status(), 404, "a rest of any length has no names to list");
}

#[tokio::test]
async fn an_index_takes_no_messages() {
    for kind in KINDS {
        let server = Server::start(data()).await;
        let mut socket = open(kind, &server, "/data/").await;
        value(&mut socket).await;
        socket.send(Message::text("hello?")).await;
        let why = "an index tells what is below it, and takes no messages";
        assert_eq!(socket.receive().await, Received::Close(Some(1003), why.into()), "{kind:?}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_not_watch() {
    let site = Site::new()
        .route("/a/b", get(|| async { "b" }))
        .allow_origin("https://friend.example".parse().expect("an origin"));
    let server = Server::start(site.into_router()).await;
    let own = format!("http://{}", server.address);
    for (origin, status) in [
        (own.as_str(), None),
        ("https://friend.example", None),
        ("https://evil.example", Some(403)),
        ("null", Some(403)),
    ] {
        assert_eq!(dial(&server, "/a/", &[("origin", origin)]).await.err(), status, "{origin}");
    }
}

#[tokio::test]
async fn over_plain_http_an_index_is_json_or_html() {
    let app = data();
    let moved = request(&app, "/data?a=1", &[]).await;
    assert_eq!((moved.status().as_u16(), header_of(moved.headers(), "location")), (308, "./data/?a=1"));
    let json = request(&app, "/data/", &[]).await;
    assert_eq!(header_of(json.headers(), "content-type"), "application/json");
    assert_eq!(header_of(json.headers(), "vary"), "accept");
    assert_eq!(body(json).await, r#"["geo/","users"]"#);
    let html = request(&app, "/data/", &[("accept", "text/html,*/*;q=0.8")]).await;
    assert_eq!(header_of(html.headers(), "content-type"), "text/html; charset=utf-8");
    let html = body(html).await;
    for part in
        ["<h1>/data/</h1>", r#"<a href="geo/">geo/</a>"#, r#"<a href="users">users</a>"#, r#"href="../""#]
    {
        assert!(html.contains(part), "{part} in {html}");
    }
    let refused = request(&app, "/data/", &[("accept", "image/png")]).await;
    assert_eq!(refused.status(), 406);
    assert!(body(refused).await.contains("application/json, text/html, text/event-stream"));
    let post = Request::post("/data/").body(Body::empty()).expect("a request");
    assert_eq!(app.oneshot(post).await.expect("an answer").status(), 405);
}

#[tokio::test]
async fn names_are_text_in_html() {
    let names = Listing::new();
    names.insert("<script>alert('&\"')</script>");
    let site = Site::new().endpoint("/{name}", Endpoint::new(any(name)).listing(names));
    let html = body(request(&site.into_router(), "/", &[("accept", "text/html")]).await).await;
    assert!(!html.contains("<script"), "{html}");
    assert!(html.contains("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;"), "{html}");
}

#[tokio::test]
async fn endpoints_tell_what_lives_there() {
    let endpoint =
        || Endpoint::new(any(name)).title("Names & <more>").usage("Tells its name.").protocol("/docs");
    let site = Site::new()
        .endpoint("/{name}", endpoint())
        .endpoint("/with/http", endpoint().http(get(|| async { "better" })));
    let app = site.into_router();
    let json = request(&app, "/n", &[]).await;
    assert_eq!(json.status(), 426);
    assert_eq!(header_of(json.headers(), "upgrade"), "websocket");
    let expected = json!({
        "title": "Names & <more>", "usage": "Tells its name.", "protocol": "/docs", "websocket": "/n", "events": false,
    });
    assert_eq!(serde_json::from_str::<Value>(&body(json).await).expect("JSON"), expected);
    let html = request(&app, "/n", &[("accept", "text/html")]).await;
    assert_eq!(html.status(), 426);
    let html = body(html).await;
    for part in [
        "<h1>Names &amp; &lt;more&gt;</h1>",
        "new WebSocket(new URL(&quot;/n&quot;, location))",
        r#"href="/docs""#,
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    assert_eq!(body(request(&app, "/with/http", &[]).await).await, "better");
    let stream = request(&app, "/n", &[("accept", "text/event-stream")]).await;
    assert_eq!(stream.status(), 406, "only where it is allowed");
    let server = Server::start(app).await;
    for kind in KINDS {
        assert_eq!(text(&mut open(kind, &server, "/n").await).await, "n");
    }
}

/// An endpoint with all kinds of messages.
fn streaming() -> Router {
    let messages = get(async |LastEventId(last): LastEventId| {
        let all = [
            WsMessage::Text("plain".into()),
            WsMessage::Text("two\nlines\r\nor three".into()),
            WsMessage::Binary(vec![0, 255, 16].into()),
            WsMessage::Ping(Default::default()),
            WsMessage::Text("".into()),
        ];
        let seen = last.and_then(|last| last.parse().ok()).unwrap_or(0);
        let numbered = (1..).zip(all).skip(seen);
        sse(stream::iter(numbered.map(|(n, message)| SseMessage::from(message).id(n))))
    });
    let endpoint = Endpoint::new(any(name)).events(messages);
    Site::new()
        .endpoint("/{name}", endpoint)
        .allow_origin("https://friend.example".parse().expect("an origin"))
        .into_router()
}

#[tokio::test]
async fn what_an_endpoint_sends_can_be_read_as_events() {
    let accept = ("accept", "text/event-stream");
    let response = request(&streaming(), "/n", &[accept]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header_of(response.headers(), "content-type"), "text/event-stream");
    let first = "data: plain\nid: 1\n\ndata: two\ndata: lines\ndata: or three\nid: 2\n\n";
    let rest = "event: binary\ndata: AP8Q\nid: 3\n\nid: 5\n\n";
    assert_eq!(body(response).await, format!("{first}{rest}"));
    let resumed = request(&streaming(), "/n", &[accept, ("last-event-id", "2")]).await;
    assert_eq!(body(resumed).await, rest);
}

#[tokio::test]
async fn events_are_for_the_same_origin_and_those_listed() {
    let app = streaming();
    for (headers, status) in [
        (vec![], 200),
        (vec![("sec-fetch-site", "same-origin")], 200),
        (vec![("sec-fetch-site", "none")], 200),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("origin", "http://example.com")], 200),
        (vec![("origin", "https://friend.example"), ("sec-fetch-site", "cross-site")], 200),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
    ] {
        let all: Vec<_> = headers.iter().copied().chain([("accept", "text/event-stream")]).collect();
        let response = request(&app, "/n", &all).await;
        assert_eq!(response.status(), status, "{headers:?}");
        let origin =
            headers.iter().find(|(name, _)| *name == "origin" && status == 200).map(|(_, origin)| *origin);
        assert_eq!(header_of(response.headers(), "access-control-allow-origin"), origin.unwrap_or_default());
    }
    let index =
        request(&app, "/", &[("accept", "text/event-stream"), ("origin", "https://evil.example")]).await;
    assert_eq!(index.status(), 403);
    assert!(body(index).await.contains(r#"the origin "https://evil.example" is neither the server's own"#));
}

#[tokio::test]
async fn an_index_can_be_read_as_events() {
    let names = Listing::new();
    names.insert("a");
    let site = Site::new().endpoint("/{name}", Endpoint::new(any(name)).listing(names.clone()));
    let response = request(&site.into_router(), "/", &[("accept", "text/event-stream")]).await;
    let mut events = response.into_body().into_data_stream();
    let mut next = async || {
        String::from_utf8(events.next().await.expect("alive").expect("data").to_vec()).expect("UTF-8")
    };
    assert_eq!(next().await, "data: [\"a\"]\n\n");
    names.insert("b");
    assert_eq!(next().await, "data: {\"added\":[\"b\"],\"removed\":[]}\n\n");
}

#[test]
#[should_panic(
    expected = "a listing tells the values of a path's last parameter, but \"/rooms\" does not end in one"
)]
fn a_listing_belongs_to_a_parameter() {
    let _ = Site::<()>::new().endpoint("/rooms", Endpoint::new(any(name)).listing(Listing::new()));
}
