//! Drains a link: closes its channels with a code within a time limit, and then the link.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The reason for a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server shuts down. Handlers may still send their messages.
    Shutdown,
    /// The application has ended the link. Its page receives and sends nothing more.
    Ended,
}

/// Waits for a reason to drain, and tracks the drain.
#[derive(Debug)]
pub(crate) struct Departure {
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// That of the server which accepted the connection; `None` if it is not [`serve`](crate::serve()).
    server: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The close frame once the application ends the link. `None` once the sender is gone, so that nobody can end the
    /// link any more.
    ended: Option<oneshot::Receiver<CloseFrame>>,
    /// The time for channels to close.
    drain: Duration,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    cause: Cause,
    close: CloseFrame,
    out_of_time: Pin<Box<Sleep>>,
}

impl Departure {
    pub(crate) fn new(
        shutdown: CancellationToken,
        server: Option<CancellationToken>,
        ended: oneshot::Receiver<CloseFrame>,
        drain: Duration,
    ) -> Self {
        let server = server.map(|server| Box::pin(server.cancelled_owned()));
        Self {
            shutdown: Box::pin(shutdown.cancelled_owned()),
            server,
            ended: Some(ended),
            drain,
            begun: None,
        }
    }

    /// Returns whether the drain begins now.
    pub(crate) fn poll_begin(&mut self, cx: &mut Context<'_>) -> bool {
        if self.begun.is_some() {
            return false;
        }
        let Some((cause, close)) = self.poll_cause(cx) else { return false };
        let out_of_time = Box::pin(tokio::time::sleep(self.drain));
        self.begun = Some(Begun { cause, close, out_of_time });
        true
    }

    /// Returns whether the application has ended the link, so that its page receives nothing more.
    pub(crate) fn is_ended(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.cause == Cause::Ended)
    }

    fn poll_cause(&mut self, cx: &mut Context<'_>) -> Option<(Cause, CloseFrame)> {
        if let Some(Poll::Ready(ended)) = self.ended.as_mut().map(|ended| Pin::new(ended).poll(cx)) {
            self.ended = None;
            if let Ok(close) = ended {
                return Some((Cause::Ended, close));
            }
        }
        let close = CloseFrame { code: 1001, reason: "the server is shutting down".into() };
        let is_server_leaving =
            self.server.as_mut().is_some_and(|server| server.as_mut().poll(cx).is_ready());
        let is_leaving = self.shutdown.as_mut().poll(cx).is_ready() || is_server_leaving;
        is_leaving.then_some((Cause::Shutdown, close))
    }

    /// Returns the close frame for channels and link, once the drain has begun.
    pub(crate) fn close(&self) -> Option<&CloseFrame> {
        self.begun.as_ref().map(|begun| &begun.close)
    }

    /// Returns the status and reason with which to refuse opens, once the drain has begun.
    pub(crate) fn refusal(&self) -> Option<(u16, &'static str)> {
        self.begun.as_ref().map(|begun| match begun.cause {
            Cause::Shutdown => (503, "the server is shutting down"),
            Cause::Ended => (401, "the link has been ended"),
        })
    }

    /// Returns whether the time for channels to close is over.
    pub(crate) fn is_out_of_time(&mut self, cx: &mut Context<'_>) -> bool {
        self.begun.as_mut().is_some_and(|begun| begun.out_of_time.as_mut().poll(cx).is_ready())
    }
}
