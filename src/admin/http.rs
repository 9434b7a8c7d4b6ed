//! The HTTP side of the admin interface.
//!
//! `/healthz` and `/readyz` are open; `/v1/…` wants the bearer token and is deaf to browsers: a request with
//! an `Origin`, or for a host name that is not this machine, is refused, so that no web page (not even by
//! DNS rebinding) can drive the queue. Bodies and times are bounded.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::metrics::{self, Metrics};
use super::reports::{self, Reports};
use super::{AdminActions, view};
use crate::clock::Clock;
use crate::config::Secret;
use crate::mail::{Domain, QueueId};
use crate::mtasts::PolicyStore;
use crate::queue::{Filter, QueueStore, RecipientState};
use crate::status::{Overview, Status};

/// The most rows that are shown.
pub const MAX_ROWS: usize = 10_000;

/// The most rows of one answer: one more, from which the asker learns that there are more.
pub(super) const MOST: usize = MAX_ROWS + 1;

/// What the routes work on.
#[derive(Clone)]
pub struct AdminState {
    /// The queue.
    pub queue: Arc<dyn QueueStore>,
    /// The policy cache.
    pub policies: Arc<dyn PolicyStore>,
    /// The TLS reports.
    pub reports: Arc<dyn Reports>,
    /// All of it at one glance.
    pub overview: Arc<dyn Overview>,
    /// The running relay.
    pub actions: Arc<dyn AdminActions>,
    /// What there is to scrape.
    pub metrics: Arc<dyn Metrics>,
    /// The bearer token.
    pub token: Secret,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// `queue.max_age`, for the time of expiry.
    pub max_age: Duration,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the request's head to the end of the handler. Longer than a policy fetch may take.
    pub time: Duration,
    /// Octets of a body.
    pub body: usize,
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// For the request's head, and once more for the answer on its way.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(90),
            body: 256 * 1024,
            connections: 64,
            head: Duration::from_secs(10),
        }
    }
}

/// Serves until `shutdown` is cancelled, then lets running requests end.
///
/// # Errors
/// Of the listener.
pub async fn serve(
    state: AdminState,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let door = Door::new(listener, state.limits);
    axum::serve(door, router(state)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// All routes.
pub fn router(state: AdminState) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(async |State(s): State<AdminState>| metrics::answer(&*s.metrics).await))
        .route("/v1/status", get(status))
        .route("/v1/queue", get(queue_list))
        .route("/v1/queue/retry", post(queue_retry))
        .route("/v1/queue/{id}", get(queue_show))
        .route("/v1/policies", get(policy_list))
        .route("/v1/policies/{domain}", get(policy_show))
        .route("/v1/policies/{domain}/refresh", post(policy_refresh))
        .merge(reports::routes())
        .route_layer(middleware::from_fn_with_state(state.clone(), guard));
    Router::new()
        .merge(guarded)
        .merge(health(Arc::clone(&state.actions)))
        .layer(DefaultBodyLimit::max(state.limits.body))
        .layer(middleware::from_fn_with_state(state.limits.time, deadline))
        .with_state(state)
}

/// The routes that are open to everybody.
pub(super) fn health<S: Clone + Send + Sync + 'static>(actions: Arc<dyn AdminActions>) -> Router<S> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).with_state(actions)
}

/// An error as the interface gives it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Problem {
    /// In words, for people.
    pub error: String,
}

pub(super) fn problem(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(Problem { error: error.into() })).into_response()
}

pub(super) fn broken(error: impl ToString) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// Ends what takes longer than `time`.
pub(super) async fn deadline(State(time): State<Duration>, request: Request, next: Next) -> Response {
    let mut response = tokio::time::timeout(time, next.run(request))
        .await
        .unwrap_or_else(|_| problem(StatusCode::GATEWAY_TIMEOUT, "this takes too long; see the log"));
    // One request per connection: what the door bounds is then a request.
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

async fn guard(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) || !for_this_machine(headers) {
        return problem(StatusCode::FORBIDDEN, "not for browsers, and only under an address of this machine");
    }
    if !has_token(headers, &state.token) {
        let mut response = problem(StatusCode::UNAUTHORIZED, "the bearer token of [admin].token is needed");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return response;
    }
    next.run(request).await
}

/// Whether the Host field is an IP address or `localhost`: a name under somebody else's control never is.
fn for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Compares in constant time.
fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|h| h.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    !token.expose().is_empty()
        && aws_lc_rs::constant_time::verify_slices_are_equal(given, token.expose().as_bytes()).is_ok()
}

async fn ready(State(actions): State<Arc<dyn AdminActions>>) -> Response {
    let readiness = actions.readiness();
    let status = if readiness.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn status(State(state): State<AdminState>) -> Json<Status> {
    let now = state.clock.now();
    let stored = state.overview.overview(now).await.map_err(|e| e.to_string());
    let (place, running) = state.actions.standing(now);
    Json(Status::new(now, place, Ok(running), stored))
}

/// The query of `/v1/queue`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListQuery {
    /// As [`Filter::ids`], joined by commas.
    pub ids: Option<String>,
    /// As [`Filter::domain`].
    pub domain: Option<Domain>,
    /// As [`Filter::state`].
    pub state: Option<RecipientState>,
    /// As [`Filter::sender`].
    pub sender: Option<String>,
    /// As [`Filter::cause`].
    pub cause: Option<String>,
    /// As [`Filter::recipient`].
    pub recipient: Option<String>,
    /// At most so many rows.
    pub limit: Option<usize>,
}

