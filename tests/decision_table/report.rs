//! What the report of a day says of a row.

use sealpost::mail::{Domain, Mailbox};
use sealpost::tlsrpt::aggregate::{Identity, report};
use sealpost::tlsrpt::report::Body;
use sealpost::tlsrpt::{DayCounters, DetailCounter, PolicyCounters, PolicyVerdict};

#[path = "../tls_report/schema.rs"]
#[expect(dead_code, reason = "another test looks into the report")]
mod schema;

/// The report of a day on which these sessions were all; it fits RFC 8460 §4.4 (RPT-60, RPT-61).
pub(super) fn reported(sessions: &[Vec<PolicyVerdict>]) -> Body {
    let mut policies: Vec<PolicyCounters> = Vec::new();
    for verdict in sessions.iter().flatten() {
        let details = verdict.details.iter().map(|d| DetailCounter {
            result: d.result,
            reason: d.reason.clone(),
            mx_host: Domain::parse("mx.example.net").ok(),
            mx_helo: None,
            sending_ip: None,
            receiving_ip: None,
            count: 1,
        });
        policies.push(PolicyCounters {
            policy: verdict.policy.clone(),
            success: u64::from(verdict.success),
            failure: u64::from(!verdict.success),
            details: details.collect(),
        });
    }
    let counted = DayCounters {
        day: "2026-03-01".parse().unwrap(),
        domain: Domain::parse("example.net").unwrap(),
        policies,
    };
    let contact = Mailbox::parse("tls-reports@relay.example").unwrap();
    let report = report(&counted, &Identity { organization: "Relay".into(), contact }, None, 1);
    schema::check(&serde_json::to_vec(&report).unwrap()).unwrap();
    report.body().clone()
}

/// The last column: what the report says.
pub(super) fn entry(body: &Body) -> String {
    let words = body.policies.iter().map(|entry| {
        let kind = match entry.policy.policy_type.as_str() {
            "no-policy-found" => "none",
            other => other,
        };
        let details = entry.failure_details.iter().map(|d| match &d.failure_reason_code {
            Some(reason) => format!("{}/{reason}", d.result_type),
            None => d.result_type.clone(),
        });
        let (ok, failed) =
            (entry.summary.total_successful_session_count, entry.summary.total_failure_session_count);
        let sessions = match (ok, failed) {
            (1, 0) => "S".to_owned(),
            (0, 1) => "F".to_owned(),
            (ok, failed) => format!("S{ok} F{failed}"),
        };
        format!("{kind} {sessions}({})", details.collect::<Vec<_>>().join("+"))
    });
    words.collect::<Vec<_>>().join(" ")
}
