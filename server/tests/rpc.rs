//! Calls: their answers, over native and virtual sockets alike.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use common::nats::{Backend, backends};
use common::{KINDS, Kind, Link, Received, Server, Socket, dial, next};
use manysocket_protocol::Message;
use manysocket_server::rpc::{Caller, Error, Registration, Rpc, remote, rpc};
use manysocket_server::{Nats, Site};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

async fn add(left: i32, right: i32) -> i32 {
    left + right
}

async fn mirror(point: Point, scale: Option<f64>) -> Point {
    let scale = scale.unwrap_or(1.0);
    Point { x: -point.x * scale, y: -point.y * scale }
}

async fn refuse(message: String) -> Result<u8, Error> {
    Err(Error::new("refused", message).with_data(json!({ "at": 7 })))
}

async fn secret() -> Result<u8, std::num::ParseIntError> {
    "the password".parse()
}

async fn question() -> Result<String, Error> {
    Ok(std::fs::read_to_string("/there/is/no/such/file")?)
}

async fn slow(milliseconds: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    milliseconds
}

async fn crash(detail: String) {
    panic!("a secret: {detail}");
}

/// Where the functions of a test are: with NATS, every call goes through it.
struct Place<'a> {
    nats: Option<&'a Nats>,
    registrations: Vec<Registration>,
}

impl Place<'_> {
    async fn put(&mut self, path: &str, function: Rpc) -> Rpc {
        let Some(nats) = self.nats else { return function };
        self.registrations.push(function.register(nats, path).await.expect("a registration"));
        remote(nats, path).expect("a short path")
    }
}

/// A server, and values that must live as long as it.
async fn start(backend: &Backend) -> (Server, Vec<Registration>) {
    let count = Arc::new(AtomicU64::new(0));
    let next = rpc(move || {
        let count = Arc::clone(&count);
        async move { count.fetch_add(1, Ordering::Relaxed) }
    });
    let mut place = Place { nats: backend.nats.as_ref(), registrations: Vec::new() };
    let object = Site::new()
        .endpoint("/mirror", place.put("/object/mirror", rpc(mirror)).await.endpoint())
        .endpoint("/next", place.put("/object/next", next).await.endpoint())
        .endpoint("/crash", place.put("/object/crash", rpc(crash)).await.endpoint());
    let add = place.put("/add", rpc(add).arguments(["left", "right"])).await.max_message_size(100);
    let app = Site::new()
        .endpoint("/add", add.endpoint())
        .endpoint("/refuse", place.put("/refuse", rpc(refuse)).await.endpoint())
        .endpoint("/secret", place.put("/secret", rpc(secret)).await.endpoint())
        .endpoint("/question", place.put("/question", rpc(question)).await.endpoint())
        .endpoint("/slow", place.put("/slow", rpc(slow)).await.endpoint())
        .endpoint("/double", place.put("/double", rpc(async |n: f64| n)).await.endpoint())
        .endpoint("/single", place.put("/single", rpc(async |n: f32| n)).await.endpoint())
        .endpoint("/singles", place.put("/singles", rpc(async |n: Vec<f32>| n)).await.endpoint())
        .endpoint("/wide", place.put("/wide", rpc(async |n: u128| n)).await.endpoint())
        .endpoint("/long", place.put("/long", rpc(async |n: u64| n)).await.endpoint())
        .endpoint("/signed", place.put("/signed", rpc(async |n: i128| n)).await.endpoint())
        .endpoint("/any", place.put("/any", rpc(async |n: Box<RawValue>| n)).await.endpoint())
        .endpoint("/keys", place.put("/keys", rpc(keys)).await.endpoint())
        .endpoint("/text", place.put("/text", rpc(async |text: String| text)).await.endpoint())
        .endpoint("/nan", place.put("/nan", rpc(async || [f64::NAN])).await.endpoint())
        .nest("/object", object)
        .into_router();
    let plain = place.put("/plain", rpc(async |n: u8| n)).await;
    (Server::start(app.route_service("/plain", plain)).await, place.registrations)
}

