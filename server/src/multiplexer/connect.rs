//! Answers requests for the multiplexer's path: checks a handshake, and starts a link or leads its connection to the link that it resumes.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::Scheme;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use manysocket_protocol::{
    Endpoint, HANDSHAKE_PARAMETER, Millis, NONCE_PARAMETER, RESUME_PARAMETER, SUBPROTOCOL, Settings, Side,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, info_span, warn};

use super::refusal::Refusal;
use super::unclaimed::UnclaimedGuard;
use super::{Multiplexer, Shared, cookies, http};
use crate::access::forwarded::Forwarded;
use crate::access::{as_declared, plain};
use crate::link::dispatch::Dispatcher;
use crate::link::drain::Departure;
use crate::link::resumptions::{self, Arrival, Claim, Mailbox, Socket, new_token, read_first, read_resume};
use crate::link::{First, Link, head};
use crate::metrics::stats::Counted;
use crate::net::extended_connect::is_over_http2;
use crate::net::serve::Serving;
use crate::ws::connection::Connection;
use crate::ws::frame::Config;
use crate::ws::frames::FramedSocket;
use crate::ws::upgrade::{Offer, switching_protocols};

/// The bytes by which a batch may exceed its content, for headers and lengths. A batch of 4-byte messages is twice as
/// large as its content.
const BATCH_OVERHEAD: usize = 64 * 1024;

/// The longest nonce of a handshake, in bytes.
const MAX_NONCE: usize = 64;

/// A handshake as its link keeps it.
struct Handshake {
    parts: Arc<Parts>,
    dispatcher: Arc<Dispatcher>,
    /// The bytes of both.
    held: usize,
}

impl Shared {
    /// Answers a request for the multiplexer's path.
    pub(super) async fn answer(self: Arc<Self>, request: Request) -> Response {
        let (method, headers) = (request.method(), request.headers());
        if *method == Method::POST && http::is_of_carrier(headers) {
            return self.answer_carrier(request).await;
        }
        if *method == Method::POST {
            let Multiplexer { origins, tickets, links, .. } = &self.multiplexer;
            return cookies::fetch(origins, tickets, links, request).await;
        }
        if *method == Method::OPTIONS && http::is_preflight(headers) {
            return self.answer_preflight(&request.into_parts().0);
        }
        self.open_websocket(request.into_parts().0).await
    }

