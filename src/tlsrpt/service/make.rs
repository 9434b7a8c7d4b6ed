//! From counters to reports that are kept.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::metrics::Became;
use super::{Inner, Left, PAGE, Round, line};
use crate::clock::Timestamp;
use crate::dns::Data;
use crate::mail::Domain;
use crate::observe::fields::shown_text;
use crate::tlsrpt::day::Day;
use crate::tlsrpt::record::{self, NoRecord, Rua, TlsRptRecord};
use crate::tlsrpt::report::{PackError, Packed};
use crate::tlsrpt::{
    DayCounters, DestinationState, Kept, NewDestination, NewReport, PlannedReport, ReportNo,
    ReportStoreError, Way, aggregate,
};

/// A report that cannot be made now is looked at again at least so often.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(3600);
/// How often a report is made anew because more was counted meanwhile.
const ANEW: usize = 5;

/// What became of a planned report.
pub(super) enum Making {
    /// It is kept.
    Kept { report_id: String, destinations: Vec<String> },
    /// The domain asks for none.
    Unwanted(String),
    /// It waits; nothing was lost.
    PutOff(String),
    /// Somebody else was quicker.
    Gone,
}

impl Inner {
    /// Counts, drops what is too old, plans the days that have ended, and makes what is due.
    pub(super) async fn make_round(&self) -> Round {
        let made = self.make_all().await;
        if made.is_ok() {
            self.store_works();
        }
        match made {
            Ok(true) => Ok(()),
            Ok(false) => Err(Left::Obstacle),
            Err(error) => Err(self.store_failed(&error)),
        }
    }

    /// `false` when something keeps all that is due from being made.
    async fn make_all(&self) -> Result<bool, ReportStoreError> {
        let store = &self.parts.store;
        self.fold().await?;
        if self.in_doubt() {
            return Ok(false);
        }
        let today = Day::of(self.parts.clock.now());
        self.drop_old(today).await?;
        self.purge(today).await?;
        if !self.settings.enabled {
            return Ok(true);
        }
        while store.plan(today, self.settings.send_window).await?.more {}
        if let Some(obstacle) = self.obstacle() {
            if !store.due_reports(self.parts.clock.now(), 1).await?.is_empty() {
                self.warn_of(&obstacle, today);
            }
            return Ok(false);
        }
        loop {
            let due = store.due_reports(self.parts.clock.now(), PAGE).await?;
            let last = due.len() < PAGE;
            stream::iter(due)
                .map(|planned| async move { self.make(planned).await.map(|_| ()) })
                .buffer_unordered(self.settings.parallel)
                .try_collect::<()>()
                .await?;
            if last {
                return Ok(true);
            }
        }
    }

    /// Counts all that came in.
    pub(super) async fn fold(&self) -> Result<(), ReportStoreError> {
        while self.parts.store.fold().await? {}
        Ok(())
    }

    async fn drop_old(&self, today: Day) -> Result<(), ReportStoreError> {
        loop {
            let dropped = self.parts.store.drop_old(self.oldest(today)).await?;
            let obstacle = self.obstacle();
            let reason = obstacle.as_deref().unwrap_or("it could not be made in time");
            for (day, domain, why) in dropped.days.iter().filter(|_| self.settings.enabled) {
                let why = Some(why.as_str()).filter(|w| !w.is_empty()).unwrap_or(reason);
                self.settings.metrics.reports.count(Became::Dropped);
                if obstacle.is_some() {
                    // Of which every day has warned already.
                    tracing::info!(event = "report-dropped", %day, report_domain = %domain, report_id = "", destination = "", reply = %shown_text(why));
                    continue;
                }
                tracing::warn!(event = "report-dropped", %day, report_domain = %domain, report_id = "", destination = "", reply = %shown_text(why), "a day of sessions was never reported");
            }
            if !dropped.more {
                return Ok(());
            }
        }
    }

    /// Once a day, ended reports that are old enough go.
    async fn purge(&self, today: Day) -> Result<(), ReportStoreError> {
        if self.memory().purged == Some(today) {
            return Ok(());
        }
        while self.parts.store.purge_reports(today.earlier(self.settings.history)).await? {}
        self.memory().purged = Some(today);
        Ok(())
    }

    /// One warning a day about what keeps every report waiting.
    fn warn_of(&self, obstacle: &str, today: Day) {
        if self.memory().warned.replace(today) != Some(today) {
            tracing::warn!(
                event = "reports-wait",
                reason = obstacle,
                "TLS reports wait, each until its data is two days old; write tls_rpt.from and a [[dkim]] entry of its domain, or tls_rpt.enabled = false"
            );
        }
    }