async fn connect(kind: Kind, server: &Server, path: &str) -> Socket {
    Socket::open(kind, server, path, "", "").await.expect("open").0
}

async fn answer(socket: &mut Socket) -> Value {
    match socket.receive().await {
        Received::Message(Message::Text(bytes)) => serde_json::from_slice(&bytes).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

async fn call(socket: &mut Socket, text: &str) -> Value {
    socket.send(Message::text(text)).await;
    answer(socket).await
}

#[tokio::test]
async fn a_call_is_an_array_and_the_answer_an_object() {
    for backend in &backends().await {
        let (server, _offers) = start(backend).await;
        for kind in KINDS {
            let mut socket = connect(kind, &server, "/add").await;
            assert_eq!(call(&mut socket, "[1, 2]").await, json!({ "result": 3 }), "{kind:?}");
            assert_eq!(call(&mut socket, " [ -5,2 ] ").await, json!({ "result": -3 }), "{kind:?}");
            let mut mirror = connect(kind, &server, "/object/mirror").await;
            let expected = json!({ "result": { "x": -2.0, "y": 3.0 } });
            assert_eq!(call(&mut mirror, r#"[{"x":1,"y":-1.5}, 2]"#).await, expected, "{kind:?}");
            let mut plain = connect(kind, &server, "/plain").await;
            assert_eq!(call(&mut plain, "[255]").await, json!({ "result": 255 }), "{kind:?}");
        }
        let mut next = connect(Kind::Virtual, &server, "/object/next").await;
        for n in 0..3 {
            assert_eq!(call(&mut next, "[]").await, json!({ "result": n }));
        }
    }
}

/// A map whose keys are no strings.
async fn keys() -> BTreeMap<u64, BTreeMap<bool, f32>> {
    BTreeMap::from([(u64::MAX, BTreeMap::from([(true, 0.1)]))])
}

#[tokio::test]
async fn numbers_come_out_as_serde_writes_the_value_directly() {
    for backend in &backends().await {
        let (server, _offers) = start(backend).await;
        for (path, arguments, expected) in [
            ("/double", "[0.9999999999999999]", "0.9999999999999999"),
            ("/double", "[117.63331139400017]", "117.63331139400017"),
            ("/double", "[5e-324]", "5e-324"),
            ("/single", "[0.1]", "0.1"),
            ("/singles", "[[0.1, 16777216, 3.4028235e38]]", "[0.1,16777216.0,3.4028235e+38]"),
            ("/wide", "[340282366920938463463374607431768211455]", "340282366920938463463374607431768211455"),
            (
                "/signed",
                "[-170141183460469231731687303715884105728]",
                "-170141183460469231731687303715884105728",
            ),
            ("/long", "[18446744073709551615]", "18446744073709551615"),
            ("/any", "[[1.0, 1e400, 12345678901234567890123]]", "[1.0, 1e400, 12345678901234567890123]"),
            ("/keys", "[]", r#"{"18446744073709551615":{"true":0.1}}"#),
            ("/nan", "[]", "[null]"),
            ("/text", r#"["a\ud83d"]"#, "\"a\u{fffd}\""),
            ("/text", r#"["\udE00\ud83d\uDE00\\ud83d"]"#, "\"\u{fffd}\u{1f600}\\\\ud83d\""),
            ("/any", r#"[{"\ud83d":1}]"#, r#"{"\ufffd":1}"#),
        ] {
            let mut socket = connect(Kind::Virtual, &server, path).await;
            socket.send(Message::text(arguments)).await;
            let Received::Message(Message::Text(text)) = socket.receive().await else { panic!("no answer") };
            let text = String::from_utf8(text.to_vec()).expect("UTF-8");
            assert_eq!(text, format!(r#"{{"result":{expected}}}"#), "{path}");
        }
    }
}

/// The identity that a layer derives from the request.
#[derive(Clone)]
struct User(&'static str);

#[tokio::test]
async fn a_function_may_know_its_caller() {
    async fn who(caller: Caller, greeting: String) -> Result<String, Error> {
        let user = caller.extensions().get::<User>().ok_or_else(|| Error::new("login", "log in first"))?;
        let cookie =
            caller.headers().get("cookie").and_then(|cookie| cookie.to_str().ok()).unwrap_or_default();
        let tank = caller.parameter("tank").unwrap_or("none");
        Ok(format!(
            "{greeting} {} {cookie} {tank} {} {:?}",
            user.0,
            caller.uri().path(),
            caller.parameter("x")
        ))
    }
    let site: Site = Site::new()
        .endpoint("/tanks/{tank}/who", rpc(who).arguments(["greeting"]).endpoint())
        .endpoint("/alone", rpc(async |caller: Caller| caller.parameter("tank").is_none()).endpoint());
    let app = site.into_router().layer(axum::Extension(User("ada")));
    let server = Server::start(app.route_service("/plain/{tank}", rpc(who))).await;
    for kind in KINDS {
        let (mut socket, _) =
            Socket::open(kind, &server, "/tanks/a%20b/who", "id=1", "").await.expect("open");
        let expected = "hello ada id=1 a b /tanks/a%20b/who None";
        assert_eq!(call(&mut socket, r#"["hello"]"#).await, json!({ "result": expected }), "{kind:?}");
        // Its arguments are counted without it, for small calls and for large ones.
        let error = call(&mut socket, "[]").await;
        assert_eq!(error["error"]["data"], json!({ "position": 0, "name": "greeting" }), "{kind:?}");
        let large = "x".repeat(20_000);
        let answer = call(&mut socket, &json!([large]).to_string()).await;
        assert!(answer["result"].as_str().is_some_and(|text| text.ends_with("who None")), "{kind:?}");
        let mut plain = connect(kind, &server, "/plain/t").await;
        let expected = json!({"error": {"code": "login", "message": "log in first"}});
        assert_eq!(call(&mut plain, r#"["hello"]"#).await, expected, "{kind:?}");
        let mut alone = connect(kind, &server, "/alone").await;
        assert_eq!(call(&mut alone, "[]").await, json!({ "result": true }), "{kind:?}");
    }
}

/// Numbers of random bits, as JavaScript writes them: in the shortest form that reads as the same.
#[tokio::test]
async fn random_numbers_come_back_with_all_their_bits() {
    let Some(backend) = backends().await.into_iter().next() else { panic!("there is always one") };
    let (server, _offers) = start(&backend).await;
    let mut socket = connect(Kind::Virtual, &server, "/double").await;
    // xorshift64*, Vigna 2016.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut tried = 0;
    while tried < 5000 {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let number = match tried % 3 {
            0 => f64::from_bits(bits),
            1 => (bits >> 11) as f64 / 9_007_199_254_740_992.0 * 10_f64.powi((bits % 7) as i32),
            _ => bits as f64,
        };
        if !number.is_finite() {
            continue;
        }
        tried += 1;
        socket.send(Message::text(format!("[{number:e}]"))).await;
        let Received::Message(Message::Text(text)) = socket.receive().await else { panic!("no answer") };
        let text = String::from_utf8(text.to_vec()).expect("UTF-8");
        let result = text.strip_prefix(r#"{"result":"#).and_then(|rest| rest.strip_suffix('}'));
        let back: f64 = result.and_then(|result| result.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(back.to_bits(), number.to_bits(), "{number:e} came back as {text}");
    }
}

#[tokio::test]
async fn a_wrong_argument_is_named_and_the_socket_lives_on() {
    for backend in &backends().await {
        let (server, _offers) = start(backend).await;
        for kind in KINDS {
            let mut socket = connect(kind, &server, "/add").await;
            for (text, message, data) in [
                (
                    "[1]",
                    "argument 2 (right) is missing: the function takes 2 arguments, and 1 came",
                    json!({ "position": 1, "name": "right" }),
                ),
                (
                    "[1,2,3]",
                    "argument 3 is one too many: the function takes 2 arguments, and 3 came",
                    json!({ "position": 2, "name": null }),
                ),
                (
                    r#"["x",2]"#,
                    "argument 1 (left): invalid type: string \"x\", expected i32",
                    json!({ "position": 0, "name": "left" }),
                ),
                (
                    "[1,2.5]",
                    "argument 2 (right): invalid type: floating point `2.5`, expected i32",
                    json!({ "position": 1, "name": "right" }),
                ),
            ] {
                let expected = json!({ "error": { "code": "argument", "message": message, "data": data } });
                assert_eq!(call(&mut socket, text).await, expected, "{kind:?}");
            }
            for text in ["{}", "1", "", "[1,2", &"[".repeat(99)] {
                let answer = call(&mut socket, text).await;
                assert_eq!(answer["error"]["code"], "call", "{kind:?}: {text} {answer}");
            }
            socket.send(Message::Binary(b"[1,2]".to_vec().into())).await;
            assert_eq!(answer(&mut socket).await["error"]["code"], "call");
            assert_eq!(call(&mut socket, "[1,2]").await, json!({ "result": 3 }), "{kind:?}");

            socket.send(Message::text(format!("[{}]", "1".repeat(200)))).await;
            let expected = (Some(1009), "the message is too large", "the call is too large");
            let Received::Close(code, reason) = socket.receive().await else {
                panic!("{kind:?}: not closed")
            };
            assert!(
                code == expected.0 && (reason == expected.1 || reason == expected.2),
                "{kind:?}: {reason}"
            );
        }
    }
}

#[tokio::test]
async fn answers_come_in_order_one_after_the_other() {
    for backend in &backends().await {
        let (server, _offers) = start(backend).await;
        for kind in KINDS {
            let mut socket = connect(kind, &server, "/slow").await;
            let mut second = connect(kind, &server, "/slow").await;
            for text in ["[300]", "[0]", "[20]", "no call", "[1]"] {
                socket.send(Message::text(text)).await;
            }
            // Another socket is not held up.
            assert_eq!(call(&mut second, "[5]").await, json!({ "result": 5 }));
            for expected in [300, 0, 20] {
                assert_eq!(answer(&mut socket).await, json!({ "result": expected }), "{kind:?}");
            }
            assert_eq!(answer(&mut socket).await["error"]["code"], "call");
            assert_eq!(answer(&mut socket).await, json!({ "result": 1 }));
        }
    }
}

#[tokio::test]
async fn a_function_tells_its_own_errors_and_nothing_of_the_servers() {
    for backend in &backends().await {
        let (server, _offers) = start(backend).await;
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        for kind in KINDS {
            let mut socket = connect(kind, &server, "/refuse").await;
            let expected = json!({ "error": { "code": "refused", "message": "no", "data": { "at": 7 } } });
            assert_eq!(call(&mut socket, r#"["no"]"#).await, expected, "{kind:?}");

            let mut ids = Vec::new();
            for (path, arguments, cause) in [
                ("/secret", "[]", "invalid digit"),
                ("/question", "[]", "No such file"),
                ("/object/crash", r#"["the plans"]"#, "a secret: the plans"),
            ] {
                let mut socket = connect(kind, &server, path).await;
                for _ in 0..2 {
                    let answer = call(&mut socket, arguments).await;
                    let id = answer["error"]["data"]["id"].as_str().expect("an id").to_owned();
                    let message = format!("the call failed; the server's log says why, under {id}");
                    let error = json!({ "code": "internal", "message": message, "data": { "id": id } });
                    assert_eq!(answer, json!({ "error": error }), "{kind:?}");
                    let text = log.text();
                    let line = text.lines().find(|line| line.contains(&id)).expect("a line with the id");
                    assert!(line.contains(cause), "{line}");
                    ids.push(id);
                }
            }
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 6, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn an_objects_index_lists_its_methods_and_other_origins_may_not_call() {
    for backend in &backends().await {
        let (server, _offers) = start(backend).await;
        let mut index = connect(Kind::Virtual, &server, "/object/").await;
        assert_eq!(answer(&mut index).await, json!(["crash", "mirror", "next"]));
        let refused = dial(&server, "/add", &[("origin", "https://evil.example")]).await;
        assert_eq!(refused.err(), Some(403));
        let _: Router = Site::<()>::new().endpoint("/add", rpc(add).endpoint()).into_router();
    }
}

/// The log.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Arguments of 249 KB: objects without members, which cost most for their length.
fn heavy(label: &str) -> String {
    format!("[\"{label}\",[{}]]", vec!["{}"; 83_000].join(","))
}

/// All calls of a process share one sum of memory: tests with large calls run one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits for a condition that no socket reports.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("in time");
}

/// Links of their own for calls, and what their functions are called with.
struct Heavy {
    server: Server,
    begun: Arc<Mutex<Vec<String>>>,
    go_on: Arc<tokio::sync::Semaphore>,
}

impl Heavy {
    /// `note` answers at once, `keep` keeps its arguments until it may go on.
    async fn start() -> Self {
        let (begun, go_on) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let (noted, waited) = (Arc::clone(&begun), Arc::clone(&go_on));
        let note = rpc(move |label: String, values: Vec<Value>| {
            noted.lock().expect("no panic").push(label);
            async move { values.len() }
        });
        let keep = rpc(move |_: String, values: Vec<Value>| {
            let waited = Arc::clone(&waited);
            async move {
                let _ = waited.acquire().await;
                values.len()
            }
        });
        let site = Site::new().endpoint("/note", note.endpoint()).endpoint("/keep", keep.endpoint());
        Self { server: Server::start(site.into_router()).await, begun, go_on }
    }
}

#[tokio::test]
async fn large_calls_of_one_link_let_those_of_others_pass() {
    let _alone = ALONE.lock().await;
    let heavy_calls = Heavy::start().await;
    let server = &heavy_calls.server;
    let mut link = Link::dial(server).await;
    let mut channels = Vec::new();
    for _ in 0..64 {
        channels.push(link.open("/note").await);
    }
    let many = Message::text(heavy("many"));
    for channel in channels {
        link.endpoint.send(channel, many.clone());
    }
    link.flush().await;
    for kind in KINDS {
        let mut other = connect(kind, server, "/note").await;
        assert_eq!(call(&mut other, &heavy("one")).await, json!({ "result": 83_000 }), "{kind:?}");
        let begun = heavy_calls.begun.lock().expect("no panic").clone();
        // Without turns the sixty-four would have been first.
        assert!(begun.len() < 60, "{kind:?}: {} calls were begun before", begun.len());
    }
    let mut answers = 0;
    while answers < 64 {
        if let manysocket_protocol::Event::Message { channel, message } = link.news().await {
            assert_eq!(message, Message::text(r#"{"result":83000}"#));
            link.endpoint.consumed(channel, 1, message.units());
            answers += 1;
        }
    }
}

#[tokio::test]
async fn what_calls_hold_is_counted_and_bounded() {
    let _alone = ALONE.lock().await;
    let heavy_calls = Heavy::start().await;
    let server = &heavy_calls.server;
    // Each costs 53 MiB: five are more than all calls may hold.
    let mut keeping = Vec::new();
    for _ in 0..5 {
        let mut socket = connect(Kind::Virtual, server, "/keep").await;
        socket.send(Message::text(heavy("kept"))).await;
        keeping.push(socket);
        if keeping.len() < 5 {
            until(|| server.stats.memory() >= keeping.len() * (50 << 20)).await;
        }
    }
    let refused = answer(&mut keeping[4]).await;
    assert_eq!(refused["error"]["code"], "busy", "{refused}");
    assert_eq!(server.stats.totals().limits_crossed["calls_memory"], 1);
    // Small calls go on.
    let mut other = connect(Kind::Virtual, server, "/note").await;
    assert_eq!(call(&mut other, r#"["small",[]]"#).await, json!({ "result": 0 }));
    heavy_calls.go_on.add_permits(1);
    for socket in &mut keeping[..4] {
        assert_eq!(answer(socket).await, json!({ "result": 83_000 }));
    }
    until(|| server.stats.memory() < 1 << 20).await;
    assert_eq!(call(&mut other, &heavy("other")).await, json!({ "result": 83_000 }), "there is room again");
}

#[tokio::test]
async fn an_error_repeats_little_of_an_argument() {
    let (server, _offers) = start(&Backend::here()).await;
    for kind in KINDS {
        let mut socket = connect(kind, &server, "/object/mirror").await;
        let answer = call(&mut socket, &format!("[\"{}\", 1]", "<".repeat(200_000))).await;
        assert_eq!(answer["error"]["code"], "argument", "{kind:?}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(
            message.len() < 300 && message.starts_with("argument 1: invalid type: string \"<<<"),
            "{message}"
        );
    }
}

/// A limit of two calls for each user, and half a second more for the next.
#[tokio::test]
async fn an_application_limits_the_calls_of_each_user() {
    let used = Mutex::new(HashMap::<String, u32>::new());
    let by_user = move |caller: &Caller| {
        let cookie = caller.headers().get("cookie").and_then(|cookie| cookie.to_str().ok());
        let mut used = used.lock().expect("no panic");
        let count = used.entry(cookie.unwrap_or_default().to_owned()).or_default();
        *count += 1;
        if *count > 2 { Err(Duration::from_micros(499_001)) } else { Ok(()) }
    };
    let run = Arc::new(AtomicUsize::new(0));
    let runs = Arc::clone(&run);
    let count = rpc(move |number: u64| {
        runs.fetch_add(1, Ordering::Relaxed);
        async move { number }
    });
    let limited = count.clone().rate_limit(by_user);
    let never = count.rate_limit(|_| Ok(())).rate_limit(|_| Err(Duration::MAX));
    let site: Site = Site::new().endpoint("/count", limited.endpoint()).endpoint("/never", never.endpoint());
    let server = Server::start(site.into_router()).await;
    for kind in KINDS {
        let user = |name: &str| format!("{name}={kind:?}");
        let (mut ada, _) = Socket::open(kind, &server, "/count", &user("ada"), "").await.expect("open");
        run.store(0, Ordering::Relaxed);
        for text in ["[0]", "[1]", "[2]", "not a call"] {
            ada.send(Message::text(text)).await;
        }
        for number in [0, 1] {
            assert_eq!(next(&mut ada).await, json!({ "result": number }), "{kind:?}");
        }
        let refused = json!({ "error": {
            "code": "limited", "message": "too many calls: call again in 500 ms", "data": { "retryAfter": 500 },
        } });
        for _ in 0..2 {
            assert_eq!(next(&mut ada).await, refused, "{kind:?}");
        }
        let (mut bob, _) = Socket::open(kind, &server, "/count", &user("bob"), "").await.expect("open");
        assert_eq!(call(&mut bob, "[3]").await, json!({ "result": 3 }), "{kind:?}");
        assert_eq!(run.load(Ordering::Relaxed), 3, "{kind:?}: refused calls do not run");
        let mut never = connect(kind, &server, "/never").await;
        let answer = call(&mut never, "[4]").await;
        assert_eq!(answer["error"]["data"]["retryAfter"], json!(u64::MAX), "{kind:?}");
    }
}
