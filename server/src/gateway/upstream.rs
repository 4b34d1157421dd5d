//! Dials the upstream server of a gateway: TCP, TLS for `wss:`, and the opening handshake (RFC 6455 §4.1).

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use data_encoding::BASE64;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_util::task::AbortOnDropHandle;

use super::spelling;
use crate::access::tokens::{has_token, members};
use crate::budget::TLS;
use crate::ws::frame::Config;
use crate::ws::frames::FramedSocket;

/// The timeout for reaching the upstream and completing the handshake. Reverse proxies allow the same, and a live
/// server needs much less.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// The delay before the next address of a name is tried in parallel, as RFC 8305 §5 recommends.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The silence after which the kernel probes the upstream's host: less than networks take to forget a silent
/// connection.
const PROBE_AFTER: Duration = Duration::from_secs(25);

/// The interval between probes. Kernels give up after about nine, here within two minutes.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) type Wire = FramedSocket<TokioIo<Upgraded>>;

/// An upstream server: the part of its URL before the path.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// The host, without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// The host and port as written, for the Host header.
    authority: HeaderValue,
    /// The URL's user and password, for requests without an `Authorization` header.
    authorization: Option<HeaderValue>,
    tls: Option<TlsConnector>,
}

/// The upstream's answer to the handshake.
pub(crate) enum DialAnswer {
    /// The upstream accepted: the connection and the headers of its 101.
    Open(Box<Wire>, HeaderMap),
    Refused(Response<Incoming>),
}

/// The reason why there is no answer to forward, and the status that the page gets.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) why: String,
}

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, why: error.to_string() }
    }
}

impl Upstream {
    /// Parses the server's part of a URL, or returns why the URL cannot be used.
    pub(crate) fn new(url: &Uri) -> Result<Self, String> {
        let (default_port, tls) = match url.scheme_str() {
            Some("ws") => (80, None),
            Some("wss") => (443, Some(TlsConnector::from(system_tls()?))),
            _ => return Err("it does not begin with ws:// or wss://".into()),
        };
        let authority = url.authority().ok_or("it names no host")?;
        let (user, server) = match authority.as_str().rsplit_once('@') {
            Some((user, server)) => (user, server),
            None => ("", authority.as_str()),
        };
        if authority.host().is_empty() {
            return Err("it names no host".into());
        }
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            authority: HeaderValue::from_str(server).map_err(|error| error.to_string())?,
            authorization: basic(user),
            tls,
        })
    }

    /// Returns the memory of the TLS of one idle connection.
    pub(crate) fn tls_memory(&self) -> usize {
        if self.tls.is_some() { TLS } else { 0 }
    }

    /// Sends the handshake request with these headers, and checks the answer as a browser would.
    ///
    /// Dropping the future aborts the attempt and closes the connection.
    pub(crate) async fn dial(
        &self,
        target: PathAndQuery,
        headers: HeaderMap,
        max_message: usize,
    ) -> Result<DialAnswer, Failure> {
        let timeout = tokio::time::timeout(DIAL_TIMEOUT, self.handshake(target, headers, max_message));
        timeout.await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", DIAL_TIMEOUT.as_secs());
            Err(Failure { status: StatusCode::GATEWAY_TIMEOUT, why })
        })
    }

    async fn handshake(
        &self,
        target: PathAndQuery,
        headers: HeaderMap,
        max_message: usize,
    ) -> Result<DialAnswer, Failure> {
        let key = generate_key();
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = self.complete(&headers, &key);
        request.extensions_mut().extend(spelling::of_browsers().await);
        let offered =
            request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect::<Vec<_>>();

        let stream = self.connect().await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let mut response = match &self.tls {
            None => ask(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                ask(tls.connect(name, stream).await?, request).await
            }
        }?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(DialAnswer::Refused(response));
        }
        verify(response.headers(), &key, &offered)?;
        let upgraded = hyper::upgrade::on(&mut response).await?;
        let wire = FramedSocket::new(TokioIo::new(upgraded), Config::bridged(max_message));
        Ok(DialAnswer::Open(Box::new(wire), response.into_parts().0.headers))
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        let found = lookup_host((self.host.as_str(), self.port)).await?;
        let addresses = found.filter(|address| may_be_reached(&self.host, address.ip())).collect::<Vec<_>>();
        if addresses.is_empty() {
            let why = "the name resolves only to addresses of this machine or its local network link; to reach one, write the address in the URL";
            return Err(why.into());
        }
        Ok(first_to_answer(&addresses).await?)
    }

    /// Puts the headers of this connection in front, as browsers do. `given` may contain `Host`.
    fn complete(&self, given: &HeaderMap, key: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, given.get(header::HOST).unwrap_or(&self.authority).clone());
        for (name, value) in [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(key).expect("base64"));
        for (name, value) in given.iter().filter(|(name, _)| *name != header::HOST) {
            headers.append(name, value.clone());
        }
        if let Some(authorization) = &self.authorization {
            headers.entry(header::AUTHORIZATION).or_insert(authorization.clone());
        }
        headers
    }
}

impl Display for Upstream {
    /// Writes the server's URL without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        write!(f, "{scheme}://{}", self.authority.to_str().unwrap_or_default())
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({self})")
    }
}

/// Returns whether a host with this name may resolve to this address. Services on loopback and on the link (cloud
/// machines have their metadata there) tend to trust every client. The operator can reach them by writing their
/// address; an attacker who changes a DNS record cannot.
fn may_be_reached(host: &str, address: IpAddr) -> bool {
    // Amazon's IPv6 metadata address is in the private range, not on the link.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let address = address.to_canonical();
    if address.is_loopback() {
        // RFC 6761 §6.3.
        return name == "localhost" || name.ends_with(".localhost");
    }
    match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_unspecified(),
        IpAddr::V6(address) => {
            !address.is_unicast_link_local() && !address.is_unspecified() && address != METADATA
        }
    }
}

