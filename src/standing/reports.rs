//! Whether our TLS reports would be believed, answered, and kept from running in circles (RFC 8460 §3, RPT-80 to 83).

use super::dmarc::Dmarc;
use super::spf::Spf;
use super::{ASK_AGAIN, Check, Finding, Mark, Source};
use crate::delivery::classify;
use crate::dkim::SigningKey;
use crate::dkim::check::{Finding as KeyFault, published};
use crate::dns::{Data, DnsError, DnsResult};
use crate::mail::{Domain, Mailbox};
use crate::route::{Route, RouteFailure};

/// `[tls_rpt]`, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporting {
    /// `tls_rpt.enabled`.
    pub enabled: bool,
    /// The sender of reports.
    pub from: Option<Mailbox>,
    /// contact-info: `from`, unless something else is written.
    pub contact: Option<Mailbox>,
}

/// What the configuration says; `signed`: there is a key of exactly the From domain (RPT-80).
pub fn configuration(reporting: &Reporting, signed: bool) -> Finding {
    let check = Check::Configuration;
    match &reporting.from {
        _ if !reporting.enabled => check.note(
            "tls_rpt.enabled",
            "reports are switched off",
            "set tls_rpt.enabled = true to send them",
        ),
        None => check.bad(
            "tls_rpt.from",
            "there is no sender, so no report is sent; sessions are counted all the same",
            "write tls_rpt.from = \"tls-reports@YOUR.DOMAIN\", and a [[dkim]] entry for that domain",
        ),
        Some(from) if !signed => check.bad(
            "dkim",
            format!(
                "no [[dkim]] entry has domain = \"{}\": reports wait, and are dropped after two days",
                from.domain()
            ),
            format!("make a key with `sealpost dkim keygen --domain {} --selector tlsrpt`", from.domain()),
        ),
        Some(from) => {
            check.good("tls_rpt.from", format!("reports are sent as {from}, signed by {}", from.domain()))
        }
    }
}

/// What a key's record lets others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usable {
    /// Ordinary verifiers accept its signatures (RPT-83).
    pub mail: bool,
    /// Receivers of TLS reports do (RPT-82).
    pub reports: bool,
}

/// Compares a key with what is published. `reports`: it signs TLS reports too (SIG-14, RPT-82).
pub fn key(key: &SigningKey, txt: &DnsResult<Vec<u8>>, reports: bool) -> (Finding, Usable) {
    let (check, name) = (Check::DkimKey, key.record_name());
    let nobody = Usable { mail: false, reports: false };
    let txt = match records(txt) {
        Ok(txt) => txt,
        Err(e) => return (check.bad(name, e.to_string(), ASK_AGAIN), nobody),
    };
    let faults = published(key, txt, reports);
    let usable = Usable {
        mail: !faults.iter().any(|f| f.breaks() && *f != KeyFault::NotForReports),
        reports: !faults.iter().any(|f| f.breaks() && *f != KeyFault::NotForMail),
    };
    if faults.is_empty() {
        let whom = if reports { ", for mail and for TLS reports" } else { "" };
        let text = format!("published, and the {} key is ours{whom}", key.algorithm().key_type());
        return (check.good(name, text), usable);
    }
    let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let mark = if faults.iter().any(KeyFault::breaks) { Mark::Bad } else { Mark::Note };
    let advice = format!("publish {}", key.record().zone_line(name));
    (check.finding(mark, name, text, advice), usable)
}

/// No RSA key of the domain is of use: verifiers need not know Ed25519 (RFC 8463 §3), and large ones do not.
pub fn without_rsa(domain: &Domain) -> Finding {
    Check::DkimKey.note(
        domain,
        "only an Ed25519 key signs: receivers that verify RSA alone take its mail for unsigned",
        format!(
            "make a second key, for a selector of its own: `sealpost dkim keygen --domain {domain} --selector NEW`"
        ),
    )
}

/// What SPF says of a source address. A signature that aligns makes DMARC pass without it; a receiver that refuses on
/// `fail` looks at nothing else.
pub fn spf(from: &Domain, source: &Source, verdict: &Spf) -> Finding {
    let (check, subject) = (Check::Spf, format!("{from} from {}", source.address));
    let advice = format!(
        "add ip{}:{} to the SPF record of {from}",
        if source.address.is_ipv4() { 4 } else { 6 },
        source.address
    );
    match verdict {
        Spf::Pass(_) => check.good(subject, verdict.to_string()),
        Spf::Fail(_) | Spf::PermError(_) => check.bad(subject, verdict.to_string(), advice),
        Spf::TempError(_) => check.bad(subject, verdict.to_string(), ASK_AGAIN),
        Spf::SoftFail(_) | Spf::Neutral(_) | Spf::None => check.note(subject, verdict.to_string(), advice),
        Spf::Unknown(_) => check.note(
            subject,
            verdict.to_string(),
            "send yourself a report and read its Authentication-Results",
        ),
    }
}

