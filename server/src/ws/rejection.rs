//! Why a request cannot become a WebSocket.

use std::error::Error;
use std::fmt;

use axum::extract::ws::rejection::WebSocketUpgradeRejection as Axums;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::access::plain;

/// The rejection of [`WebSocketUpgrade`](crate::WebSocketUpgrade), with a variant for each reason that axum's own extractor
/// has. A virtual open is never rejected.
///
/// ```
/// use axum::Json;
/// use axum::response::{IntoResponse, Response};
/// use manysocket_server::{WebSocketUpgrade, WebSocketUpgradeRejection};
/// use serde_json::json;
///
/// async fn echo(upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Response {
///     match upgrade {
///         Ok(upgrade) => upgrade.on_upgrade(async |socket| drop(socket)),
///         Err(rejection) => (rejection.status(), Json(json!({ "error": rejection.to_string() }))).into_response(),
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebSocketUpgradeRejection {
    /// The method is not GET.
    MethodNotGet,
    /// The method is not CONNECT, over HTTP/2.
    MethodNotConnect,
    /// The header `Connection` does not contain `upgrade`.
    InvalidConnectionHeader,
    /// The header `Upgrade` does not contain `websocket`.
    InvalidUpgradeHeader,
    /// The pseudo-header `:protocol` is not `websocket`, over HTTP/2.
    InvalidProtocolPseudoheader,
    /// The header `Sec-WebSocket-Version` is not 13.
    InvalidWebSocketVersionHeader,
    /// The header `Sec-WebSocket-Key` is missing.
    WebSocketKeyHeaderMissing,
    /// The server cannot upgrade the connection, for example because the request is HTTP/1.0.
    ConnectionNotUpgradable,
}

impl WebSocketUpgradeRejection {
    /// Returns the status of the response: 405 for a wrong method, 426 if the server cannot upgrade the connection, and
    /// 400 for a wrong header.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MethodNotGet | Self::MethodNotConnect => StatusCode::METHOD_NOT_ALLOWED,
            Self::InvalidConnectionHeader
            | Self::InvalidUpgradeHeader
            | Self::InvalidProtocolPseudoheader
            | Self::InvalidWebSocketVersionHeader
            | Self::WebSocketKeyHeaderMissing => StatusCode::BAD_REQUEST,
            Self::ConnectionNotUpgradable => StatusCode::UPGRADE_REQUIRED,
        }
    }
}

impl From<Axums> for WebSocketUpgradeRejection {
    fn from(rejection: Axums) -> Self {
        match rejection {
            Axums::MethodNotGet(_) => Self::MethodNotGet,
            Axums::MethodNotConnect(_) => Self::MethodNotConnect,
            Axums::InvalidConnectionHeader(_) => Self::InvalidConnectionHeader,
            Axums::InvalidUpgradeHeader(_) => Self::InvalidUpgradeHeader,
            Axums::InvalidProtocolPseudoheader(_) => Self::InvalidProtocolPseudoheader,
            Axums::InvalidWebSocketVersionHeader(_) => Self::InvalidWebSocketVersionHeader,
            Axums::WebSocketKeyHeaderMissing(_) => Self::WebSocketKeyHeaderMissing,
            // axum may add reasons.
            _ => Self::ConnectionNotUpgradable,
        }
    }
}

impl fmt::Display for WebSocketUpgradeRejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::MethodNotGet => "the method of a WebSocket handshake is GET",
            Self::MethodNotConnect => "the method of a WebSocket handshake over HTTP/2 is CONNECT",
            Self::InvalidConnectionHeader => "the header Connection does not contain `upgrade`",
            Self::InvalidUpgradeHeader => "the header Upgrade does not contain `websocket`",
            Self::InvalidProtocolPseudoheader => "the pseudo-header :protocol is not `websocket`",
            Self::InvalidWebSocketVersionHeader => "the header Sec-WebSocket-Version is not 13",
            Self::WebSocketKeyHeaderMissing => "the header Sec-WebSocket-Key is missing",
            Self::ConnectionNotUpgradable => "the server cannot upgrade this connection",
        })
    }
}

impl Error for WebSocketUpgradeRejection {}

impl IntoResponse for WebSocketUpgradeRejection {
    fn into_response(self) -> Response {
        plain(self.status(), &self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::FromRequestParts;
    use axum::http::Request;

    use super::*;
    use crate::ws::upgrade::WebSocketUpgrade;

    const HANDSHAKE: [(&str, &str); 4] = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];

    #[tokio::test]
    async fn each_wrong_part_of_a_handshake_has_a_variant() {
        use WebSocketUpgradeRejection as Rejection;
        for (method, without, expected, status) in [
            ("POST", "", Rejection::MethodNotGet, 405),
            ("GET", "connection", Rejection::InvalidConnectionHeader, 400),
            ("GET", "upgrade", Rejection::InvalidUpgradeHeader, 400),
            ("GET", "sec-websocket-version", Rejection::InvalidWebSocketVersionHeader, 400),
            ("GET", "sec-websocket-key", Rejection::WebSocketKeyHeaderMissing, 400),
            ("GET", "", Rejection::ConnectionNotUpgradable, 426),
        ] {
            let mut request = Request::builder().method(method).uri("/");
            for (name, value) in HANDSHAKE.into_iter().filter(|(name, _)| *name != without) {
                request = request.header(name, value);
            }
            let (mut parts, _) = request.body(Body::empty()).expect("a request").into_parts();
            let rejection =
                WebSocketUpgrade::from_request_parts(&mut parts, &()).await.expect_err("rejected");
            assert_eq!(rejection, expected);
            let response = rejection.into_response();
            assert_eq!(response.status(), status, "{rejection}");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        }
    }
}
