//! The part for people: what happened, for whom, why, and what to do (DSN-17).
//!
//! ASCII, below 78 columns, calm, and free of our own addresses. A cause that is the recipient domain's
//! published policy comes with a paragraph that is made to be forwarded to that domain's postmaster.

use super::compose::{DsnContext, DsnKind, Reported};
use super::mime::{COLUMNS, for_required_tls, seven_bit, spoken, wrap};
use crate::clock::Timestamp;
use crate::mail::reply::sanitise;
use crate::queue::outcome::{CertificateFacts, Promise, Stage};
use crate::queue::{DeferReason, MessageMeta};
use crate::tlsrpt::ResultType;

/// The subject line.
pub(super) const fn subject(kind: DsnKind) -> &'static str {
    match kind {
        DsnKind::Failed => "Your message could not be delivered",
        DsnKind::Delayed { .. } => "Your message is delayed, delivery is still being tried",
        DsnKind::Relayed => "Your message was passed on",
    }
}

/// The whole first part.
pub(super) fn human_part(
    kind: DsnKind,
    message: &MessageMeta,
    reported: &[Reported<'_>],
    ctx: &DsnContext<'_>,
) -> String {
    let mut page = Page::default();
    page.say(&format!("This is the mail system at {}.", ctx.settings.hostname));
    match kind {
        DsnKind::Failed => {
            page.say("We are sorry: your message could not be delivered to:");
            addresses(&mut page, reported);
            page.say("No further attempt will be made for what is listed here.");
        }
        DsnKind::Delayed { retry_until, also_waiting } => {
            page.say("Your message has not reached the following recipient yet:");
            addresses(&mut page, reported);
            page.say(&format!(
                "You need not do anything and need not send it again. We keep trying until {}. If it has \
                 not been delivered by then, it will be returned to you.",
                date(retry_until)
            ));
            if also_waiting > 0 {
                let more = if also_waiting == 1 {
                    "more message from you to this domain is"
                } else {
                    "more messages from you to this domain are"
                };
                page.say(&format!(
                    "{also_waiting} {more} waiting for the same reason. You get no separate notice of that."
                ));
            }
        }
        DsnKind::Relayed => {
            page.say("Your message was handed over for:");
            addresses(&mut page, reported);
            page.say(
                "The receiving mail server took responsibility for it. It does not send confirmations of \
                 its own, so this is the last notice that you get unless a later delivery fails.",
            );
        }
    }
    explain(&mut page, kind, message, reported);
    waived(&mut page, reported);
    let mut forwarded = Vec::new();
    for r in reported.iter().filter(|_| !matches!(kind, DsnKind::Relayed)) {
        if let Some(promise) = broken(r) {
            let key = (r.recipient.path.domain(), r.diagnosis.host.as_ref(), promise);
            if !forwarded.contains(&key) {
                forwarded.push(key);
                for_postmaster(&mut page, kind, message, r, promise, ctx);
            }
        }
    }
    page.say(&format!(
        "Your message arrived here on {}. If you ask for help, please quote this id: {}",
        date(message.arrived),
        message.id
    ));
    // The last paragraph needs no empty line after it.
    page.text.truncate(page.text.trim_end().len());
    page.text.push_str("\r\n");
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

#[derive(PartialEq)]
enum Line {
    Say(String),
    Quote(String),
}

impl Page {
    /// A paragraph.
    fn say(&mut self, text: &str) {
        self.indented("", text);
        self.text.push_str("\r\n");
    }

    fn line(&mut self, line: Line) {
        match line {
            Line::Say(text) => self.say(&text),
            Line::Quote(text) => {
                self.indented("    ", &text);
                self.text.push_str("\r\n");
            }
        }
    }

    fn indented(&mut self, indent: &str, text: &str) {
        self.text.push_str(&wrap(&seven_bit(text), indent, indent, COLUMNS - indent.len()));
    }

    /// `label: value`, continued below the value.
    fn entry(&mut self, label: &str, value: &str) {
        let first = format!("  {label:<11}");
        let others = " ".repeat(first.len());
        // Room for a SHA-256 in one piece: 77 columns in all.
        self.text.push_str(&wrap(&seven_bit(&sanitise(value)), &first, &others, COLUMNS + 1 - first.len()));
    }
}

fn addresses(page: &mut Page, reported: &[Reported<'_>]) {
    for r in reported {
        page.indented("    ", &r.recipient.path.to_string());
    }
    page.text.push_str("\r\n");
}

/// Tells each cause once, for recipients of one domain mostly share their fate.
fn explain(page: &mut Page, kind: DsnKind, message: &MessageMeta, reported: &[Reported<'_>]) {
    let mut causes: Vec<(Vec<Line>, Vec<String>)> = Vec::new();
    for r in reported {
        let lines = explanation(kind, message, r);
        let address = r.recipient.path.to_string();
        match causes.iter_mut().find(|(told, _)| *told == lines) {
            Some((_, whose)) => whose.push(address),
            None => causes.push((lines, vec![address])),
        }
    }
    let several = causes.len() > 1;
    for (lines, whose) in causes {
        if several {
            page.say(&format!("About {}:", whose.join(", ")));
        }
        for line in lines {
            page.line(line);
        }
    }
}

/// That an exception let the message travel less protected than the recipient's domain asks for, once per exception.
fn waived(page: &mut Page, reported: &[Reported<'_>]) {
    let mut told = Vec::new();
    for r in reported {
        let Some(waived) = r.diagnosis.waived.as_ref().filter(|w| !told.contains(w)) else { continue };
        told.push(waived);
        page.say(&format!(
            "Until {}, by permission of {} ({}), mail for {} is handed over although its mail server does not meet what \
             is asked of it: {}.",
            waived.until.utc_day(),
            waived.by,
            waived.reason,
            r.recipient.path.domain(),
            waived.failure
        ));
    }
}

/// What was promised, when the promise is what the message waits or failed for. A policy in testing mode is
/// never that (RFC 8461 §5).
fn broken<'a>(r: &Reported<'a>) -> Option<&'a Promise> {
    let by_policy = DeferReason::parse(r.cause).map_or(r.expired, DeferReason::is_policy);
    let binds = |p: &&Promise| p.broken.is_some() && !matches!(p.mode.as_str(), "testing" | "none");
    r.diagnosis.promise.as_ref().filter(|_| by_policy).filter(binds)
}

/// Why, and what the sender can do.
fn explanation(kind: DsnKind, message: &MessageMeta, r: &Reported<'_>) -> Vec<Line> {
    if matches!(kind, DsnKind::Relayed) {
        return Vec::new();
    }
    let d = r.diagnosis;
    let domain = r.recipient.path.domain();
    let host = d
        .host
        .as_ref()
        .map_or_else(|| format!("the mail server of {domain}"), |h| format!("the mail server {h}"));
    let mut lines = Vec::new();
    if r.expired {
        lines.push(Line::Say(format!(
            "We tried {} without success until the time allowed for it was over. The last attempt, on {}, \
             ended as follows.",
            times(r.recipient.attempts),
            date(d.at)
        )));
    }
    let reason = for_sender(message, r, domain.as_str(), &host)
        .filter(|_| broken(r).is_none())
        .unwrap_or_else(|| reason(r, domain.as_str(), &host));
    lines.push(Line::Say(reason));
    // What a next hop says to our password concerns nobody but us (DSN-17).
    if let Some(code) = d.code.filter(|_| d.stage != Stage::Auth) {
        lines.push(Line::Say("Its reply was:".to_owned()));
        lines.push(Line::Quote(spoken(code, r)));
    } else if tells_our_words(r) {
        lines.push(Line::Say("In technical terms:".to_owned()));
        lines.push(Line::Quote(without_our_address(r)));
    }
    if d.maybe_delivered {
        lines.push(Line::Say(
            "The connection broke at the very end, so the recipient may have got your message all the same. \
             You may want to ask before you send it again."
                .to_owned(),
        ));
    }
    lines.push(Line::Say(advice(kind, r, domain.as_str())));
    lines
}

fn times(attempts: u32) -> String {
    match attempts {
        0 | 1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

/// Our own diagnosis is quoted only where it speaks of the recipient's side, never of our configuration.
fn tells_our_words(r: &Reported<'_>) -> bool {
    !r.diagnosis.text.is_empty()
        && !matches!(r.cause, "local" | "forbidden" | "interrupted" | "operator" | "auth")
        && broken(r).is_none()
}

/// Our diagnosis; where we sit in our own network is nobody's business (DSN-17).
fn without_our_address(r: &Reported<'_>) -> String {
    let text = sanitise(&r.diagnosis.text);
    r.diagnosis.source_ip.map_or_else(|| text.clone(), |ip| text.replace(&ip.to_string(), "us"))
}

/// What the sender's own REQUIRETLS has to do with it, where it has (RFC 8689 §4.2.1).
fn for_sender(message: &MessageMeta, r: &Reported<'_>, domain: &str, host: &str) -> Option<String> {
    let what = match (r.cause, r.diagnosis.enhanced.detail) {
        ("requiretls_missing", 30) => {
            format!("No mail server of {domain} promises that, so your message was not handed over.")
        }
        ("requiretls_missing", _) => format!(
            "No mail server of {domain} offers a protected connection, so your message was not handed over."
        ),
        _ if for_required_tls(message, r) => format!("At the moment {host} cannot be reached in that way."),
        _ => return None,
    };
    Some(format!(
        "You asked that your message travels over verified, protected connections only, all the way \
         (REQUIRETLS). {what}"
    ))
}

/// One sentence on the cause, in words for everybody.
fn reason(r: &Reported<'_>, domain: &str, host: &str) -> String {
    if broken(r).is_some() {
        return format!(
            "{domain} asks that mail for it travels over a protected connection to its own mail servers \
             only. At the moment {host} does not meet that rule, so we do not hand your message over: \
             otherwise strangers could read it or take it away."
        );
    }
    let replied = r.diagnosis.code.is_some();
    match DeferReason::parse(r.cause) {
        Some(DeferReason::Reply) => format!("{} asked us to try again later.", capital(host)),
        Some(DeferReason::Connect) => format!("No connection to {host} could be made."),
        Some(DeferReason::Lost | DeferReason::Uncertain) => {
            format!("The connection to {host} broke before your message was confirmed.")
        }
        Some(DeferReason::Protocol) => format!("{} gave answers that make no sense.", capital(host)),
        Some(DeferReason::Dns) => {
            format!("The mail server of {domain} could not be looked up in the domain name system.")
        }
        Some(
            DeferReason::PolicyMx
            | DeferReason::TlsMissing
            | DeferReason::TlsHandshake
            | DeferReason::TlsCertificate
            | DeferReason::TlsaLookup
            | DeferReason::RequireTls
            | DeferReason::PolicyContradiction,
        ) => format!("A protected connection to {host} is required and could not be made."),
        Some(DeferReason::Forbidden) => {
            format!("The domain name system points {domain} to addresses that no mail is sent to.")
        }
        Some(DeferReason::Loop) => format!("Mail for {domain} seems to lead back to us."),
        Some(DeferReason::Local | DeferReason::Damaged | DeferReason::Interrupted | DeferReason::Auth) => {
            "Our own system had a problem; it is not the recipient's fault.".to_owned()
        }
        None => match r.cause {
            "no_such_domain" => format!("The domain {domain} does not exist."),
            "null_mx" => format!("{domain} has published that it takes no mail at all."),
            "no_address" => format!("No mail server can be found for {domain}."),
            "loop" => format!("Mail for {domain} leads back to us: its domain records are wrong."),
            "too_large" => format!("Your message is larger than {host} takes."),
            "smtputf8" => format!("{} cannot take addresses with such characters.", capital(host)),
            "bad_address" => "The address cannot be used in mail.".to_owned(),
            "operator" => "The people who run this mail system returned it to you.".to_owned(),
            _ if replied && r.expired => format!("{} asked us to try again later.", capital(host)),
            _ if replied => format!("{} refused it.", capital(host)),
            _ => format!("It could not be handed to {host}."),
        },
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_ascii_uppercase().to_string() + chars.as_str())
}

/// What the sender can do.
fn advice(kind: DsnKind, r: &Reported<'_>, domain: &str) -> String {
    if broken(r).is_some() {
        return format!(
            "What you can do: send the lines below to the people who look after mail for {domain}, if you \
             know another way to reach them. They can mend this."
        );
    }
    if matches!(kind, DsnKind::Delayed { .. }) {
        return "What you can do: wait. If it is urgent, reach the recipient in another way.".to_owned();
    }
    let e = r.diagnosis.enhanced;
    let text = match (r.cause, e.subject, e.detail) {
        ("no_such_domain" | "bad_address", ..) | (_, 1, 0..=6) => {
            "check the address for a typing mistake and send your message again to the right one."
        }
        ("null_mx", ..) => "ask the recipient for another address.",
        ("too_large", ..) | (_, 3, 4) | (_, 2, 3) => {
            "send a smaller message, or share large files in another way."
        }
        (_, 2, 2) => "reach the recipient in another way: the mailbox is full.",
        ("no_address" | "loop", ..) => {
            "tell the recipient in another way that the domain's mail servers cannot be found."
        }
        ("smtputf8", ..) => "ask the recipient for an address with plain letters only.",
        ("operator", ..) => "ask them about it.",
        ("requiretls_missing", ..) => {
            "send your message again without asking for that, if it may travel less protected; or reach the \
             recipient in another way."
        }
        _ => "reach the recipient in another way and pass this notice on to them.",
    };
    format!("What you can do: {text}")
}

/// The paragraph made to be forwarded: what was published, which check failed at which host with which
/// certificate, since when, what will happen and until when, and what the postmaster can do.
fn for_postmaster(
    page: &mut Page,
    kind: DsnKind,
    message: &MessageMeta,
    r: &Reported<'_>,
    promise: &Promise,
    ctx: &DsnContext<'_>,
) {
    let domain = r.recipient.path.domain();
    page.say("-------------------- to be forwarded, from here --------------------");
    page.say(&format!("To the postmaster of {domain}:"));
    page.say(&format!(
        "Mail for your domain cannot be delivered over the protected connection that your domain asks for. \
         {} found the following.",
        ctx.settings.hostname
    ));
    page.indented("", "What your domain has published:");
    page.entry("Policy", policy_name(&promise.kind));
    if !promise.mode.is_empty() {
        page.entry("Mode", &promise.mode);
    }
    let (id, list) = if promise.kind == "dane" { ("Below", "Records") } else { ("Id", "Servers") };
    if !promise.id.is_empty() {
        page.entry(id, &promise.id);
    }
    if !promise.mx.is_empty() {
        page.entry(list, &promise.mx.join(", "));
    }
    if let Some(at) = promise.fetched {
        page.entry("Fetched", &date(at));
    }
    if let Some(at) = promise.expires {
        page.entry("Expires", &date(at));
    }
    page.text.push_str("\r\n");
    page.indented("", "What failed:");
    if let Some(host) = &r.diagnosis.host {
        page.entry("Server", host.as_str());
    }
    page.entry("Check", promise.broken.as_deref().unwrap_or(""));
    page.entry("Last seen", &date(r.diagnosis.at));
    page.entry("Mail waits", &format!("since {}", date(message.arrived)));
    page.text.push_str("\r\n");
    if let Some(certificate) = &promise.certificate {
        page.indented("", "The certificate that was shown:");
        show(page, certificate);
        page.text.push_str("\r\n");
    }
    page.say(&format!(
        "What will happen: {}",
        match kind {
            DsnKind::Delayed { retry_until, .. } => format!(
                "we keep trying until {}. The mail is delivered as soon as the check succeeds; if it never \
                 does, the mail is returned to its sender after that.",
                date(retry_until)
            ),
            DsnKind::Failed | DsnKind::Relayed =>
                "this message has been returned to its sender. Other mail for your domain waits for a few \
                 days and is then returned too, until this is mended."
                    .to_owned(),
        }
    ));
    page.say(&format!("What you can do: {}", remedy(r)));
    page.say("-------------------- to be forwarded, up to here -------------------");
}

fn policy_name(kind: &str) -> &str {
    match kind {
        "mta-sts" => "MTA-STS (RFC 8461)",
        "dane" => "DANE TLSA records (RFC 7672)",
        "requiretls" => "REQUIRETLS, asked for by the sender (RFC 8689)",
        "local" => "an agreement set up at the sending side",
        other => other,
    }
}

fn show(page: &mut Page, certificate: &CertificateFacts) {
    let names = if certificate.names.is_empty() { "none".to_owned() } else { certificate.names.join(", ") };
    page.entry("Names", &names);
    page.entry(
        "Valid",
        &format!("{} to {}", certificate.not_before.utc_day(), certificate.not_after.utc_day()),
    );
    page.entry("Issuer", &certificate.issuer);
    page.entry("SHA-256", &certificate.sha256);
}

/// How the recipient's side can mend it.
fn remedy(r: &Reported<'_>) -> String {
    let domain = r.recipient.path.domain();
    let host = r.diagnosis.host.as_ref().map_or("the mail server", |h| h.as_str());
    let not_listed = DeferReason::parse(r.cause)
        .map_or(r.diagnosis.stage == Stage::Policy, |reason| reason == DeferReason::PolicyMx);
    if not_listed {
        return format!(
            "if {host} is yours, add it to https://mta-sts.{domain}/.well-known/mta-sts.txt and then give \
             the TXT record _mta-sts.{domain} a new id. If it is not yours, correct the MX records of \
             {domain}."
        );
    }
    match r.diagnosis.tls_failure {
        _ if r.diagnosis.promise.as_ref().is_some_and(|p| p.kind == "dane")
            && r.diagnosis.tls_failure != Some(ResultType::StarttlsNotSupported) =>
        {
            format!(
                "publish TLSA records that match the certificate of {host}, in a zone with working DNSSEC; or \
                 go back to the certificate that they were made for."
            )
        }
        Some(ResultType::CertificateExpired) => format!(
            "renew the certificate of {host}, and make sure that the mail server has loaded the new one."
        ),
        Some(ResultType::CertificateHostMismatch) => {
            format!("install a certificate on {host} that has {host} among its DNS names.")
        }
        Some(ResultType::CertificateNotTrusted) => format!(
            "install a certificate of a public certificate authority on {host}, together with its \
             intermediate certificates."
        ),
        Some(ResultType::StarttlsNotSupported) => format!(
            "switch on STARTTLS on port 25 of {host}. If it is on, something on the way takes it out."
        ),
        Some(ResultType::TlsaInvalid | ResultType::DnssecInvalid | ResultType::DaneRequired) => format!(
            "publish TLSA records that match the certificate of {host}, in a zone with working DNSSEC."
        ),
        _ => format!(
            "check that {host} offers STARTTLS with TLS 1.2 or 1.3 on port 25, with a valid certificate for \
             its name, and that the published policy of {domain} names it."
        ),
    }
}

/// `Sun, 22 Nov 2026 07:38:00 UTC`.
fn date(at: Timestamp) -> String {
    at.to_rfc5322().replace("+0000", "UTC")
}
