//! The headers by which proxies name the user, the client's address and the trace: virtual opens inherit them from the handshake of
//! their link.

use std::sync::Arc;

use axum::http::HeaderName;
use axum::http::request::Parts;

/// Headers of the page and its user. A browser writes them itself; a proxy may write `Authorization`.
const OF_THE_PAGE: [&str; 6] = ["host", "origin", "cookie", "authorization", "user-agent", "accept-language"];

/// Headers by which proxies name the user or the client's address.
const NAMES: [&str; 29] = [
    "client-cert",
    "client-cert-chain",
    "do-connecting-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-roles",
    "x-auth-user",
    "x-auth-username",
    "x-client-cert",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-credential-identifier",
    "x-email",
    "x-endpoint-api-userinfo",
    "x-groups",
    "x-id-token",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-real-ip",
    "x-roles",
    "x-ssl-cert",
    "x-user",
    "x-userid",
    "x-userinfo",
    "x-username",
];

/// The beginnings of further such headers, each of a proxy, a login service or a content network.
const FAMILIES: [&str; 35] = [
    "cf-",
    "fly-",
    "oidc-",
    "oidc_",
    "remote-",
    "ssl-client-",
    "tailscale-",
    "x-akamai-",
    "x-amzn-",
    "x-apigateway-",
    "x-appengine-",
    "x-arr-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-azure-",
    "x-client-cert-",
    "x-consumer-",
    "x-envoy-",
    "x-forwarded-",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "x-jwt-",
    "x-ms-client-",
    "x-ms-token-",
    "x-nf-",
    "x-pomerium-",
    "x-remote-",
    "x-ssl-client-",
    "x-token-",
    "x-user-",
    "x-vercel-",
    "x-verified-",
    "x-vouch-",
    "x-webauth-",
];

/// Headers of traces and of numbered requests (among them W3C Trace Context). They decide nothing, so clients may write them.
const TRACES: [&str; 15] = [
    "b3",
    "baggage",
    "correlation-id",
    "elastic-apm-traceparent",
    "grpc-trace-bin",
    "newrelic",
    "request-id",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-request-id",
    "x-trace-id",
];

/// The same for the beginnings of names.
const TRACE_FAMILIES: [&str; 3] = ["x-b3-", "x-datadog-", "x-ot-span-"];

/// The headers that the application names besides the well-known ones. A request's extensions have them for gateways.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited(Arc<[HeaderName]>);

impl Inherited {
    pub(crate) fn add(&mut self, names: impl IntoIterator<Item = HeaderName>) {
        self.0 = self.0.iter().cloned().chain(names).collect();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the headers that the application has named.
    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_default()
    }

    /// Returns whether a virtual open has this header of the handshake.
    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        OF_THE_PAGE.contains(&name.as_str()) || self.is_by_proxy(name) || is_of_trace(name)
    }

    /// Returns whether a proxy says something by this header on which the application may rely.
    pub(crate) fn is_by_proxy(&self, name: &HeaderName) -> bool {
        NAMES.contains(&name.as_str()) || begins_with_one(name, &FAMILIES) || self.0.contains(name)
    }
}

/// Returns whether the header describes a trace or numbers a request.
pub(crate) fn is_of_trace(name: &HeaderName) -> bool {
    TRACES.contains(&name.as_str()) || begins_with_one(name, &TRACE_FAMILIES)
}

fn begins_with_one(name: &HeaderName, families: &[&str]) -> bool {
    families.iter().any(|family| name.as_str().starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_proxies_are_known_by_name_and_by_family() {
        let mut inherited = Inherited::default();
        inherited.add([HeaderName::from_static("x-own")]);
        for name in [
            "cookie",
            "x-user",
            "x-user-id",
            "remote-user",
            "remote-groups",
            "x-auth-request-email",
            "cf-access-jwt-assertion",
            "cf-connecting-ip",
            "x-amzn-oidc-data",
            "x-amzn-trace-id",
            "x-client-cert-subject",
            "x-forwarded-user",
            "x-goog-iap-jwt-assertion",
            "x-ms-client-principal",
            "x-real-ip",
            "forwarded",
            "x-request-id",
            "traceparent",
            "x-b3-traceid",
            "x-own",
        ] {
            assert!(inherited.has(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "connection",
            "upgrade",
            "sec-websocket-key",
            "sec-websocket-extensions",
            "sec-websocket-protocol",
            "content-length",
            "proxy-authorization",
            "x-other",
            "users",
            "accept-encoding",
        ] {
            assert!(!inherited.has(&HeaderName::from_static(name)), "{name}");
        }
        assert!(!Inherited::default().has(&HeaderName::from_static("x-own")));
    }
}
