//! `/metrics`: behind the token on the admin interface, and without one on a listener that serves nothing else but health
//! (`[metrics] listen`).
//!
//! That listener may be reached from other machines, so it shows what a monitoring system has to see, changes nothing, and is
//! bounded like every other: whoever asks more often than once a second gets the last scrape again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::AdminActions;
use super::door::Door;
use super::http::{Limits, deadline, health};

/// The text format of Prometheus.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What there is to scrape.
pub trait Metrics: Send + Sync {
    /// The text of a scrape, made now or a moment ago. Ends soon, whatever the store does.
    fn scrape(&self) -> BoxFuture<'_, Arc<str>>;
}

/// What the listener works on.
pub struct MetricsState {
    /// What there is to scrape.
    pub metrics: Arc<dyn Metrics>,
    /// The running relay, for `/readyz`.
    pub actions: Arc<dyn AdminActions>,
    /// Bounds.
    pub limits: Limits,
}

impl MetricsState {
    /// Bounds that fit: a scrape is made within seconds, and few ask at a time.
    pub const LIMITS: Limits =
        Limits { time: Duration::from_secs(10), body: 0, connections: 16, head: Duration::from_secs(5) };
}

/// Serves until `shutdown` is cancelled, then lets running requests end.
///
/// # Errors
/// Of the listener.
pub async fn serve(
    state: MetricsState,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let door = Door::new(listener, state.limits);
    let routes = Router::new()
        .route("/metrics", get(async |State(metrics): State<Arc<dyn Metrics>>| answer(&*metrics).await))
        .merge(health(state.actions))
        .layer(middleware::from_fn_with_state(state.limits.time, deadline))
        .with_state(state.metrics);
    axum::serve(door, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// One scrape.
pub(super) async fn answer(metrics: &dyn Metrics) -> Response {
    ([(header::CONTENT_TYPE, FORMAT)], metrics.scrape().await.to_string()).into_response()
}
