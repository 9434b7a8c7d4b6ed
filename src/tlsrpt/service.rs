//! The day of the reports: plans, makes and sends them (RFC 8460 §4, §5), and what operators ask of it.

use serde::{Deserialize, Serialize};

use super::day::Day;
use crate::mail::Domain;

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
}

/// What `report send` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendSummary {
    /// The day asked for.
    pub day: Day,
    /// Reports that go out now.
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

/// Plans, makes and sends reports. Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct ReportService;

impl ReportService {
    /// The reports of `day` (today so far, when `None`) as they would be sent, of one domain or all. Changes nothing.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn preview(&self, day: Option<Day>, domain: Option<Domain>) -> Result<Preview, String> {
        let _ = (day, domain);
        Err("report preview comes later".to_owned())
    }

    /// Sends the reports of `day` (today so far, when `None`) now: of a closed day ahead of their moment, or with
    /// `again` once more; of today a copy that marks and deletes nothing.
    ///
    /// # Errors
    /// A sentence for the operator, when nothing of it was done.
    pub async fn send(
        &self,
        day: Option<Day>,
        domain: Option<Domain>,
        again: bool,
    ) -> Result<SendSummary, String> {
        let _ = (day, domain, again);
        Err("report send comes later".to_owned())
    }
}
