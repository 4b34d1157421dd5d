//! A multiplexer as monitoring sees it: figures for Prometheus, and whether it serves.

use std::fmt;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::metrics::stats::{ANSWER_BUCKETS, Stats, Totals};

/// What Prometheus is told that the figures are (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A router with `/metrics`, the figures of a multiplexer for Prometheus, and `/healthz`: 200, or 503 once `shutdown`
/// is cancelled. It is for a listener that only monitoring reaches: what users do is nobody else's business.
///
/// ```no_run
/// use manysocket_server::{Multiplexer, monitor, serve};
/// use tokio_util::sync::CancellationToken;
///
/// # async fn run() -> std::io::Result<()> {
/// let shutdown = CancellationToken::new();
/// let multiplexer = Multiplexer::new("/multiplexer").shutdown(shutdown.clone());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9090").await?;
/// // It is to answer while the server drains, too.
/// tokio::spawn(serve(listener, monitor(multiplexer.stats(), shutdown), CancellationToken::new()));
/// # Ok(())
/// # }
/// ```
pub fn monitor(stats: Stats, shutdown: CancellationToken) -> Router {
    let metrics = async move || match encode(stats.clone()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    };
    let health = async move || {
        if shutdown.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
        } else {
            (StatusCode::OK, "serving\n")
        }
    };
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(health))
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
            links_refused,
            links_closed,
            channels_opened,
            channels_refused,
            received,
            sent,
            limits_crossed,
            answered,
            answering,
        } = self.0.totals();
        for (name, help, value) in [
            ("links", "Links that are open", self.0.links()),
            ("channels", "Virtual sockets whose handlers have not finished", self.0.channels()),
            ("memory_bytes", "Bytes held for links", self.0.memory()),
            ("topics_memory_bytes", "Bytes held for topics", self.0.topic_memory()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, value) in [
            ("links_opened", "Physical connections that became links", links_opened),
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
        let ends = ANSWER_BUCKETS.into_iter().chain([f64::INFINITY]);
        let buckets = ends.zip(answered).collect::<Vec<_>>();
        encoder
            .encode_descriptor(
                "open_seconds",
                "How long the application took to answer virtual opens",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(answering.as_secs_f64(), answered.iter().sum(), &buckets, None)
    }
}