    /// Answers the handshake of a WebSocket.
    async fn open_websocket(self: Arc<Self>, mut parts: Parts) -> Response {
        if let Err(refusal) = self.check_depth(&parts) {
            return self.refuse(refusal);
        }
        let is_upgrade = parts.headers.get(header::UPGRADE).is_some();
        let connection = parts.extensions.get::<OnUpgrade>().cloned();
        // axum checks the handshake.
        let checked = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
        let (Some(upgrade), Ok(offer)) = (connection, checked) else {
            let why = "This is a manysocket multiplexer: connect with `new MultiWebSocket(url)` of the npm package manysocket.";
            let status = if is_upgrade { StatusCode::BAD_REQUEST } else { StatusCode::UPGRADE_REQUIRED };
            return as_declared((status, [(header::UPGRADE, "websocket")], format!("{why}\n")));
        };
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        let kind = if is_over_http2(&parts) { Connection::Stream } else { Connection::WebSocket };
        let opening = async move { upgrade.await.map(|io| kind(TokioIo::new(io))) };
        let of_origin = self.check_origin(&parts).map_err(|why| Refusal::new(StatusCode::FORBIDDEN, why));
        let checked = of_origin.and_then(|()| check_subprotocol(offer));
        match checked.and_then(|()| self.admit(parts, opening)) {
            Ok(()) => switching_protocols(key.as_ref(), Some(HeaderValue::from_static(SUBPROTOCOL))),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Refuses a multiplexer in the application of another one.
    pub(super) fn check_depth(&self, parts: &Parts) -> Result<(), Refusal> {
        match parts.extensions.get::<Offer>() {
            Some(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "a multiplexer inside a multiplexer")),
            None => Ok(()),
        }
    }

    /// Checks the origin of a request.
    ///
    /// # Errors
    /// Returns the reason of a refusal.
    pub(super) fn check_origin(&self, parts: &Parts) -> Result<(), String> {
        self.multiplexer.origins.check(&parts.headers, &Forwarded::of(parts))
    }

    /// Counts and logs the refusal of a handshake, and answers with it.
    pub(super) fn refuse(&self, Refusal { status, limit, why }: Refusal) -> Response {
        let Multiplexer { path, stats, .. } = &self.multiplexer;
        warn!(%path, %status, limit, "link refused: {why}");
        stats.link_refused(status.as_u16());
        if let Some(limit) = limit {
            stats.limit_crossed(limit);
        }
        plain(status, &why)
    }

    /// Admits a handshake whose connection is `opening`.
    ///
    /// # Errors
    /// Returns the refusal if it would cross a limit.
    pub(super) fn admit<O>(self: &Arc<Self>, parts: Parts, opening: O) -> Result<(), Refusal>
    where
        O: Future<Output = hyper::Result<Connection>> + Send + 'static,
    {
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if parameter(&query, RESUME_PARAMETER).is_some() {
            let (guard, has_displaced) = self.unclaimed.add();
            if has_displaced {
                debug!("a connection that has not sent RESUME gives way to another");
                self.multiplexer.stats.limit_crossed("max_resuming");
            }
            let resuming = Arc::clone(self).resume(parts, opening, guard);
            tokio::spawn(resuming.instrument(info_span!("resuming")));
            return Ok(());
        }
        let Multiplexer { stats, limits, .. } = &self.multiplexer;
        let counted = stats.count_link();
        if stats.links() > limits.max_links {
            return Err(Refusal::beyond(
                "max_links",
                format!("there are {} links already", limits.max_links),
            ));
        }
        let nonce = parameter(&query, NONCE_PARAMETER).filter(|nonce| nonce.len() <= MAX_NONCE);
        let nonce = nonce.map(str::to_owned);
        let max_size = self.max_size();
        let opening = async move { Ok(FramedSocket::new(opening.await?, Config::server(max_size))) };
        if let Some(nonce) = &nonce
            && parameter(&query, HANDSHAKE_PARAMETER).is_none()
        {
            let beginning = Arc::clone(self).begin(parts, opening, counted, nonce.clone());
            tokio::spawn(beginning.instrument(info_span!("handshake")));
            return Ok(());
        }
        let mailbox = self.multiplexer.resumptions.open(nonce);
        // One on its way for so long that the client has given it up.
        let mailbox =
            mailbox.map_err(|_| Refusal::new(StatusCode::CONFLICT, "a later handshake has come first"))?;
        self.start(parts, opening, counted, mailbox, First::Query(query));
        Ok(())
    }

    /// Begins a link once its first batch arrives as a message; or has the connection carry the link that an earlier handshake of
    /// the client has begun (docs/protocol.md §3.4).
    async fn begin<O>(self: Arc<Self>, parts: Parts, opening: O, counted: Counted, nonce: String)
    where
        O: Future<Output = hyper::Result<Socket>>,
    {
        let mut socket = match opening.await {
            Ok(socket) => socket,
            Err(error) => return debug!("a connection ended before it was upgraded: {error}"),
        };
        let Some(first) = read_first(&mut socket).await else { return debug!("a handshake was given up") };
        let resumptions = &self.multiplexer.resumptions;
        let (socket, mailbox) = match resumptions.open(Some(nonce)) {
            Ok(mailbox) => (socket, mailbox),
            Err(link) => {
                let Some(socket) = self.hand_over(parts.clone(), socket, &link).await else { return };
                let Ok(mailbox) = resumptions.open(None) else { return };
                (socket, mailbox)
            }
        };
        self.start(parts, ready(Ok(socket)), counted, mailbox, First::Message(first));
    }

    /// Gives a connection to a link as its carrier. Returns the connection if the link does not accept it.
    async fn hand_over(
        &self,
        mut parts: Parts,
        socket: Socket,
        link: &mpsc::Sender<Box<Arrival>>,
    ) -> Option<Socket> {
        parts.extensions.remove::<Serving>();
        let Handshake { parts, dispatcher, held } = self.handshake(parts);
        if let Some(revalidation) = &self.multiplexer.revalidation
            && let Err(close) = revalidation.check(Arc::clone(&parts)).await
        {
            debug!("a link is not begun: {}", close.reason);
            resumptions::refuse(socket).await;
            return None;
        }
        let (back, returned) = oneshot::channel();
        let claim = Claim::Again(back);
        match link.send(Box::new(Arrival { socket, claim, handshake: parts, dispatcher, head: held })).await {
            Ok(()) => returned.await.ok(),
            Err(error) => Some(error.0),
        }
        .map(|arrival| arrival.socket)
    }

    /// Starts a link.
    fn start<O>(&self, mut parts: Parts, opening: O, counted: Counted, mailbox: Mailbox, first: First)
    where
        O: Future<Output = hyper::Result<Socket>> + Send + 'static,
    {
        let id = self.next_link.fetch_add(1, Ordering::Relaxed);
        let serving = parts.extensions.remove::<Serving>();
        let awaited = serving.as_ref().map(|serving| serving.links.token());
        let revalidation = self.multiplexer.revalidation.clone();
        let links = self.multiplexer.links.clone();
        self.multiplexer.stats.link_opened();
        let mut link = Box::new(self.link(id, parts, serving, counted, mailbox));
        let running = async move {
            match opening.await {
                Ok(socket) => link.socket = Some(socket),
                Err(error) => return debug!("a link's connection ended before it was upgraded: {error}"),
            }
            let watch = revalidation.map(|revalidation| tokio::spawn(revalidation.watch(links, id)));
            let _watch = watch.map(AbortOnDropHandle::new);
            link.run(first).await;
            // The server waits for it until here.
            drop(awaited);
        };
        tokio::spawn(running.instrument(info_span!("link", id)));
    }

    /// Returns a link that has no connection yet.
    fn link(
        &self,
        id: u64,
        parts: Parts,
        serving: Option<Serving>,
        counted: Counted,
        mailbox: Mailbox,
    ) -> Link {
        let Multiplexer { settings, limits, stats, links, .. } = &self.multiplexer;
        let has_tls = parts.extensions.get() == Some(&Scheme::HTTPS);
        let Handshake { parts, dispatcher, held } = self.handshake(parts);
        let (registered, ended) = links.register(id, Arc::clone(&parts));
        let departure = Departure::new(
            self.multiplexer.shutdown.clone(),
            serving.map(|serving| serving.shutdown),
            ended,
            self.multiplexer.drain,
            stats.clone(),
        );
        Link {
            socket: None,
            head: held,
            has_tls,
            handshake: parts,
            mailbox,
            resume_rules: self.multiplexer.resume_rules.clone(),
            endpoint: self.endpoint(*settings),
            dispatcher,
            scope: self.multiplexer.scope.clone(),
            path: Arc::clone(&self.multiplexer.path),
            limits: *limits,
            max_message: settings.max_message,
            stats: stats.clone(),
            _counted: counted,
            departure,
            registered,
            tickets: self.multiplexer.tickets.of_link(id),
            started: Instant::now(),
        }
    }

    fn endpoint(&self, settings: Settings) -> Endpoint {
        let resume_timeout =
            Millis::try_from(self.multiplexer.resume_timeout.as_millis()).unwrap_or(Millis::MAX);
        let mut endpoint = Endpoint::new(Side::Server, settings.resume_timeout(resume_timeout), 0);
        if let Some(token) = new_token() {
            endpoint.allow_resumption(token);
        }
        endpoint
    }

    /// Hands a connection to the link that it resumes.
    async fn resume<O>(self: Arc<Self>, mut parts: Parts, opening: O, guard: UnclaimedGuard)
    where
        O: Future<Output = hyper::Result<Connection>>,
    {
        let multiplexer = &self.multiplexer;
        parts.extensions.remove::<Serving>();
        let Handshake { parts, dispatcher, held } = self.handshake(parts);
        let read = guard.wait(async {
            match opening.await {
                Ok(connection) => read_resume(connection, self.max_size()).await,
                Err(error) => {
                    debug!("a connection ended before it was upgraded: {error}");
                    None
                }
            }
        });
        let Some((socket, resume)) = read.await else { return };
        let Some(link) = multiplexer.resumptions.find(&resume.token) else {
            debug!("a connection resumes a link that is not known");
            return resumptions::refuse(socket).await;
        };
        if let Some(revalidation) = &multiplexer.revalidation
            && let Err(close) = revalidation.check(Arc::clone(&parts)).await
        {
            debug!("a link is not resumed: {}", close.reason);
            return resumptions::refuse(socket).await;
        }
        let claim = Claim::Resume(resume);
        let arrival = Box::new(Arrival { socket, claim, handshake: parts, dispatcher, head: held });
        // A refusal would end the link at its client, so the connection waits while others do that have been lost meanwhile.
        if let Err(mpsc::error::SendError(arrival)) = link.send(arrival).await {
            debug!("a connection resumes a link that has ended");
            resumptions::refuse(arrival.socket).await;
        }
    }

    fn handshake(&self, mut parts: Parts) -> Handshake {
        let Multiplexer { inherited, inherit_extensions, .. } = &self.multiplexer;
        head::compact(&mut parts);
        let dispatcher = Dispatcher::new(self.app.clone(), &parts, inherited, inherit_extensions);
        let held = head::held(&parts) + dispatcher.held();
        Handshake { parts: Arc::new(parts), dispatcher: Arc::new(dispatcher), held }
    }

    /// Returns the largest physical message. The largest content is a message in one piece, or a batch. Text counts in UTF-16
    /// code units, each of at most three bytes.
    fn max_size(&self) -> usize {
        3 * self.multiplexer.settings.max_fragment as usize + BATCH_OVERHEAD
    }
}

fn check_subprotocol(offer: WebSocketUpgrade) -> Result<(), Refusal> {
    if offer.protocols([SUBPROTOCOL]).selected_protocol().is_some() {
        return Ok(());
    }
    let why = format!(
        "the subprotocol {SUBPROTOCOL} is not offered: this URL is a multiplexer's, not a WebSocket's"
    );
    Err(Refusal::new(StatusCode::BAD_REQUEST, why))
}

/// Returns the value of a parameter of a query, which is not percent-decoded (docs/protocol.md §3).
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = query.split('&').filter_map(|part| part.split_once('='));
    parameters.find(|(other, _)| *other == name).map(|(_, value)| value)
}