/// Connects to the address that answers first. Tries each further address once the one before has failed, or after
/// [`NEXT_ADDRESS`]: an unreachable first address must not use up the whole dial timeout.
async fn first_to_answer(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    loop {
        match waiting.next() {
            Some(address) => attempts.push(TcpStream::connect(*address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            Some(ended) = attempts.next() => match ended {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if waiting.len() > 0 => {}
        }
    }
}

/// Enables TCP keepalive. The kernel's probes are invisible to the upstream's application, and close the connection if
/// the machine or the network fails. [`Watched`](super::keepalive::Watched) also pings upstreams that answer pings.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Sends a request and returns the head of the response.
async fn ask<S>(stream: S, request: Request<Body>) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let response = sender.send_request(request).await?;
    // The connection task still reads a refusal's body; it ends with that or with the upgrade.
    drop(connection.detach());
    Ok(response)
}

/// Checks a 101 response as a browser would (WHATWG WebSockets, "establish a WebSocket connection"; RFC 6455 §4.1).
fn verify(headers: &HeaderMap, key: &str, offered: &[HeaderValue]) -> Result<(), String> {
    let has = |name, token| has_token(headers, &name, token);
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err("its 101 does not upgrade to WebSocket".into());
    }
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err("its Sec-WebSocket-Accept does not fit the key".into());
    }
    if let Some(extensions) = headers.get(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err(format!("it chose the extensions {extensions:?}, and none were offered"));
    }
    let chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().collect::<Vec<_>>();
    match chosen[..] {
        [] if offered.is_empty() => Ok(()),
        [] => Err("it chose none of the subprotocols that were offered".into()),
        [one] if members(offered).any(|offer| one == offer) => Ok(()),
        _ => Err(format!("it chose the subprotocol {chosen:?}, which was not offered")),
    }
}

/// Encodes the user and password of a URL as a header value (RFC 7617 §2).
fn basic(user: &str) -> Option<HeaderValue> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    if name.is_empty() && password.is_empty() {
        return None;
    }
    let mut credentials = percent_decode_str(name).collect::<Vec<u8>>();
    credentials.push(b':');
    credentials.extend(percent_decode_str(password));
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(&credentials))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Builds a TLS configuration that trusts the system's root certificates, or those in the file in `SSL_CERT_FILE`.
fn system_tls() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Err(format!("it asks for TLS, and the system has no root certificates ({errors})"));
    }
    // The provider is explicit, so that an application may install another one as the process default.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_machine_are_reached_by_those_who_write_them() {
        for (host, address, expected) in [
            ("example.com", "93.184.216.34", true),
            ("backend", "10.0.0.7", true),
            ("backend", "fd00::7", true),
            ("example.com", "127.0.0.1", false),
            ("example.com", "127.8.8.8", false),
            ("example.com", "::1", false),
            ("example.com", "::ffff:127.0.0.1", false),
            ("example.com", "0.0.0.0", false),
            ("example.com", "::", false),
            ("example.com", "169.254.169.254", false),
            ("example.com", "::ffff:169.254.169.254", false),
            ("example.com", "fe80::1", false),
            ("metadata", "fd00:ec2::254", false),
            ("localhost.example.com", "127.0.0.1", false),
            ("notlocalhost", "127.0.0.1", false),
            ("localhost", "127.0.0.1", true),
            ("LOCALHOST.", "::1", true),
            ("app.localhost", "127.0.0.1", true),
            ("localhost", "169.254.169.254", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("169.254.169.254", "169.254.169.254", true),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(may_be_reached(host, address), expected, "{host} at {address}");
        }
    }

    /// The silent address is in a range reserved for documentation (RFC 5737), so no host has it: a connection fails,
    /// or never completes.
    #[tokio::test]
    async fn another_address_of_a_name_is_tried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let answering = listener.local_addr().expect("an address");
        let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let refusing = unused.local_addr().expect("an address");
        drop(unused);
        let silent = SocketAddr::from(([192, 0, 2, 1], 9));
        for addresses in
            [&[answering][..], &[refusing, answering], &[silent, refusing, answering], &[answering, silent]]
        {
            let stream = first_to_answer(addresses).await.expect("a connection");
            assert_eq!(stream.peer_addr().expect("an address"), answering, "{addresses:?}");
            keep_alive(&stream).expect("a socket");
            assert!(SockRef::from(&stream).keepalive().expect("a socket"));
        }
        let refused = first_to_answer(&[refusing, refusing]).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        first_to_answer(&[]).await.expect_err("no address");
    }

    #[test]
    fn the_user_of_a_url_becomes_a_header() {
        for (user, expected) in [
            ("", None),
            (":", None),
            ("ada:secret", Some("ada:secret")),
            ("ada", Some("ada:")),
            (":secret", Some(":secret")),
            ("a%40b:p%3A%C3%A4", Some("a@b:p:ä")),
        ] {
            let expected = expected.map(|plain| format!("Basic {}", BASE64.encode(plain.as_bytes())));
            assert_eq!(
                basic(user).map(|value| value.to_str().expect("ASCII").to_owned()),
                expected,
                "{user}"
            );
        }
    }

    #[test]
    fn a_server_is_shown_without_its_password() {
        let url = "ws://ada:secret@[::1]:9000/x".parse().expect("a URL");
        let upstream = Upstream::new(&url).expect("an upstream");
        assert_eq!(upstream.to_string(), "ws://[::1]:9000");
        assert_eq!((upstream.host.as_str(), upstream.port), ("::1", 9000));
        assert!(!format!("{upstream:?}").contains("secret"));
    }
}