/// SPF, when the address that others see is not known here.
pub fn spf_unknown(from: &Domain) -> Finding {
    Check::Spf.note(
        from,
        "not judged: this machine has no public address, and which one the Internet sees cannot be known here",
        format!("make sure that the SPF record of {from} names the address that mail leaves from"),
    )
}

/// DMARC of a domain that signs; `usable`: some key of exactly this domain can be verified by ordinary verifiers, so
/// that its signature aligns, strictly or not.
pub fn dmarc(from: &Domain, found: &Result<Option<Dmarc>, DnsError>, usable: bool) -> Finding {
    let check = Check::Dmarc;
    let policy = match found {
        Ok(Some(found)) => format!("policy {} of {}", found.policy, found.domain),
        Ok(None) => "no DMARC record".to_owned(),
        Err(e) => return check.bad(from, e.to_string(), ASK_AGAIN),
    };
    if usable {
        return check.good(from, format!("would pass: a signature by {from} aligns with From ({policy})"));
    }
    let text = format!("no signature by {from} can be verified ({policy})");
    match found {
        Ok(Some(found)) if found.policy != "none" => check.bad(
            from,
            format!("{text}: mail from it would be refused or put aside"),
            "mend the DKIM record",
        ),
        _ => check.note(from, text, "mend the DKIM record"),
    }
}

/// Whether those who answer a report reach somebody.
pub fn contact(contact: &Mailbox, route: &Result<Route, RouteFailure>) -> Finding {
    let check = Check::Contact;
    match route {
        Ok(route) => {
            let hosts: Vec<&str> = route.hosts.iter().map(|h| h.name.as_str()).collect();
            check.good(contact, format!("mail for it goes to {}", hosts.join(", ")))
        }
        Err(RouteFailure::Dns(e) | RouteFailure::HostLookupFailed(e)) => {
            check.bad(contact, e.to_string(), ASK_AGAIN)
        }
        Err(failure) => check.bad(
            contact,
            classify::route(failure, contact.domain(), false, false).text,
            "name an address in tls_rpt.contact that people read",
        ),
    }
}

/// Where a receiver of reports that we would send lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The address in the record.
    pub to: Mailbox,
    /// Where mail for it would go.
    pub route: Result<Route, RouteFailure>,
}

/// Whether reports can come back to this relay, or be about themselves. `receivers`: whom the domain of `from` asks to
/// send its own reports to by mail, which is where such a circle would begin.
pub fn circles(from: &Domain, hostname: &Domain, receivers: &[Receiver]) -> Vec<Finding> {
    let check = Check::Loop;
    let mut findings = Vec::new();
    for Receiver { to, route } in receivers {
        let asked = format!("_smtp._tls.{from} asks for reports at {to}");
        if matches!(route, Err(RouteFailure::Loop { .. } | RouteFailure::LoopUnproven { .. })) {
            findings.push(check.bad(
                to,
                format!("{asked}, and mail for it comes back to this relay"),
                "name an address in that record whose mail another server takes",
            ));
        } else if to.domain() == hostname {
            findings.push(check.note(
                to,
                format!("{asked}, which is this relay's own name"),
                format!("make sure that another server takes mail for {hostname}"),
            ));
        }
    }
    if findings.is_empty() {
        let own = receivers.iter().any(|r| r.to.domain() == from);
        let own = if own {
            format!("{from} asks for its reports at itself, which is harmless: ")
        } else {
            String::new()
        };
        findings.push(check.good(
            from,
            format!(
                "{own}a session that carries a report leaves no record, so reports never lead to reports"
            ),
        ));
    }
    findings
}

/// As [`circles`], when the record could not be looked up.
pub fn circles_unknown(from: &Domain, e: &DnsError) -> Finding {
    Check::Loop.bad(from, e.to_string(), ASK_AGAIN)
}

/// The records of an answer; a denial is none.
pub(super) fn records<T>(answer: &DnsResult<T>) -> Result<&[T], &DnsError> {
    match answer {
        Ok(answer) => match &answer.data {
            Data::Records(records) => Ok(records),
            Data::NoData | Data::NxDomain => Ok(&[]),
        },
        Err(e) => Err(e),
    }
}