    /// Makes one planned report, due or not.
    pub(super) async fn make(&self, planned: PlannedReport) -> Result<Making, ReportStoreError> {
        let record = match self.discover(&planned.domain).await {
            Ok(Ok(record)) => record,
            Ok(Err(why)) => return self.nobody_asks(planned, &why.to_string()).await,
            Err(why) => return self.put_off(planned, why).await,
        };
        for _ in 0..ANEW {
            let counted = match self.parts.store.counters(planned.day, planned.domain.clone()).await {
                Ok(Some(counted)) => counted,
                // RPT-73
                Ok(None) => return self.nobody_asks(planned, "nothing was counted").await,
                // Other domains do not wait for a damaged row of this one.
                Err(ReportStoreError::Failed(why)) => {
                    return self.put_off(planned, format!("what was counted cannot be read: {why}")).await;
                }
                Err(error) => return Err(error),
            };
            let report = match self.write(counted, &record, None).await {
                Ok(report) => report,
                Err(why) => return self.put_off(planned, why).await,
            };
            match self.keep(report).await {
                Ok((_, report_id, destinations)) => return Ok(Making::Kept { report_id, destinations }),
                Err(ReportStoreError::Unknown) => return Ok(Making::Gone),
                Err(ReportStoreError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        self.put_off(planned, "sessions of its day are still being counted".to_owned()).await
    }

    /// Stores a report, says so, and wakes the sender.
    pub(super) async fn keep(
        &self,
        report: NewReport,
    ) -> Result<(ReportNo, String, Vec<String>), ReportStoreError> {
        let (day, domain, report_id) = (report.day, report.domain.clone(), report.report_id.clone());
        let destinations: Vec<_> = report.destinations.iter().map(|d| d.uri.clone()).collect();
        let Kept { no, over_cap } = self.parts.store.keep(report, self.settings.per_receiver).await?;
        self.settings.metrics.reports.count(Became::Made);
        tracing::info!(event = "report-made", %day, report_domain = %domain, report_id, destination = %shown_text(&destinations.join(",")), reply = "");
        for uri in over_cap {
            let way = if matches!(Rua::parse(&uri), Ok(Rua::Mail { .. })) { Way::Mail } else { Way::Https };
            self.settings.metrics.tried(way, DestinationState::Failed);
            tracing::warn!(event = "report-dropped", %day, report_domain = %domain, report_id, destination = %shown_text(&uri), reply = "its receiver has had its share of the day");
        }
        self.wake_senders();
        Ok((no, report_id, destinations))
    }

    async fn nobody_asks(&self, planned: PlannedReport, why: &str) -> Result<Making, ReportStoreError> {
        let (day, domain) = (planned.day, planned.domain.clone());
        match self.parts.store.unwanted(planned, why.to_owned()).await {
            Ok(()) => {
                self.settings.metrics.reports.count(Became::Unwanted);
                tracing::info!(event = "report-unwanted", %day, report_domain = %domain, report_id = "", destination = "", reply = why);
                Ok(Making::Unwanted(why.to_owned()))
            }
            Err(ReportStoreError::Unknown) => Ok(Making::Gone),
            Err(error) => Err(error),
        }
    }

    /// Keeps everything and looks again later (RPT-09).
    async fn put_off(&self, planned: PlannedReport, why: String) -> Result<Making, ReportStoreError> {
        let until = self.parts.clock.now().after(self.wait(planned.put_off, LONGEST_PUT_OFF));
        self.settings.metrics.reports.count(Became::PutOff);
        tracing::warn!(event = "report-put-off", day = %planned.day, report_domain = %planned.domain, %until, reason = why);
        match self.parts.store.put_off(planned, until, line(&why)).await {
            Ok(()) => Ok(Making::PutOff(why)),
            Err(ReportStoreError::Unknown) => Ok(Making::Gone),
            Err(error) => Err(error),
        }
    }

    /// What the domain asks for; the outer error is temporary, in words.
    pub(super) async fn discover(&self, domain: &Domain) -> Result<Result<TlsRptRecord, NoRecord>, String> {
        let name = domain.with_prefix("_tls").and_then(|d| d.with_prefix("_smtp"));
        let Some(name) = name else { return Ok(Err(NoRecord::Missing)) };
        let txt = match self.parts.resolver.txt(&name).await.map_err(|e| e.to_string())?.data {
            Data::Records(txt) => txt,
            Data::NoData | Data::NxDomain => Vec::new(),
        };
        let found = record::discover(&txt);
        for skipped in found.iter().flat_map(|record| &record.skipped) {
            tracing::warn!(event = "report-destination-skipped", report_domain = %domain, reason = %shown_text(&line(skipped)));
        }
        Ok(found)
    }

    /// Writes the report about what was counted, up to `partial_until` or for the whole day.
    ///
    /// # Errors
    /// What is in the way, in words.
    pub(super) async fn write(
        &self,
        counted: DayCounters,
        record: &TlsRptRecord,
        partial_until: Option<Timestamp>,
    ) -> Result<NewReport, String> {
        let sessions = counted
            .policies
            .iter()
            .fold((0u64, 0u64), |(s, f), p| (s.saturating_add(p.success), f.saturating_add(p.failure)));
        let (day, domain) = (counted.day, counted.domain.clone());
        let identity = self.settings.identity()?;
        let (max, random) = (self.settings.max_packed, rand::random());
        // Compression takes as long as there are rows.
        let packed = tokio::task::spawn_blocking(move || {
            aggregate::report(&counted, &identity, partial_until, random).pack(max)
        });
        let Packed { report_id, file_name, gzip } =
            packed.await.map_err(|e| e.to_string())?.map_err(|e: PackError| e.to_string())?;
        let to = |rua: &Rua| NewDestination {
            uri: rua.uri().to_owned(),
            receiver: rua.receiver().as_str().to_owned(),
        };
        Ok(NewReport {
            day,
            domain,
            report_id,
            file_name,
            packed: gzip,
            partial: partial_until.is_some(),
            sessions,
            made: self.parts.clock.now(),
            destinations: record.destinations.iter().map(to).collect(),
        })
    }
}
