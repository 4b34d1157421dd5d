//! Serves a multiplexer's metrics for Prometheus, and its health.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::access::host::Host;
use crate::access::{as_declared, plain};
use crate::metrics::stats::{OPEN_LATENCY_BUCKETS, Stats, Totals};

/// The media type of the metrics (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns a router with `/metrics`, the metrics of a multiplexer for Prometheus, and `/healthz`: 200, or 503 once
/// `shutdown` is cancelled. Serve it on a listener that only monitoring reaches: the metrics reveal the users' activity.
///
/// `/metrics` accepts only values of `Host` that no page of another site can make its browser send: an address, a name
/// without a dot, one below `localhost`, `local` or `internal`, or one of `hosts`. A site whose name an attacker
/// points here (DNS rebinding) gets 421.
///
/// ```no_run
/// use manysocket_server::{Multiplexer, metrics_router, serve};
/// use tokio_util::sync::CancellationToken;
///
/// # async fn run() -> std::io::Result<()> {
/// let shutdown = CancellationToken::new();
/// let multiplexer = Multiplexer::new("/multiplexer");
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9090").await?;
/// // Its server has no shutdown: monitoring also answers while the other server drains.
/// let metrics = metrics_router(multiplexer.stats(), shutdown, ["metrics.example.com".into()]);
/// tokio::spawn(serve(listener, metrics).into_future());
/// # Ok(())
/// # }
/// ```
pub fn metrics_router(
    stats: Stats,
    shutdown: CancellationToken,
    hosts: impl IntoIterator<Item = String>,
) -> Router {
    let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect::<Arc<[_]>>();
    let metrics = async move |headers: HeaderMap| {
        if !is_of_monitoring(&headers, &hosts) {
            let why = "this host is not one that monitoring uses: name it with --metrics-host, or as a host of metrics_router()";
            return plain(StatusCode::MISDIRECTED_REQUEST, why);
        }
        match encode(stats.clone()) {
            Ok(text) => as_declared(([(header::CONTENT_TYPE, OPEN_METRICS)], text)),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    };
    let health = async move || {
        if shutdown.is_cancelled() {
            plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down")
        } else {
            plain(StatusCode::OK, "serving")
        }
    };
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(health))
}

/// Name suffixes that do not exist on the internet (RFC 6761, RFC 6762; ICANN reserves `internal`).
const PRIVATE_NAMES: [&str; 3] = [".localhost", ".local", ".internal"];

/// Returns whether a request is for a host that monitoring uses. Browsers always send `Host`.
fn is_of_monitoring(headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut given = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        return !headers.contains_key(header::HOST);
    };
    let Some(host) = host.to_str().ok().and_then(Host::parse) else { return false };
    let name = host.name().trim_end_matches('.');
    host.is_address()
        || !name.contains('.')
        || PRIVATE_NAMES.iter().any(|private| name.ends_with(private))
        || hosts.iter().any(|other| other == name)
}

fn encode(stats: Stats) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("manysocket");
    registry.register_collector(Box::new(Figures(stats)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Figures(Stats);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Totals {
            links_opened,
            links_resumed,
            links_refused,
            http_refused,
            links_closed,
            channels_opened,
            channels_refused,
            received,
            sent,
            limits_crossed,
            open_latency,
            open_latency_sum,
        } = self.0.totals();
        for (name, help, value) in [
            ("links", "Links that are open", self.0.links()),
            ("links_parked", "Links that wait to be resumed", self.0.parked()),
            ("http_streams", "HTTP carriers that stream", self.0.http_streams()),
            ("http_polls", "HTTP carriers whose clients poll", self.0.http_polls()),
            ("channels", "Virtual sockets whose handlers have not finished", self.0.channels()),
            ("memory_bytes", "Bytes held for links", self.0.memory()),
            ("topics_memory_bytes", "Bytes held for topics", self.0.topic_memory()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, value) in [
            ("links_opened", "Physical connections that became links", links_opened),
            ("links_resumed", "Links that another connection has resumed", links_resumed),
            ("channels_opened", "Virtual opens that were accepted", channels_opened),
            ("messages_received", "Messages that pages have sent", received.messages),
            ("bytes_received", "Bytes of messages that pages have sent", received.bytes),
            ("messages_sent", "Messages that handlers have sent", sent.messages),
            ("bytes_sent", "Bytes of messages that handlers have sent", sent.bytes),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let by_status = |(status, count): (u16, u64)| (vec![("status", status.to_string())], count);
        for (name, help, counts) in [
            (
                "links_refused",
                "Physical handshakes refused",
                links_refused.into_iter().map(by_status).collect(),
            ),
            (
                "http_refused",
                "Requests of HTTP carriers refused",
                http_refused.into_iter().map(by_status).collect(),
            ),
            (
                "channels_refused",
                "Virtual opens refused",
                channels_refused.into_iter().map(by_status).collect(),
            ),
            (
                "links_closed",
                "Links that have ended",
                links_closed
                    .into_iter()
                    .map(|((code, reason), count)| {
                        (vec![("code", code.to_string()), ("reason", reason.to_owned())], count)
                    })
                    .collect(),
            ),
            (
                "limits_crossed",
                "Limits that were crossed",
                limits_crossed
                    .into_iter()
                    .map(|(limit, count)| (vec![("limit", limit.to_owned())], count))
                    .collect::<Vec<_>>(),
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, count) in counts {
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let ends = OPEN_LATENCY_BUCKETS.into_iter().chain([f64::INFINITY]);
        let buckets = ends.zip(open_latency).collect::<Vec<_>>();
        encoder
            .encode_descriptor(
                "open_seconds",
                "Time that the application took to answer virtual opens",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(
                open_latency_sum.as_secs_f64(),
                open_latency.iter().sum(),
                &buckets,
                None,
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_hosts_that_no_other_site_can_have() {
        let hosts = ["metrics.example.com".to_owned()];
        for (given, expected) in [
            (&["127.0.0.1:9090"][..], true),
            (&["[::1]:9090"], true),
            (&["10.1.2.3"], true),
            (&["localhost:9090"], true),
            (&["LOCALHOST."], true),
            (&["app.localhost"], true),
            (&["manysocket:9090"], true),
            (&["node.internal"], true),
            (&["metrics.example.com:9090"], true),
            (&["Metrics.Example.com."], true),
            // Every browser sends `Host`.
            (&[], true),
            (&["rebound.evil.example:9090"], false),
            (&["example.com"], false),
            (&["evil.metrics.example.com"], false),
            (&["127.0.0.1.evil.example"], false),
            (&["localhost.evil.example"], false),
            (&["evillocal.example"], false),
            (&[""], false),
            (&["a b"], false),
            (&["localhost", "evil.example"], false),
        ] {
            let mut headers = HeaderMap::new();
            for host in given {
                headers.append(header::HOST, host.parse().expect("a value"));
            }
            assert_eq!(is_of_monitoring(&headers, &hosts), expected, "{given:?}");
        }
    }
}
