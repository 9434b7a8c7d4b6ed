//! `report read`: who saw what, which failures, since when, and what to mend.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::print::{clean, noted_table, table};
use crate::cli::{Failure, Io, failed};
use crate::tlsrpt::ResultType;
use crate::tlsrpt::day::Day;
use crate::tlsrpt::read::{MAX_INPUT, MAX_MESSAGES, ReadError, ReceivedReport, day, read};

pub(super) fn run(files: &[PathBuf], as_json: bool, io: &mut Io<'_>) -> Result<u8, Failure> {
    let mut sum = Sum::default();
    let mut list = JsonList::default();
    for named in files {
        let unread = one_argument(named, io, &mut |file, found, io| {
            if let Ok(report) = &found {
                sum.add(report);
            }
            if as_json { list.write(io, &Element::new(file, found)) } else { Ok(()) }
        })?;
        sum.unread += unread;
    }
    if as_json {
        list.end(io)?;
    } else {
        sum.print(io)?;
    }
    Ok(u8::from(sum.unread > 0 || sum.any_failure))
}

/// What to do with a report or a fault, and the file that it is from.
type Take<'a> = dyn FnMut(&str, Result<ReceivedReport, String>, &mut Io<'_>) -> Result<(), Failure> + 'a;

/// Reads a file, a folder or `-`. Faults go to stderr too; how many there were.
///
/// Mail without a report is a fault when it is all there is; among reports, in a mailbox, it is only counted.
fn one_argument(named: &Path, io: &mut Io<'_>, take: &mut Take<'_>) -> Result<usize, Failure> {
    let mut faults = 0;
    let mut fault = |name: &str, why: String, io: &mut Io<'_>, take: &mut Take<'_>| {
        faults += 1;
        writeln!(io.err, "{name}: {}", clean(&why))?;
        take(name, Err(why), io)
    };
    let shown = |path: &Path| clean(&path.display().to_string());
    let files = if named.is_dir() { folder(named) } else { Ok(vec![named.to_owned()]) };
    let (mut reports, mut without) = (0_usize, 0_usize);
    match &files {
        Ok(files) if files.is_empty() => fault(&shown(named), "an empty folder".to_owned(), io, take)?,
        Ok(_) => {}
        Err(why) => fault(&shown(named), why.clone(), io, take)?,
    }
    for file in files.unwrap_or_default() {
        let name = shown(&file);
        let found = match contents(&file, io.input) {
            Ok(octets) => read(&octets),
            Err(e) => {
                fault(&name, e.to_string(), io, take)?;
                continue;
            }
        };
        for found in found {
            match found {
                Ok(report) => {
                    reports += 1;
                    take(&name, Ok(report), io)?;
                }
                Err(ReadError::NoReport) => without += 1,
                Err(why) => fault(&name, why.to_string(), io, take)?,
            }
        }
    }
    if without > 0 && reports == 0 {
        fault(&shown(named), ReadError::NoReport.to_string(), io, take)?;
    } else if without > 0 {
        writeln!(io.err, "{}: messages without a TLS report, passed over: {without}", shown(named))?;
    }
    Ok(faults)
}

