//! What the tests of each part leave out, and the command line they all ask through.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sealpost::admin::Reports;
use sealpost::admin::metrics::Metrics;
use sealpost::cli::{Io, Next, run};
use sealpost::clock::Timestamp;
use sealpost::mail::Domain;
use sealpost::tlsrpt::service::{Preview, SendSummary};
use sealpost::tlsrpt::{Day, ListedReport, ReportFilter, ReportNo, ReportStoreError};

/// No reports, and none can be sent.
pub(crate) struct NoReports;

impl Reports for NoReports {
    fn preview(&self, _: Option<Day>, _: Option<Domain>) -> BoxFuture<'_, Result<Preview, String>> {
        async { Ok(Preview::default()) }.boxed()
    }

    fn send(&self, _: Option<Day>, _: Option<Domain>, _: bool) -> BoxFuture<'_, Result<SendSummary, String>> {
        async { Err("no reports here".to_owned()) }.boxed()
    }

    fn list(&self, _: ReportFilter, _: usize) -> BoxFuture<'_, Result<Vec<ListedReport>, ReportStoreError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn octets(&self, _: ReportNo) -> BoxFuture<'_, Result<Option<Bytes>, ReportStoreError>> {
        async { Ok(None) }.boxed()
    }
}

/// No metrics.
pub(crate) struct NoMetrics;

impl Metrics for NoMetrics {
    fn scrape(&self) -> BoxFuture<'_, Arc<str>> {
        async { Arc::from("") }.boxed()
    }
}

/// The command line at this time, with `answer` on stdin from a person at a terminal: status, stdout, stderr.
pub(crate) fn answered(now: Timestamp, config: &str, words: &[&str], answer: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io {
        input: &mut Cursor::new(answer.as_bytes()),
        interactive: !answer.is_empty(),
        terminal: false,
        out: &mut out,
        err: &mut err,
        now,
    };
    let Next::Exit(status) = run(["sealpost", "--config", config].iter().chain(words), &mut io) else {
        panic!("{words:?} serves");
    };
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The same beside a server of this test, and nobody at a terminal.
pub(crate) async fn command(now: Timestamp, config: &str, words: &[&str]) -> (u8, String, String) {
    let config = config.to_owned();
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let work = move || answered(now, &config, &words.iter().map(String::as_str).collect::<Vec<_>>(), "");
    tokio::task::spawn_blocking(work).await.unwrap()
}
