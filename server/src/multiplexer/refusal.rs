//! Why a handshake is refused.

use axum::http::StatusCode;

/// The refusal of a handshake.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The limit that the link would cross.
    pub(super) limit: Option<&'static str>,
    pub(super) why: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, limit: None, why: why.into() }
    }

    pub(super) fn beyond(limit: &'static str, why: String) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, limit: Some(limit), why }
    }
}