async fn queue_list(State(state): State<AdminState>, Query(q): Query<ListQuery>) -> Response {
    let limit = q.limit.unwrap_or(MAX_ROWS).min(MOST);
    let ids = q.ids.iter().flat_map(|list| list.split(',')).map(str::parse).collect::<Result<_, _>>();
    let Ok(ids) = ids else {
        return problem(StatusCode::BAD_REQUEST, crate::mail::message::BadQueueId.to_string());
    };
    let filter = Filter {
        ids,
        recipient: q.recipient,
        domain: q.domain,
        state: q.state,
        sender: q.sender,
        cause: q.cause,
    };
    match state.queue.list(filter, limit).await {
        Ok(rows) => {
            Json(rows.iter().map(|r| view::Row::new(r, state.max_age)).collect::<Vec<_>>()).into_response()
        }
        Err(e) => broken(e),
    }
}

async fn queue_show(State(state): State<AdminState>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<QueueId>() else {
        return problem(StatusCode::BAD_REQUEST, crate::mail::message::BadQueueId.to_string());
    };
    match state.queue.show(id).await {
        Ok(Some(m)) => Json(view::Message::new(&m, state.max_age)).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, format!("no message {id} in queue or history")),
        Err(e) => broken(e),
    }
}

/// The body of `/v1/queue/retry`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// Which recipients.
    pub filter: Filter,
    /// Must be true for a filter that selects everything.
    #[serde(default)]
    pub all: bool,
}

async fn queue_retry(State(state): State<AdminState>, Json(request): Json<RetryRequest>) -> Response {
    let RetryRequest { filter, all } = request;
    if filter == Filter::default() && !all {
        return problem(StatusCode::BAD_REQUEST, "the filter selects everything, and \"all\" is not true");
    }
    let flying = Filter { state: Some(RecipientState::Delivering), ..filter.clone() };
    let flying = match state.queue.list(flying, 100).await {
        Ok(rows) => rows.iter().map(|r| view::Row::new(r, state.max_age)).collect(),
        Err(e) => return broken(e),
    };
    match state.queue.retry(filter.clone()).await {
        Ok(touched) => {
            state.actions.retried(&filter);
            Json(view::Retried { touched, flying }).into_response()
        }
        Err(e) => broken(e),
    }
}

/// The query of `/v1/policies`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PolicyQuery {
    after: Option<Domain>,
    limit: Option<usize>,
}

async fn policy_list(State(state): State<AdminState>, Query(q): Query<PolicyQuery>) -> Response {
    let list = state.policies.list(q.after, q.limit.unwrap_or(MAX_ROWS).min(MOST)).await;
    match (list, state.policies.failing().await) {
        (Ok(list), Ok(failing)) => Json(view::Policy::list(&list, &failing)).into_response(),
        (Err(e), _) | (_, Err(e)) => broken(e),
    }
}

async fn policy_show(State(state): State<AdminState>, Path(domain): Path<String>) -> Response {
    let Ok(domain) = Domain::parse(&domain) else {
        return problem(StatusCode::BAD_REQUEST, "not a domain");
    };
    let row = match state.policies.load(&domain).await {
        Ok(row) => row,
        Err(e) => return broken(e),
    };
    match state.policies.history(&domain).await {
        Ok(history) => match view::PolicyDetail::new(&domain, row, history) {
            Some(detail) => Json(detail).into_response(),
            None => problem(StatusCode::NOT_FOUND, format!("nothing is known about a policy of {domain}")),
        },
        Err(e) => broken(e),
    }
}

async fn policy_refresh(State(state): State<AdminState>, Path(domain): Path<String>) -> Response {
    let Ok(domain) = Domain::parse(&domain) else {
        return problem(StatusCode::BAD_REQUEST, "not a domain");
    };
    match state.actions.refresh(domain).await {
        Ok(policy) => Json(view::Policy::from(&policy)).into_response(),
        Err(e) => problem(StatusCode::BAD_GATEWAY, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = Secret::new("abc");
        for (value, want) in [
            ("Bearer abc", true),
            ("Bearer ab", false),
            ("Bearer abcd", false),
            ("Bearer ", false),
            ("bearer abc", false),
            ("Basic abc", false),
        ] {
            assert_eq!(has_token(&headers(header::AUTHORIZATION, value), &token), want, "{value}");
        }
        assert!(!has_token(&HeaderMap::new(), &token));
        assert!(!has_token(&headers(header::AUTHORIZATION, "Bearer "), &Secret::new("")));
    }

    #[test]
    fn a_name_that_a_stranger_may_own_is_not_this_machine() {
        for (host, want) in [
            ("127.0.0.1:8025", true),
            ("[::1]:8025", true),
            ("localhost", true),
            ("rebind.example:8025", false),
            ("127.0.0.1.rebind.example", false),
            ("localhost.rebind.example", false),
            ("", false),
        ] {
            assert_eq!(for_this_machine(&headers(header::HOST, host)), want, "{host}");
        }
        assert!(!for_this_machine(&HeaderMap::new()));
    }
}
