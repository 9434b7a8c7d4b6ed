//! A report as mail (RFC 8460 §5.3), and the few lines in it that are for people.
//!
//! All that the message says of the report is read from the packed octets, which alone are authoritative (RFC 8460
//! §5.6, RPT-92). Unsigned; whoever sends it signs it (RPT-80).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::read;
use super::report::{Body, Entry};
use crate::clock::Timestamp;
use crate::mail::reply::sanitise;
use crate::mail::{Domain, Mailbox};

/// What a message about a report is made of.
#[derive(Debug, Clone)]
pub struct ReportMail {
    /// The report-id (RPT-44).
    pub report_id: String,
    /// The report domain.
    pub domain: Domain,
    /// The file name (RPT-74).
    pub file_name: String,
    /// gzip of the JSON.
    pub packed: Bytes,
    /// Our address; its domain is the submitter and signs.
    pub from: Mailbox,
    /// The receiver.
    pub to: Mailbox,
    /// Our name, for the Message-ID.
    pub hostname: Domain,
    /// Now.
    pub now: Timestamp,
    /// For Message-ID and boundary; never the same twice.
    pub random: u128,
}

/// Writes the message: CRLF line ends, seven bits but for an internationalised `to`.
pub fn compose(mail: &ReportMail) -> Vec<u8> {
    let boundary = format!("=_{:032x}", mail.random);
    let mut out = header(mail, &boundary);
    out.push_str(&format!(
        "--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    ));
    for line in words(mail) {
        out.push_str(&line);
        out.push_str("\r\n");
    }
    out.push_str(&format!(
        "\r\n--{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment;\r\n filename=\"{}\"\r\n\r\n",
        mail.file_name
    ));
    // Lines of 76 characters (RFC 2045 §6.8).
    for line in mail.packed.chunks(57) {
        out.push_str(&BASE64.encode(line));
        out.push_str("\r\n");
    }
    out.push_str(&format!("\r\n--{boundary}--\r\n"));
    out.into_bytes()
}

fn header(mail: &ReportMail, boundary: &str) -> String {
    let ReportMail { report_id, domain, from, to, hostname, now, random, .. } = mail;
    let submitter = from.domain();
    let fields = [
        format!("Date: {}", now.to_rfc5322()),
        format!("From: <{from}>"),
        format!("To: <{to}>"),
        subject(&[
            "Subject: Report Domain: ".to_owned() + domain.as_str(),
            format!("Submitter: {submitter}"),
            format!("Report-ID: <{report_id}>"),
        ]),
        format!("Message-ID: <{random:032x}@{hostname}>"),
        format!("TLS-Report-Domain: {domain}"),
        format!("TLS-Report-Submitter: {submitter}"),
        // RPT-85: a report about broken TLS must not wait for that TLS (RFC 8689 §5).
        "TLS-Required: No".to_owned(),
        "Auto-Submitted: auto-generated".to_owned(),
        "MIME-Version: 1.0".to_owned(),
        format!("Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"{boundary}\""),
    ];
    fields.join("\r\n") + "\r\n\r\n"
}

/// RPT-79: folded at its own blanks, so that unfolding gives the text of RFC 8460 §5.3; never an encoded word,
/// which receivers that look for `Report Domain:` do not find.
fn subject(phrases: &[String]) -> String {
    let whole = phrases.join(" ");
    if whole.len() <= COLUMNS { whole } else { phrases.join("\r\n ") }
}

/// The part for people: ASCII lines without line ends.
fn words(mail: &ReportMail) -> Vec<String> {
    let (domain, submitter) = (&mail.domain, mail.from.domain());
    let mut lines = vec![
        format!("This is a TLS report (RFC 8460) by {submitter}"),
        format!("about the mail that it delivered, or tried to deliver, to {domain}."),
        "A program made it for programs; the attachment holds all of it.".to_owned(),
        String::new(),
    ];
    if let Some(Ok(report)) = read::read(&mail.packed).into_iter().next() {
        numbers(&report, &mut lines);
    }
    lines.extend([
        String::new(),
        format!("Report-ID: {}", mail.report_id),
        format!("Questions: {}", mail.from),
        String::new(),
        "You receive this because the TXT record at".to_owned(),
        format!("_smtp._tls.{domain} names this address."),
    ]);
    lines
}

fn numbers(report: &Body, lines: &mut Vec<String>) {
    let range = &report.date_range;
    let (ok, failed) = report.sessions();
    lines.extend([
        format!("Time:                                 {} to {}", range.start_datetime, range.end_datetime),
        format!("Sessions with TLS as the policy asks: {ok}"),
        format!("Sessions without:                     {failed}"),
    ]);
    for entry in &report.policies {
        policy(entry, lines);
    }
}

fn policy(entry: &Entry, lines: &mut Vec<String>) {
    let (ok, failed) =
        (entry.summary.total_successful_session_count, entry.summary.total_failure_session_count);
    let kind = match entry.policy.policy_type.as_str() {
        "sts" => "MTA-STS policy of",
        "tlsa" => "DANE TLSA records of",
        _ => "No policy found for",
    };
    let domain = &entry.policy.policy_domain;
    lines.extend([String::new(), format!("{kind} {domain}: {ok} good, {failed} failed")]);
    for row in entry.failure_details.iter().take(MAX_ROWS) {
        let reason = row.failure_reason_code.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
        let host = row.receiving_mx_hostname.as_ref().map(|h| format!(" at {h}")).unwrap_or_default();
        lines.push(sanitise(&format!("{} x {}{reason}{host}", row.failed_session_count, row.result_type)));
    }
    let more = entry.failure_details.len().saturating_sub(MAX_ROWS);
    if more > 0 {
        lines.push(format!("and {more} more rows in the attachment"));
    }
}

/// Columns that header lines aim at (RFC 5322 §2.1.1).
const COLUMNS: usize = 76;

/// Rows of failures per policy in the part for people.
const MAX_ROWS: usize = 10;

#[cfg(test)]
mod tests;
