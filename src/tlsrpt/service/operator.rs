//! `report preview` and `report send`.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::make::Making;
use super::{Inner, ReportService};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::tlsrpt::aggregate::Identity;
use crate::tlsrpt::day::Day;
use crate::tlsrpt::{DayCounters, ListedReport, ReportFilter, ReportState, ReportStoreError, aggregate};

/// What `report preview` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The JSON text of each report, in the order of the domains.
    pub reports: Vec<String>,
    /// There are more than [`Preview::LIMIT`]: name a domain.
    pub more: bool,
}

impl Preview {
    /// The most reports of one preview.
    pub const LIMIT: usize = 1000;

    /// Adds the report about what was counted; `until`: the end of a day that is not over.
    ///
    /// # Errors
    /// It cannot be written: in words.
    pub fn add(
        &mut self,
        counted: &DayCounters,
        identity: &Identity,
        until: Option<Timestamp>,
    ) -> Result<(), String> {
        let report = aggregate::report(counted, identity, until, rand::random());
        self.reports.push(serde_json::to_string(&report).map_err(|e| e.to_string())?);
        Ok(())
    }
}

/// What `report send` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendSummary {
    /// The day asked for.
    pub day: Day,
    /// Reports that go out now, in the order of the domains.
    pub sent: Vec<SentReport>,
    /// Domains whose report does not, and why.
    pub refused: Vec<RefusedReport>,
}

/// A report that `report send` put on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentReport {
    /// The report domain.
    pub domain: Domain,
    /// The report-id.
    pub report_id: String,
    /// A copy for the running day.
    pub partial: bool,
    /// 0 for the first sending, one more for each `--again`.
    pub run: u32,
    /// Where it goes.
    pub destinations: Vec<String>,
}

/// A report that `report send` did not send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReport {
    /// The report domain.
    pub domain: Domain,
    /// Why, in words.
    pub why: String,
}

/// Why there can be no preview, and what helps.
pub fn without_identity(obstacle: &str) -> String {
    format!("no report can be made: {obstacle}; `sealpost report check` says what is missing")
}

/// Of a day that is over and of which nothing is left to preview: whether it had something, by its reports.
///
/// # Errors
/// It had: what became of it, in words.
pub fn already(day: Day, reports: &[ListedReport]) -> Result<(), String> {
    if reports.iter().any(|r| !r.partial && !r.report_id.is_empty()) {
        return Err(format!(
            "the reports of {day} were made already: `sealpost report list` names them, `sealpost report show ID` shows one"
        ));
    }
    match reports.iter().find(|r| matches!(r.state, ReportState::Unwanted | ReportState::Dropped)) {
        Some(r) => Err(format!(
            "no report of {day} was made: `sealpost report list --day {day}` says why ({}: {})",
            r.domain, r.why
        )),
        None => Ok(()),
    }
}

/// That a day is to come.
pub fn to_come(day: Day, today: Day) -> String {
    format!("{day} has not come yet: today is {today} in UTC")
}

/// Domains of one day that are looked at.
const DOMAINS: usize = 100_000;

impl ReportService {
    /// The reports of `day` (today so far, when `None`) as they would be sent, of one domain or all. Changes nothing.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn preview(&self, day: Option<Day>, domain: Option<Domain>) -> Result<Preview, String> {
        self.inner.preview(day, domain).await
    }

    /// Sends the reports of `day` (today so far, when `None`) now: of a closed day ahead of their moment, or with
    /// `again` once more; of today a copy that marks and deletes nothing, and never `again`.
    ///
    /// # Errors
    /// A sentence for the operator, when nothing of it was done.
    pub async fn send(
        &self,
        day: Option<Day>,
        domain: Option<Domain>,
        again: bool,
    ) -> Result<SendSummary, String> {
        self.inner.send(day, domain, again).await
    }
}

impl Inner {
    /// The day asked for, when it is not to come.
    fn asked(&self, day: Option<Day>) -> Result<(Day, bool), String> {
        let today = Day::of(self.parts.clock.now());
        let day = day.unwrap_or(today);
        if day > today {
            return Err(to_come(day, today));
        }
        Ok((day, day == today))
    }

    async fn domains(&self, day: Day, domain: Option<Domain>, limit: usize) -> Result<Vec<Domain>, String> {
        match domain {
            Some(domain) => Ok(vec![domain]),
            None => self.parts.store.counted(day, None, limit).await.map_err(|e| e.to_string()),
        }
    }

    async fn preview(&self, day: Option<Day>, domain: Option<Domain>) -> Result<Preview, String> {
        let (day, today) = self.asked(day)?;
        let identity = self.settings.identity().map_err(|e| without_identity(&e))?;
        self.fold().await.map_err(|e| e.to_string())?;
        let named = domain.clone();
        let domains = self.domains(day, domain, Preview::LIMIT + 1).await?;
        let mut preview = Preview { reports: Vec::new(), more: domains.len() > Preview::LIMIT };
        for domain in domains.into_iter().take(Preview::LIMIT) {
            let counted = self.parts.store.counters(day, domain.clone()).await;
            let Some(counted) = counted.map_err(|e| format!("{domain}: {e}"))? else { continue };
            let until = today.then(|| self.parts.clock.now());
            preview.add(&counted, &identity, until)?;
        }
        if preview.reports.is_empty() && !today {
            let filter = ReportFilter { id: None, day: Some(day), domain: named };
            let ended = self.parts.store.reports(filter, DOMAINS).await.map_err(|e| e.to_string())?;
            already(day, &ended)?;
        }
        Ok(preview)
    }

