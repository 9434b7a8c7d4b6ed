//! The multipart/report frame (RFC 6522) and the machine-readable part (RFC 3464).

use std::fmt::Write as _;

use super::compose::{DsnContext, DsnKind, Original, Reported};
use crate::mail::reply::sanitise;
use crate::mail::{EnhancedCode, Ret, SenderTls};
use crate::queue::MessageMeta;
use crate::queue::outcome::Stage;
use crate::queue::unmet::Unmet;

/// Columns that generated lines aim at.
pub(super) const COLUMNS: usize = 76;

/// The most octets of a header line (RFC 5322 §2.1.1), with room for what folding adds.
const LONGEST_WORD: usize = 900;

/// The third part: what comes back of the original.
pub(super) struct Returned<'a> {
    content_type: &'static str,
    pub(super) octets: &'a [u8],
}

impl<'a> Returned<'a> {
    /// The whole message for a failure with RET=FULL that is small enough, else the header (DSN-07). Of a message with
    /// REQUIRETLS never more than the header, whatever RET= says (RFC 8689 §5, RTLS-41).
    pub(super) fn choose(
        kind: DsnKind,
        message: &MessageMeta,
        original: Original<'a>,
        max_returned: u64,
    ) -> Self {
        let fits = |o: &[u8]| o.len() as u64 <= max_returned && is_sendable(o);
        let wanted = message.ret == Some(Ret::Full) && message.sender_tls != SenderTls::Required;
        let full = original.full.filter(|o| matches!(kind, DsnKind::Failed) && wanted && fits(o));
        if let Some(octets) = full {
            return Self { content_type: "message/rfc822", octets };
        }
        let limit = usize::try_from(max_returned).unwrap_or(usize::MAX);
        Self { content_type: "text/rfc822-headers", octets: whole_lines(original.header, limit) }
    }

    pub(super) fn has_8bit(&self) -> bool {
        !self.octets.is_ascii()
    }
}

/// The fields of a header section that fit, without the empty line.
fn whole_lines(header: &[u8], limit: usize) -> &[u8] {
    let mut end = 0;
    for line in header.split_inclusive(|b| *b == b'\n') {
        if line == b"\r\n" || end + line.len() > limit || !is_sendable(line) {
            break;
        }
        end += line.len();
    }
    header.get(..end).unwrap_or_default()
}

/// Whether the octets can stand in a message: CRLF line ends, no long line.
fn is_sendable(octets: &[u8]) -> bool {
    octets.split_inclusive(|b| *b == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= 998 && !text.contains(&b'\r') && !text.contains(&b'\n') && !text.contains(&0)
    })
}

