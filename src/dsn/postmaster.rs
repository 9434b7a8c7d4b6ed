//! The part of a notification that is made to be forwarded to the postmaster of the recipient's domain.

use super::compose::{DsnContext, DsnKind, Reported};
use super::words::{Page, date};
use crate::queue::outcome::{CertificateFacts, Promise, Stage};
use crate::queue::{DeferReason, MessageMeta};
use crate::tlsrpt::ResultType;

/// The paragraph made to be forwarded: what was published, which check failed at which host with which
/// certificate, since when, what will happen and until when, and what the postmaster can do.
pub(super) fn for_postmaster(
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
        if !promise.would_match.is_empty() {
            page.entry("Matches", &promise.would_match.join(", "));
        }
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
        Some(ResultType::TlsaInvalid | ResultType::DnssecInvalid) => format!(
            "publish TLSA records that match the certificate of {host}, in a zone with working DNSSEC."
        ),
        _ => format!(
            "check that {host} offers STARTTLS with TLS 1.2 or 1.3 on port 25, with a valid certificate for \
             its name, and that the published policy of {domain} names it."
        ),
    }
}
