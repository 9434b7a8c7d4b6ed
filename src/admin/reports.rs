//! The routes of TLS reports: what will be sent, what was, and sending now.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::http::{AdminState, MOST, broken, problem};
use crate::mail::Domain;
use crate::tlsrpt::service::{Preview, ReportService, SendSummary};
use crate::tlsrpt::{Day, ListedReport, ReportFilter, ReportNo, ReportStore, ReportStoreError, report};

/// What the admin interface asks of the reports. Errors of operators' commands are sentences for people.
pub trait Reports: Send + Sync {
    /// `report preview`.
    fn preview(&self, day: Option<Day>, domain: Option<Domain>) -> BoxFuture<'_, Result<Preview, String>>;
    /// `report send`.
    fn send(
        &self,
        day: Option<Day>,
        domain: Option<Domain>,
        again: bool,
    ) -> BoxFuture<'_, Result<SendSummary, String>>;
    /// `report list`.
    fn list(
        &self,
        filter: ReportFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ListedReport>, ReportStoreError>>;
    /// The octets of a report as they were sent.
    fn octets(&self, id: ReportNo) -> BoxFuture<'_, Result<Option<Bytes>, ReportStoreError>>;
}

/// The reports of the running relay.
pub struct Desk {
    /// Makes and sends them.
    pub service: ReportService,
    /// Keeps them.
    pub store: Arc<dyn ReportStore>,
}

impl Reports for Desk {
    fn preview(&self, day: Option<Day>, domain: Option<Domain>) -> BoxFuture<'_, Result<Preview, String>> {
        self.service.preview(day, domain).boxed()
    }

    fn send(
        &self,
        day: Option<Day>,
        domain: Option<Domain>,
        again: bool,
    ) -> BoxFuture<'_, Result<SendSummary, String>> {
        self.service.send(day, domain, again).boxed()
    }

    fn list(
        &self,
        filter: ReportFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ListedReport>, ReportStoreError>> {
        self.store.reports(filter, limit)
    }

    fn octets(&self, id: ReportNo) -> BoxFuture<'_, Result<Option<Bytes>, ReportStoreError>> {
        self.store.octets(id)
    }
}

/// The answer of `/v1/reports/preview`: JSON texts, as they would be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previewed {
    /// One text per report.
    pub reports: Vec<String>,
    /// There are more.
    pub more: bool,
}

impl From<Preview> for Previewed {
    fn from(p: Preview) -> Self {
        Self { reports: p.reports, more: p.more }
    }
}

/// The answer of `/v1/reports/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownReport {
    /// Where it stands.
    pub report: ListedReport,
    /// Its JSON text, octet for octet as it was sent; `None` before it is made.
    pub text: Option<String>,
}

impl ShownReport {
    /// From what the store keeps.
    ///
    /// # Errors
    /// The octets are no gzip of a text: in words.
    pub fn new(report: ListedReport, packed: Option<Bytes>) -> Result<Self, String> {
        let text = packed.map(|octets| report::unpack(&octets)).transpose()?;
        Ok(Self { report, text })
    }
}

/// The body of `/v1/reports/send`, and the query of a preview.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportRequest {
    /// The UTC day; today so far when absent.
    pub day: Option<Day>,
    /// One domain; all when absent.
    pub domain: Option<Domain>,
    /// What was sent already is sent once more.
    pub again: bool,
}

/// The query of `/v1/reports`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListQuery {
    id: Option<String>,
    day: Option<Day>,
    domain: Option<Domain>,
    limit: Option<usize>,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/v1/reports", get(list))
        .route("/v1/reports/preview", get(preview))
        .route("/v1/reports/send", post(send))
        .route("/v1/reports/{id}", get(show))
}

async fn list(State(state): State<AdminState>, Query(q): Query<ListQuery>) -> Response {
    let filter = ReportFilter { id: q.id, day: q.day, domain: q.domain };
    match state.reports.list(filter, q.limit.unwrap_or(MOST).min(MOST)).await {
        Ok(list) => Json(list).into_response(),
        Err(e) => broken(e),
    }
}

async fn preview(State(state): State<AdminState>, Query(q): Query<ReportRequest>) -> Response {
    match state.reports.preview(q.day, q.domain).await {
        Ok(preview) => Json(Previewed::from(preview)).into_response(),
        Err(e) => problem(StatusCode::CONFLICT, e),
    }
}

async fn send(State(state): State<AdminState>, Json(r): Json<ReportRequest>) -> Response {
    match state.reports.send(r.day, r.domain, r.again).await {
        Ok(summary) => Json(summary).into_response(),
        Err(e) => problem(StatusCode::CONFLICT, e),
    }
}

async fn show(State(state): State<AdminState>, Path(id): Path<String>) -> Response {
    let filter = ReportFilter { id: Some(id.clone()), ..ReportFilter::default() };
    let report = match state.reports.list(filter, 1).await {
        Ok(list) => list.into_iter().next(),
        Err(e) => return broken(e),
    };
    let Some(report) = report else {
        return problem(StatusCode::NOT_FOUND, format!("no report {id}"));
    };
    match state.reports.octets(report.no).await {
        Ok(octets) => match ShownReport::new(report, octets) {
            Ok(shown) => Json(shown).into_response(),
            Err(e) => broken(e),
        },
        Err(e) => broken(e),
    }
}