/// A report's body: the three parts, framed.
pub(super) fn body(boundary: &str, human: &str, status: &str, returned: &Returned<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(human.len() + status.len() + returned.octets.len() + 1024);
    let mut part = |head: &str, octets: &[u8]| {
        out.extend_from_slice(format!("--{boundary}\r\n{head}\r\n").as_bytes());
        out.extend_from_slice(octets);
        // This line end belongs to the delimiter (RFC 2046 §5.1.1), so the octets come back as they were.
        out.extend_from_slice(b"\r\n");
    };
    part(
        "Content-Type: text/plain; charset=us-ascii\r\nContent-Description: Notification\r\n",
        human.as_bytes(),
    );
    part(
        "Content-Type: message/delivery-status\r\nContent-Description: Delivery report\r\n",
        status.as_bytes(),
    );
    let encoding = if returned.has_8bit() { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
    let head =
        format!("Content-Type: {}\r\nContent-Description: Your message\r\n{encoding}", returned.content_type);
    part(&head, returned.octets);
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

/// A delimiter of 128 random bits that occurs in none of the parts (DSN-22).
pub(super) fn boundary(random: u128, parts: [&[u8]; 3]) -> String {
    let mut n = random;
    loop {
        let candidate = format!("=_{n:032x}");
        let occurs = |part: &[u8]| part.windows(candidate.len()).any(|w| w == candidate.as_bytes());
        if !parts.into_iter().any(occurs) {
            return candidate;
        }
        // Another value each time, and the parts hold finitely many.
        n = n.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    }
}

/// The content of message/delivery-status (RFC 3464 §2): the per-message group, then one per recipient.
pub(super) fn delivery_status(
    kind: DsnKind,
    message: &MessageMeta,
    reported: &[Reported<'_>],
    ctx: &DsnContext<'_>,
) -> String {
    let mut out = String::new();
    if let Some(envid) = &message.envid {
        field(&mut out, "Original-Envelope-Id", &sanitise(&envid.decoded()));
    }
    field(&mut out, "Reporting-MTA", &format!("dns; {}", ctx.settings.hostname));
    field(&mut out, "Arrival-Date", &message.arrived.to_rfc5322());
    field(&mut out, "X-Sealpost-Queue-ID", &message.id.to_string());
    for r in reported {
        out.push_str("\r\n");
        recipient(&mut out, kind, message, r);
    }
    out
}

fn recipient(out: &mut String, kind: DsnKind, message: &MessageMeta, r: &Reported<'_>) {
    // Spec: verbatim, xtext included (DSN-10); other senders of DSNs decode it. Only beyond ASCII it changes.
    if let Some(orcpt) = &r.recipient.orcpt {
        field(out, "Original-Recipient", &seven_bit(&orcpt.to_string()));
    }
    let address = r.recipient.path.to_string();
    let addr_type = if address.is_ascii() { "rfc822" } else { "utf-8" };
    field(out, "Final-Recipient", &format!("{addr_type}; {}", seven_bit(&address)));
    let action = match kind {
        DsnKind::Failed => "failed",
        DsnKind::Delayed { .. } => "delayed",
        DsnKind::Relayed => "relayed",
    };
    field(out, "Action", action);
    field(out, "Status", &status(kind, message, r).to_string());
    // Only what a remote host said (RFC 3464 §2.3.5, §2.3.6), and not to our password (DSN-17).
    if let Some(code) = r.diagnosis.code.filter(|_| r.diagnosis.stage != Stage::Auth) {
        if let Some(host) = &r.diagnosis.host {
            field(out, "Remote-MTA", &format!("dns; {host}"));
        }
        field(out, "Diagnostic-Code", &format!("smtp; {}", spoken(code, r)));
    }
    field(out, "Last-Attempt-Date", &r.diagnosis.at.to_rfc5322());
    if let DsnKind::Delayed { retry_until, .. } = kind {
        field(out, "Will-Retry-Until", &retry_until.to_rfc5322());
    }
}

/// Whether TLS, or what vouches for it, is what a message with REQUIRETLS waited for.
pub(super) fn for_required_tls(message: &MessageMeta, r: &Reported<'_>) -> bool {
    let d = r.diagnosis;
    let by_own_rule = d.unmet.as_ref().is_some_and(Unmet::is_own_rule);
    message.sender_tls == SenderTls::Required
        && !by_own_rule
        // Whether there is a policy counts as well, and not being able to find out is a failed lookup, 4.4.3 (RTLS-29).
        && (d.stage == Stage::Policy || d.enhanced.subject == 7 && d.tls_failure.is_some())
}

/// RFC 3464 §2.3.4: of the class that the action is of. An ended lifetime keeps its transient status (DSN-09), but where the
/// TLS that the sender required was what it ended for (RFC 8689 §4.2.1, RTLS-29).
fn status(kind: DsnKind, message: &MessageMeta, r: &Reported<'_>) -> EnhancedCode {
    let code = r.diagnosis.enhanced;
    match kind {
        DsnKind::Failed if r.expired && for_required_tls(message, r) => EnhancedCode::new(5, 7, 10),
        DsnKind::Failed if r.expired && code.class != 4 => EnhancedCode::new(4, 4, 7),
        DsnKind::Failed if code.class == 2 => EnhancedCode::new(5, 0, 0),
        DsnKind::Delayed { .. } if code.class != 4 => EnhancedCode::new(4, 0, 0),
        DsnKind::Relayed if code.class != 2 => EnhancedCode::new(2, 0, 0),
        _ => code,
    }
}

/// The remote's reply as it was spoken, made safe again (DSN-21): what the text quotes, else code and text. `x.0.0` is what we
/// fill in where a remote gave no enhanced code.
pub(super) fn spoken(code: u16, r: &Reported<'_>) -> String {
    if let Some(reply) = r.diagnosis.quoted_reply() {
        return sanitise(reply);
    }
    let e = r.diagnosis.enhanced;
    let text = sanitise(&r.diagnosis.text);
    let said_enhanced = (e.subject, e.detail) != (0, 0) && u16::from(e.class) == code / 100;
    let enhanced = if said_enhanced { format!(" {e}") } else { String::new() };
    format!("{code}{enhanced} {text}").trim_end().to_owned()
}

/// An address in the 7-bit form of RFC 6533 §3 (utf-8-addr-xtext).
pub(super) fn seven_bit(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            c if c.is_ascii() => out.push('?'),
            c => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
            }
        }
    }
    out
}

/// One field, folded.
pub(super) fn field(out: &mut String, name: &str, body: &str) {
    let text = format!("{name}: {body}");
    if text.len() <= COLUMNS {
        // As it is: blanks in a quoted local part count.
        out.push_str(&text);
        out.push_str("\r\n");
        return;
    }
    out.push_str(&wrap(&text, "", "\t", LONGEST_WORD));
}

/// Breaks text at blanks into lines of at most [`COLUMNS`], each ending in CRLF; a longer word stands alone,
/// and one beyond `longest` is cut into pieces.
pub(super) fn wrap(text: &str, first: &str, others: &str, longest: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let mut rest = word;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at_checked(longest.min(rest.len())).unwrap_or((rest, ""));
            rest = tail;
            if !empty && line.len() + 1 + piece.len() > COLUMNS {
                out.push_str(&line);
                out.push_str("\r\n");
                others.clone_into(&mut line);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(piece);
            empty = false;
        }
    }
    out.push_str(&line);
    out.push_str("\r\n");
    out
}