    async fn send(
        &self,
        day: Option<Day>,
        domain: Option<Domain>,
        again: bool,
    ) -> Result<SendSummary, String> {
        let (day, today) = self.asked(day)?;
        if !self.settings.enabled {
            return Err("reports are switched off: tls_rpt.enabled is false".to_owned());
        }
        if let Some(obstacle) = self.obstacle() {
            return Err(format!(
                "no report can be sent: {obstacle}; `sealpost report check` says what is missing"
            ));
        }
        if today && again {
            return Err(format!(
                "{day} is not over, so its report was not sent yet and cannot be sent once more: name the --day of an \
                 earlier one, or leave --again away to send a copy of today so far"
            ));
        }
        self.fold().await.map_err(|e| e.to_string())?;
        let answers: Vec<Result<SentReport, RefusedReport>> = if today {
            let domains = self.domains(day, domain, DOMAINS).await?;
            stream::iter(domains)
                .map(|domain| self.send_partial(day, domain))
                .buffer_unordered(self.settings.parallel)
                .try_collect()
                .await
        } else {
            self.send_closed(day, domain, again).await
        }
        .map_err(|e| e.to_string())?;
        let mut summary = SendSummary { day, sent: Vec::new(), refused: Vec::new() };
        for answer in answers {
            match answer {
                Ok(sent) => summary.sent.push(sent),
                Err(refused) => summary.refused.push(refused),
            }
        }
        summary.sent.sort_by(|a, b| a.domain.cmp(&b.domain));
        summary.refused.sort_by(|a, b| a.domain.cmp(&b.domain));
        Ok(summary)
    }

    /// A report of the day so far, beside the one of the closed day (RPT-93).
    async fn send_partial(
        &self,
        day: Day,
        domain: Domain,
    ) -> Result<Result<SentReport, RefusedReport>, ReportStoreError> {
        let refuse = |domain, why| Ok(Err(RefusedReport { domain, why }));
        let counted = match self.parts.store.counters(day, domain.clone()).await {
            Ok(Some(counted)) => counted,
            Ok(None) => return refuse(domain, format!("no session was counted on {day}")),
            Err(error) => return refuse(domain, format!("what was counted cannot be read: {error}")),
        };
        let record = match self.discover(&domain).await {
            Ok(Ok(record)) => record,
            Ok(Err(why)) => return refuse(domain, format!("it asks for no reports: {why}")),
            Err(why) => return refuse(domain, why),
        };
        match self.write(counted, &record, Some(self.parts.clock.now())).await {
            Ok(report) => {
                let (_, report_id, destinations) = self.keep(report).await?;
                Ok(Ok(SentReport { domain, report_id, partial: true, run: 0, destinations }))
            }
            Err(why) => refuse(domain, why),
        }
    }

    async fn send_closed(
        &self,
        day: Day,
        domain: Option<Domain>,
        again: bool,
    ) -> Result<Vec<Result<SentReport, RefusedReport>>, ReportStoreError> {
        let (store, today) = (&self.parts.store, Day::of(self.parts.clock.now()));
        while store.plan(today, self.settings.send_window).await?.more {}
        let filter = ReportFilter { id: None, day: Some(day), domain: domain.clone() };
        let mut known = store.reports(filter, DOMAINS).await?;
        known.retain(|r| !r.partial);
        if let (true, Some(domain)) = (known.is_empty(), domain) {
            let why = format!("no session was counted on {day}, or it is too long ago");
            return Ok(vec![Err(RefusedReport { domain, why })]);
        }
        stream::iter(known)
            .map(|report| self.send_known(report, again))
            .buffer_unordered(self.settings.parallel)
            .try_collect()
            .await
    }

    async fn send_known(
        &self,
        report: ListedReport,
        again: bool,
    ) -> Result<Result<SentReport, RefusedReport>, ReportStoreError> {
        let (day, domain) = (report.day, report.domain.clone());
        let refused = |why| Ok(Err(RefusedReport { domain: report.domain.clone(), why }));
        match report.state {
            ReportState::Due => {
                let Some(planned) = self.parts.store.planned(day, domain.clone()).await? else {
                    return refused("it was made a moment ago".to_owned());
                };
                match self.make(planned).await? {
                    Making::Kept { report_id, destinations } => {
                        Ok(Ok(SentReport { domain, report_id, partial: false, run: 0, destinations }))
                    }
                    Making::Unwanted(why) => refused(format!("it asks for no reports: {why}")),
                    Making::PutOff(why) => refused(format!("not now, it is tried again: {why}")),
                    Making::Gone => refused("it was made a moment ago".to_owned()),
                }
            }
            ReportState::Sending | ReportState::Delivered | ReportState::Failed if again => {
                let now = self.parts.clock.now();
                let run = self.parts.store.again(report.no, now, self.settings.per_receiver).await?;
                self.wake_senders();
                let destinations =
                    report.destinations.into_iter().filter(|d| d.run == 0).map(|d| d.uri).collect();
                let report_id = report.report_id;
                tracing::info!(event = "report-again", %day, report_domain = %domain, report_id, run);
                Ok(Ok(SentReport { domain, report_id, partial: false, run, destinations }))
            }
            ReportState::Sending => refused(format!("its report is under way as {}", report.report_id)),
            ReportState::Delivered | ReportState::Failed => refused(format!(
                "its report was made as {}; --again sends the same once more",
                report.report_id
            )),
            ReportState::Unwanted => {
                refused(format!("it asked for no reports when the day ended: {}", report.why))
            }
            ReportState::Dropped => refused("the day is too long ago: its data is gone".to_owned()),
        }
    }
}
