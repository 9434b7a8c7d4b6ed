//! The discovery record and the policy host (RFC 8461 §3.1, §3.3).

use std::time::Duration;

use super::row::{Row, delivered, row, unless, waits};
use crate::world::ca::Flaw;
use crate::world::dns::Fault;
use crate::world::mx::StartTls;
use crate::world::policy_host::Page;
use hickory_resolver::proto::rr::RecordType;

/// A discovery record that finds nothing: the policy behind it would stop the mail, and is never asked for.
macro_rules! absent {
    ($domain:literal, $ids:literal, $records:expr) => {
        row(
            $domain,
            $ids,
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
                s.dns().remove(&s.txt_name());
                s.dns().txts(&s.txt_name(), $records);
            },
            delivered("encrypted"),
            &["no-policy-found +1 -0"],
        )
        .more(|s| unless(s.requests() == 0, "the policy was asked for"))
    };
}

/// A discovery record that finds the policy, which stops the mail.
macro_rules! found {
    ($domain:literal, $ids:literal, $records:expr) => {
        row(
            $domain,
            $ids,
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
                s.dns().txts(&s.txt_name(), $records);
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        )
        .more(|s| unless(s.requests() == 1, "not one request"))
    };
}

/// A policy host that gives no policy: nothing is promised as far as can be known, and it is reported.
macro_rules! unfetched {
    ($domain:literal, $ids:literal, $change:expr, $record:literal) => {
        row(
            $domain,
            $ids,
            |s| {
                s.flawed(Flaw::SelfSigned);
                s.enforce();
                let change: fn(&super::stage::Stage<'_>) = $change;
                change(s);
            },
            delivered("encrypted"),
            &[$record],
        )
    };
}

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: *.@\nmax_age: 604800\n";

pub(super) fn rows() -> Vec<Row> {
    [record(), policy_host()].into_iter().flatten().collect()
}

fn record() -> Vec<Row> {
    vec![
        absent!("txt-none.example", "STS-04", &[]),
        absent!("txt-spf-only.example", "STS-04", &[&["v=spf1 -all"]]),
        absent!("txt-two.example", "STS-04, RPT-62", &[&["v=STSv1; id=1;"], &["v=STSv1; id=2;"]]),
        absent!("txt-id-missing.example", "STS-07", &[&["v=STSv1;"]]),
        absent!("txt-id-dashes.example", "STS-07", &[&["v=STSv1; id=2024-01-01;"]]),
        absent!("txt-id-long.example", "STS-07", &[&["v=STSv1; id=123456789012345678901234567890123;"]]),
        absent!("txt-capitals.example", "STS-05", &[&["V=STSv1; id=1;"]]),
        absent!("txt-version-second.example", "STS-06", &[&["id=1; v=STSv1;"]]),
        absent!("txt-empty-field.example", "STS-10", &[&["v=STSv1;;id=1"]]),
        found!("txt-blank.example", "STS-05, A-01", &[&["v=STSv1 ; id=1"]]),
        found!("txt-split.example", "STS-02", &[&["v=STSv1; i", "d=1;"]]),
        found!("txt-beside-spf.example", "STS-04", &[&["v=spf1 -all"], &["v=STSv1; id=1;"]]),
        found!("txt-future.example", "STS-08", &[&["v=STSv1; future.x=Y; id=1"]]),
        found!("txt-id-twice.example", "STS-09", &[&["v=STSv1; id=a; id=b"]]),
        row(
            "txt-alias.example",
            "STS-03",
            |s| {
                s.mx();
                s.enforce();
                s.dns().cname(&s.txt_name(), "_mta-sts.provider.txt-alias.example");
                s.dns().txt("_mta-sts.provider.txt-alias.example", "v=STSv1; id=1;");
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .more(|s| unless(s.requests() == 1, "not one request to the domain's own policy host")),
        row(
            "txt-servfail.example",
            "D34, STS-14",
            |s| {
                s.mx();
                s.dns().fault(&s.txt_name(), Some(Fault::ServFail));
            },
            waits("4.4.3"),
            &[],
        )
        .connections(&[0]),
        row(
            "txt-refused.example",
            "D34, STS-14",
            |s| {
                s.mx();
                s.dns().fault(&s.txt_name(), Some(Fault::Refused));
            },
            waits("4.4.3"),
            &[],
        )
        .connections(&[0]),
        row(
            "txt-silent.example",
            "D34, STS-14",
            |s| {
                s.mx();
                s.dns().fault(&s.txt_name(), Some(Fault::Silent));
            },
            waits("4.4.3"),
            &[],
        )
        .connections(&[0]),
        row(
            "sub.parent.example",
            "STS-61",
            |s| {
                s.behaving(|b| b.starttls = StartTls::Stripped);
                s.world.publish_policy("parent.example", "1", "enforce", &["*.sub.parent.example"]);
            },
            delivered("plain"),
            &["no-policy-found +0 -1 starttls-not-supported"],
        )
        .more(|s| unless(s.asked_txt("_mta-sts.parent.example") == 0, "the parent's policy was looked up")),
    ]
}

fn policy_host() -> Vec<Row> {
    vec![
        unfetched!(
            "http-404.example",
            "STS-18, STS-27",
            |s| s.serve(Page::status(404)),
            "sts +0 -1 sts-policy-fetch-error/http-404"
        ),
        unfetched!(
            "http-500.example",
            "D31",
            |s| s.serve(Page::status(500)),
            "sts +0 -1 sts-policy-fetch-error/http-500"
        ),
        unfetched!(
            "http-204.example",
            "STS-18",
            |s| s.serve(Page { status: 206, ..Page::policy(&s.name(POLICY)) }),
            "sts +0 -1 sts-policy-fetch-error/http-206"
        ),
        row(
            "http-redirect.example",
            "STS-19",
            |s| {
                s.flawed(Flaw::SelfSigned);
                s.enforce();
                s.world.publish_policy(
                    "target.http-redirect.example",
                    "1",
                    "enforce",
                    &["mx.http-redirect.example"],
                );
                let headers = format!(
                    "Location: https://mta-sts.target.http-redirect.example:{}/.well-known/mta-sts.txt\r\n",
                    s.world.port
                );
                s.serve(Page { headers, ..Page::status(301) });
            },
            delivered("encrypted"),
            &["sts +0 -1 sts-policy-fetch-error/redirect"],
        )
        .more(|s| {
            let target = s.world.policies.requests("mta-sts.target.http-redirect.example");
            unless(s.requests() == 1 && target.is_empty(), "the redirect was followed")
        }),
        unfetched!(
            "http-html.example",
            "STS-21",
            |s| s.serve(Page { content_type: "text/html".to_owned(), ..Page::policy(&s.name(POLICY)) }),
            "sts +0 -1 sts-policy-fetch-error/media-type"
        ),
        unfetched!(
            "http-untyped.example",
            "STS-21",
            |s| s.serve(Page { content_type: String::new(), ..Page::policy(&s.name(POLICY)) }),
            "sts +0 -1 sts-policy-fetch-error/media-type"
        ),
        unfetched!(
            "http-gzip.example",
            "STS-23",
            |s| s.serve(Page {
                headers: "Content-Encoding: gzip\r\n".to_owned(),
                ..Page::policy(&s.name(POLICY))
            }),
            "sts +0 -1 sts-policy-fetch-error/*"
        ),
        unfetched!(
            "http-slow.example",
            "STS-22",
            |s| s.serve(Page { delay: Duration::from_secs(3600), ..Page::policy(&s.name(POLICY)) }),
            "sts +0 -1 sts-policy-fetch-error/timeout"
        ),
        row(
            "http-charset.example",
            "STS-21",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
                s.serve(Page {
                    content_type: "Text/Plain; charset=iso-8859-1; x=y".to_owned(),
                    ..Page::policy(&s.name(POLICY))
                });
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        ),
        unfetched!(
            "web-no-address.example",
            "STS-27",
            |s| s.dns().remove(&s.policy_host()),
            "sts +0 -1 sts-policy-fetch-error/dns"
        ),
        unfetched!(
            "web-servfail.example",
            "STS-27",
            |s| s.dns().fault(&s.policy_host(), Some(Fault::ServFail)),
            "sts +0 -1 sts-policy-fetch-error/dns"
        ),
        unfetched!(
            "web-refused.example",
            "STS-27",
            |s| s.policy_host_dies(),
            "sts +0 -1 sts-policy-fetch-error/connect"
        ),
        unfetched!(
            "web-loopback.example",
            "STS-30",
            |s| s.policy_host_at("127.0.0.1"),
            "sts +0 -1 sts-policy-fetch-error/policy-host-address-forbidden"
        ),
        unfetched!(
            "web-private.example",
            "STS-30",
            |s| s.policy_host_at("10.0.0.1"),
            "sts +0 -1 sts-policy-fetch-error/policy-host-address-forbidden"
        ),
        unfetched!(
            "web-expired.example",
            "D33, STS-17",
            |s| s.certify_policy_host(Flaw::Expired, &["mta-sts.@"]),
            "sts +0 -1 sts-webpki-invalid/*"
        ),
        unfetched!(
            "web-not-yet.example",
            "STS-17",
            |s| s.certify_policy_host(Flaw::NotYetValid, &["mta-sts.@"]),
            "sts +0 -1 sts-webpki-invalid/*"
        ),
        unfetched!(
            "web-self-signed.example",
            "STS-17",
            |s| s.certify_policy_host(Flaw::SelfSigned, &["mta-sts.@"]),
            "sts +0 -1 sts-webpki-invalid/*"
        ),
        unfetched!(
            "web-unknown-authority.example",
            "STS-17",
            |s| s.certify_policy_host(Flaw::UntrustedIssuer, &["mta-sts.@"]),
            "sts +0 -1 sts-webpki-invalid/*"
        ),
        unfetched!(
            "web-name.example",
            "STS-17",
            |s| s.certify_policy_host(Flaw::None, &["@"]),
            "sts +0 -1 sts-webpki-invalid/*"
        ),
        unfetched!(
            "web-common-name.example",
            "STS-17",
            |s| s.certify_policy_host(Flaw::CommonNameOnly, &["mta-sts.@"]),
            "sts +0 -1 sts-webpki-invalid/*"
        ),
        unfetched!(
            "web-partial-wildcard.example",
            "STS-17",
            |s| s.certify_policy_host(Flaw::None, &["*.*.example"]),
            "sts +0 -1 sts-webpki-invalid/*"
        ),
        row(
            "web-wildcard.example",
            "STS-17",
            |s| {
                s.mx();
                s.enforce();
                s.certify_policy_host(Flaw::None, &["*.@"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .more(|s| {
            let requests = s.world.policies.requests(&s.policy_host());
            let good = requests.iter().all(|r| {
                r.line == "GET /.well-known/mta-sts.txt HTTP/1.1"
                    && !r.headers.to_ascii_lowercase().contains("if-none-match")
            });
            // A question to the DNS is repeated when no answer comes in time; a request to the policy host is not.
            unless(
                requests.len() == 1 && good && s.dns().asked(&s.txt_name(), RecordType::TXT) >= 1,
                "the requests",
            )
        }),
        row(
            "web-no-certificate.example",
            "STS-27",
            |s| {
                s.flawed(Flaw::SelfSigned);
                s.txt("v=STSv1; id=1;");
                s.policy_host_at(&s.world.address(3).ip().to_string());
            },
            delivered("encrypted"),
            &["sts +0 -1 sts-policy-fetch-error/*"],
        ),
    ]
}