/// The files of a maildir, or of a folder that holds reports, in order of their names.
fn folder(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let maildir = ["new", "cur"].map(|d| dir.join(d));
    let dirs = if maildir.iter().all(|d| d.is_dir()) { maildir.to_vec() } else { vec![dir.to_owned()] };
    let mut files = Vec::new();
    for dir in dirs {
        for entry in fs::read_dir(&dir).map_err(|e| e.to_string())? {
            let path = entry.map_err(|e| e.to_string())?.path();
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            // A FIFO or device would hold us up.
            if !hidden && path.is_file() {
                files.push(path);
            }
            if files.len() > MAX_MESSAGES {
                return Err(format!("more than {MAX_MESSAGES} files"));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// At most one octet more than may be read, so that the reader can say so.
fn contents(file: &Path, input: &mut dyn BufRead) -> io::Result<Vec<u8>> {
    let limit = MAX_INPUT as u64 + 1;
    let mut octets = Vec::new();
    if file == Path::new("-") {
        input.take(limit).read_to_end(&mut octets)?;
    } else {
        File::open(file)?.take(limit).read_to_end(&mut octets)?;
    }
    Ok(octets)
}

/// An element of the `--json` array: `report`, under the names of RFC 8460, or `error`.
#[derive(Serialize)]
struct Element<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<ReceivedReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a> Element<'a> {
    fn new(file: &'a str, found: Result<ReceivedReport, String>) -> Self {
        match found {
            Ok(report) => Self { file, report: Some(report), error: None },
            Err(why) => Self { file, report: None, error: Some(why) },
        }
    }
}

/// A JSON array that is written element by element, so that memory does not grow with the mailbox.
#[derive(Default)]
struct JsonList {
    begun: bool,
}

impl JsonList {
    fn write(&mut self, io: &mut Io<'_>, element: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(element).map_err(|e| failed(e.to_string()))?;
        write!(io.out, "{}{text}", if self.begun { ",\n" } else { "[\n" })?;
        self.begun = true;
        Ok(())
    }

    fn end(&self, io: &mut Io<'_>) -> Result<(), Failure> {
        writeln!(io.out, "{}", if self.begun { "\n]" } else { "[]" })?;
        Ok(())
    }
}

/// What all reports say together. Distinct rows are bounded; what comes after is counted.
#[derive(Default)]
pub(super) struct Sum {
    unread: usize,
    any_failure: bool,
    seen: Vec<Vec<String>>,
    failures: BTreeMap<Kind, Failures>,
    left_out: usize,
}

/// What failed, and where.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    domain: String,
    policy: String,
    result: String,
    reason: String,
    mx: String,
}

#[derive(Default)]
struct Failures {
    count: u64,
    days: Option<(Day, Day)>,
    seen_by: BTreeSet<String>,
}

impl Sum {
    pub(super) fn add(&mut self, report: &ReceivedReport) {
        let day = day(report);
        let by = or_dash(&report.organization_name);
        if report.policies.is_empty() {
            self.row(day, &by, "-", "-", (0, 0));
        }
        for entry in &report.policies {
            let domain = or_dash(&entry.policy.policy_domain);
            let policy = or_dash(&entry.policy.policy_type);
            let ok = entry.summary.total_successful_session_count;
            let bad = entry.summary.total_failure_session_count;
            self.row(day, &by, &domain, &policy, (ok, bad));
            let kind = |result: &str, reason: &Option<String>, mx: &Option<String>| Kind {
                domain: domain.clone(),
                policy: policy.clone(),
                result: or_dash(result),
                reason: reason.clone().unwrap_or_default(),
                mx: or_dash(mx.as_deref().unwrap_or_default()),
            };
            if bad > 0 && entry.failure_details.is_empty() {
                self.failure(kind("", &None, &None), bad, day, &by);
            }
            for d in &entry.failure_details {
                let kind = kind(&d.result_type, &d.failure_reason_code, &d.receiving_mx_hostname);
                self.failure(kind, d.failed_session_count, day, &by);
            }
        }
    }

    fn row(&mut self, day: Option<Day>, by: &str, domain: &str, policy: &str, (ok, bad): (u64, u64)) {
        if self.seen.len() == MAX_ROWS {
            self.left_out += 1;
            return;
        }
        let day = day.map_or_else(|| "-".to_owned(), |d| d.to_string());
        let (by, domain, policy) = (by.to_owned(), domain.to_owned(), policy.to_owned());
        self.seen.push(vec![day, by, domain, policy, ok.to_string(), bad.to_string()]);
    }

    fn failure(&mut self, kind: Kind, count: u64, day: Option<Day>, by: &str) {
        self.any_failure = true;
        if self.failures.len() == MAX_ROWS && !self.failures.contains_key(&kind) {
            self.left_out += 1;
            return;
        }
        let row = self.failures.entry(kind).or_default();
        row.count = row.count.saturating_add(count);
        if let Some(day) = day {
            let (first, last) = row.days.unwrap_or((day, day));
            row.days = Some((first.min(day), last.max(day)));
        }
        if row.seen_by.len() < MAX_NAMES {
            row.seen_by.insert(by.to_owned());
        }
    }

    pub(super) fn print(&mut self, io: &mut Io<'_>) -> Result<(), Failure> {
        if !self.seen.is_empty() {
            self.seen.sort();
            table(io.out, &["DAY", "SEEN BY", "DOMAIN", "POLICY", "GOOD", "FAILED"], &self.seen)?;
        }
        if !self.failures.is_empty() {
            let mut rows: Vec<_> = self.failures.iter().collect();
            rows.sort_by_key(|(_, f)| std::cmp::Reverse(f.count));
            let rows: Vec<_> = rows.into_iter().map(|(kind, failures)| failures.row(kind)).collect();
            writeln!(io.out)?;
            noted_table(io.out, &["FAILED", "WHAT", "SINCE", "LAST", "SEEN BY"], &rows)?;
            writeln!(io.out, "\nWhat to mend:")?;
            for result in self.failures.keys().map(|k| k.result.as_str()).collect::<BTreeSet<_>>() {
                writeln!(io.out, "  {}: {}", clean(result), advice(result))?;
            }
        }
        if self.left_out > 0 {
            writeln!(io.err, "{} more rows are left out; --json shows all", self.left_out)?;
        }
        Ok(())
    }
}

impl Failures {
    /// A row, and below it where it was.
    fn row(&self, kind: &Kind) -> (Vec<String>, Vec<String>) {
        let reason = if kind.reason.is_empty() { String::new() } else { format!(" ({})", kind.reason) };
        let (since, last) = match self.days {
            Some((since, last)) => (since.to_string(), last.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let names: Vec<&str> = self.seen_by.iter().map(String::as_str).collect();
        let row =
            vec![self.count.to_string(), format!("{}{reason}", kind.result), since, last, names.join(", ")];
        let at = if kind.mx == "-" { String::new() } else { format!("at {}, ", kind.mx) };
        (row, vec![format!("{at}for {} by policy {}", kind.domain, kind.policy)])
    }
}

fn or_dash(text: &str) -> String {
    let text: String = text.chars().take(MAX_CELL).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// What the domain that received the report can do about it.
fn advice(result: &str) -> &'static str {
    use ResultType as R;
    match ResultType::parse(result) {
        Some(R::StarttlsNotSupported) => {
            "the MX host offered no STARTTLS or refused it; switch TLS on at port 25, and look for a firewall that \
             strips it"
        }
        Some(R::CertificateHostMismatch) => {
            "the certificate does not name the MX host; get one that does, or correct the MX record"
        }
        Some(R::CertificateExpired) => {
            "the certificate of the MX host is past its last day; renew it and have the mail server load it"
        }
        Some(R::CertificateNotTrusted) => {
            "the chain leads to no CA that the sender trusts; install a certificate of a public CA with all its \
             intermediates"
        }
        Some(R::ValidationFailure) => {
            "the session failed for the reason in brackets, where the sender gave one; compare MX records with the \
             mx lines of the policy, TLSA records with the key, and TLS versions with the sender's"
        }
        Some(R::TlsaInvalid) => {
            "none of the TLSA records can be used; publish `3 1 1` records for the keys in use"
        }
        Some(R::DnssecInvalid) => {
            "DNSSEC validation failed; repair the signatures or the DS record of the zone"
        }
        Some(R::DaneRequired) => {
            "the sender insists on DANE; sign the zones of MX and TLSA records, or agree otherwise with the sender"
        }
        Some(R::StsPolicyFetchError) => {
            "the MTA-STS policy could not be fetched; https://mta-sts.DOMAIN/.well-known/mta-sts.txt must answer 200 \
             with text/plain and without a redirect"
        }
        Some(R::StsPolicyInvalid) => {
            "the MTA-STS policy file is malformed; it needs the lines version, mode, mx and max_age (RFC 8461 §3.2)"
        }
        Some(R::StsWebpkiInvalid) => {
            "the certificate of the policy host mta-sts.DOMAIN does not hold; renew it, for that name, from a public CA"
        }
        None if result == "-" => "the sender gave no reason; ask at the contact that `--json` shows",
        None => "not a name that RFC 8460 knows; ask at the contact that `--json` shows",
    }
}

/// The most distinct rows of each table.
const MAX_ROWS: usize = 100_000;

/// The most names of organisations in one cell.
const MAX_NAMES: usize = 5;

/// The longest cell.
const MAX_CELL: usize = 255;
