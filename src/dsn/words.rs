//! The part for people: what happened, for whom, why, and what to do (DSN-17).
//!
//! ASCII, below 78 columns, calm, and free of our own addresses. A cause that is the recipient domain's
//! published policy comes with a paragraph that is made to be forwarded to that domain's postmaster.

use super::compose::{DsnContext, DsnKind, Reported};
use super::mime::{COLUMNS, for_required_tls, seven_bit, spoken, wrap};
use super::postmaster::for_postmaster;
use crate::clock::Timestamp;
use crate::mail::SenderTls;
use crate::mail::reply::sanitise;
use crate::queue::outcome::{Promise, Stage};
use crate::queue::unmet::Unmet;
use crate::queue::{DeferReason, MessageMeta};

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
    if matches!(kind, DsnKind::Relayed) {
        looked_away(&mut page, message, reported);
    }
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
pub(super) struct Page {
    pub(super) text: String,
}

#[derive(PartialEq)]
enum Line {
    Say(String),
    Quote(String),
}

impl Page {
    /// A paragraph.
    pub(super) fn say(&mut self, text: &str) {
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

    pub(super) fn indented(&mut self, indent: &str, text: &str) {
        self.text.push_str(&wrap(&seven_bit(text), indent, indent, COLUMNS - indent.len()));
    }

    /// `label: value`, continued below the value.
    pub(super) fn entry(&mut self, label: &str, value: &str) {
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

/// That the sender's `TLS-Required: No` let the message travel less protected than the recipient's domain asks for, once per
/// domain. Where an exception did, that is told (RFC 8689 §4.2.2).
fn looked_away(page: &mut Page, message: &MessageMeta, reported: &[Reported<'_>]) {
    if message.sender_tls != SenderTls::Optional {
        return;
    }
    let mut told = Vec::new();
    for r in reported.iter().filter(|r| r.diagnosis.waived.is_none()) {
        let Some(broken) = r.diagnosis.broken_promise().and_then(|p| p.broken.as_ref()) else { continue };
        let domain = r.recipient.path.domain();
        if !told.contains(&(domain, broken)) {
            told.push((domain, broken));
            page.say(&format!(
                "Because you asked for it (TLS-Required: No), mail for {domain} was handed over although its mail server \
                 does not meet what the domain asks for: {broken}."
            ));
        }
    }
}

/// Whether mail with `TLS-Required: No` waits for a rule of our own, which that wish does not reach (RFC 8689 §4.2.2).
fn for_own_rule(message: &MessageMeta, r: &Reported<'_>) -> bool {
    message.sender_tls == SenderTls::Optional && r.diagnosis.unmet.as_ref().is_some_and(Unmet::is_own_rule)
}

/// What was promised, when the promise is what the message waits or failed for. A policy in testing mode is
/// never that (RFC 8461 §5).
fn broken<'a>(r: &Reported<'a>) -> Option<&'a Promise> {
    let by_policy = DeferReason::parse(r.cause).map_or(r.expired, DeferReason::is_policy);
    r.diagnosis.broken_promise().filter(|_| by_policy)
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
    let required = for_sender(message, r, domain.as_str(), &host).filter(|_| broken(r).is_none());
    let untold = required.is_none() && message.sender_tls == SenderTls::Required;
    lines.push(Line::Say(required.unwrap_or_else(|| reason(message, r, domain.as_str(), &host))));
    if untold && matches!(kind, DsnKind::Delayed { .. }) {
        lines.push(Line::Say(
            "You asked for REQUIRETLS, that is for verified, protected connections only, all the way. That is checked \
             as well before your message is handed over, and may be what it waits for next."
                .to_owned(),
        ));
    }
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
    lines.push(Line::Say(advice(kind, message, r, domain.as_str())));
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
        && !matches!(r.cause, "local" | "damaged" | "forbidden" | "interrupted" | "operator" | "auth")
        && broken(r).is_none()
}

/// Our diagnosis; where we sit in our own network is nobody's business (DSN-17).
fn without_our_address(r: &Reported<'_>) -> String {
    let text = sanitise(&r.diagnosis.text);
    r.diagnosis.source_ip.map_or_else(|| text.clone(), |ip| text.replace(&ip.to_string(), "us"))
}

/// What the sender's own REQUIRETLS has to do with it, where it has (RFC 8689 §4.2.1).
fn for_sender(message: &MessageMeta, r: &Reported<'_>, domain: &str, host: &str) -> Option<String> {
    // By a next hop it is that host which lacks it, whatever those of the domain would say.
    let next_hop = r.diagnosis.unmet.as_ref().is_some_and(|u| u.next_hop);
    let (who, promises, offers) = if next_hop {
        let who = format!("{}, by which mail for {domain} goes,", capital(host));
        (who, "does not promise", "does not offer")
    } else {
        (format!("No mail server of {domain}"), "promises", "offers")
    };
    let what = match (r.cause, r.diagnosis.enhanced.detail) {
        // D90: nobody was asked, because nobody can be sure whom to ask.
        ("requiretls_missing", 30) if r.diagnosis.stage == Stage::Policy => format!(
            "Nothing proves which mail servers are those of {domain}: its records in the DNS are not signed (DNSSEC), and \
             no policy of its own (MTA-STS) names them. So your message was not handed over."
        ),
        ("requiretls_missing", 30) => {
            format!("{who} {promises} that, so your message was not handed over.")
        }
        ("requiretls_missing", _) => {
            format!("{who} {offers} a protected connection, so your message was not handed over.")
        }
        _ if for_required_tls(message, r) => format!("At the moment {host} cannot be reached in that way."),
        _ => return None,
    };
    Some(format!(
        "You asked that your message travels over verified, protected connections only, all the way \
         (REQUIRETLS). {what}"
    ))
}

/// One sentence on the cause, in words for everybody.
fn reason(message: &MessageMeta, r: &Reported<'_>, domain: &str, host: &str) -> String {
    if broken(r).is_some() {
        return format!(
            "{domain} asks that mail for it travels over a protected connection to its own mail servers \
             only. At the moment {host} does not meet that rule, so we do not hand your message over: \
             otherwise strangers could read it or take it away."
        );
    }
    if for_own_rule(message, r) {
        return format!(
            "The people who run this mail system demand a protected connection to {host}, and at the moment it does \
             not meet that. Your wish \"TLS-Required: No\" is about what the recipient's domain asks for; it does not \
             reach their demand."
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
fn advice(kind: DsnKind, message: &MessageMeta, r: &Reported<'_>, domain: &str) -> String {
    if broken(r).is_some() {
        return format!(
            "What you can do: send the lines below to the people who look after mail for {domain}, if you \
             know another way to reach them. They can mend this."
        );
    }
    if for_own_rule(message, r) {
        return "What you can do: tell the people who run this mail system; the demand is theirs. If it is urgent, reach \
                the recipient in another way."
            .to_owned();
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

/// `Sun, 22 Nov 2026 07:38:00 UTC`.
pub(super) fn date(at: Timestamp) -> String {
    at.to_rfc5322().replace("+0000", "UTC")
}
