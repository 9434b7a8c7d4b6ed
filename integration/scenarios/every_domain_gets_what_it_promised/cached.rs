//! What a policy that the relay knows already is good for, when the domain's DNS or web server then says
//! something else or nothing (RFC 8461 §3.3, §5.1, §10.2).

use super::row::{Row, delivered, row, unless, waits};
use crate::world::ca::Flaw;
use crate::world::dns::Fault;
use crate::world::mx::StartTls;
use crate::world::policy_host::Page;
use crate::world::policy_text;
use hickory_resolver::proto::rr::RecordType;

/// No host is contacted, nothing is asked about a domain that may not exist, nothing is returned.
macro_rules! contradicted {
    ($domain:literal, $ids:literal, $code:literal, $later:expr) => {
        row(
            $domain,
            $ids,
            |s| {
                s.mx();
                s.enforce();
            },
            waits($code),
            &[],
        )
        .then($later)
        .connections(&[0])
    };
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "kept-web-dead.example",
            "STS-28",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .then(|s| s.policy_host_dies())
        .more(|s| unless(s.requests() == 0, "fetched although the id is the same")),
        row(
            "kept-web-dead-expired.example",
            "STS-28, D21",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        )
        .then(|s| s.policy_host_dies()),
        row(
            "kept-txt-gone.example",
            "STS-12",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0 sts-policy-fetch-error/txt-missing"],
        )
        .then(|s| s.dns().remove(&s.txt_name())),
        row(
            "kept-txt-gone-stripped.example",
            "D36",
            |s| {
                s.mx();
                s.enforce();
            },
            waits("4.7.4").because("starttls-not-supported"),
            &["sts +0 -1 starttls-not-supported sts-policy-fetch-error/txt-missing"],
        )
        .then(|s| {
            s.dns().remove(&s.txt_name());
            s.hosts[0].behave(|b| b.starttls = StartTls::Stripped);
        }),
        row(
            "kept-txt-two.example",
            "STS-12",
            |s| {
                s.flawed(Flaw::WrongName);
                s.enforce();
            },
            waits("4.7.5").because("certificate-host-mismatch"),
            &["sts +0 -1 certificate-host-mismatch sts-policy-fetch-error/txt-missing"],
        )
        .then(|s| s.dns().txts(&s.txt_name(), &[&["v=STSv1; id=1;"], &["v=STSv1; id=2;"]])),
        row(
            "kept-txt-servfail.example",
            "STS-14, STS-28",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0 sts-policy-fetch-error/txt-error"],
        )
        .then(|s| s.dns().fault(&s.txt_name(), Some(Fault::ServFail))),
        row(
            "kept-txt-servfail-broken.example",
            "STS-14, D30",
            |s| {
                s.flawed(Flaw::UntrustedIssuer);
                s.enforce();
            },
            waits("4.7.5").because("certificate-not-trusted"),
            &["sts +0 -1 certificate-not-trusted/unknown-issuer sts-policy-fetch-error/txt-error"],
        )
        .then(|s| s.dns().fault(&s.txt_name(), Some(Fault::ServFail))),
        row(
            "kept-new-id-500.example",
            "D29, STS-28",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0 sts-policy-fetch-error/http-500"],
        )
        .then(|s| {
            s.txt("v=STSv1; id=2;");
            s.serve(Page::status(500));
        })
        .more(|s| unless(s.requests() == 1, "not one request")),
        row(
            "kept-new-id-500-expired.example",
            "D30",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired sts-policy-fetch-error/http-500"],
        )
        .then(|s| {
            s.txt("v=STSv1; id=2;");
            s.serve(Page::status(500));
        }),
        row(
            "kept-new-id-dead.example",
            "D30",
            |s| {
                s.mx();
                s.enforce();
            },
            waits("4.7.4").because("starttls-not-supported"),
            &["sts +0 -1 starttls-not-supported sts-policy-fetch-error/connect"],
        )
        .then(|s| {
            s.txt("v=STSv1; id=2;");
            s.policy_host_dies();
            s.hosts[0].behave(|b| b.starttls = StartTls::Stripped);
        }),
        row(
            "kept-new-id-invalid.example",
            "STS-44",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0 sts-policy-invalid/*"],
        )
        .then(|s| {
            s.txt("v=STSv1; id=2;");
            s.serve(Page::policy("version: STSv1\nmode: nothing\n"));
        }),
        row(
            "kept-new-id-invalid-expired.example",
            "STS-44",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired sts-policy-invalid/*"],
        )
        .then(|s| {
            s.txt("v=STSv1; id=2;");
            s.serve(Page::policy("version: STSv1\nmode: none\n"));
        }),
        row(
            "kept-new-id-redirect.example",
            "STS-19, STS-28",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired sts-policy-fetch-error/redirect"],
        )
        .then(|s| {
            s.txt("v=STSv1; id=2;");
            s.serve(Page { headers: "Location: /\r\n".to_owned(), ..Page::status(302) });
        }),
        row(
            "kept-new-id-webpki.example",
            "STS-28, D33",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("verified"),
            &["sts +1 -0 sts-webpki-invalid/*"],
        )
        .then(|s| {
            s.txt("v=STSv1; id=2;");
            s.certify_policy_host(Flaw::SelfSigned, &["mta-sts.@"]);
        }),
        row(
            "kept-then-none.example",
            "STS-51",
            |s| {
                s.mx();
                s.enforce();
            },
            delivered("plain"),
            &["no-policy-found +0 -1 starttls-not-supported"],
        )
        .then(|s| {
            s.policy("none", &[]);
            s.txt("v=STSv1; id=2;");
            s.hosts[0].behave(|b| b.starttls = StartTls::Stripped);
        }),
        row(
            "kept-then-testing.example",
            "STS-47",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
            },
            delivered("encrypted"),
            &["sts +0 -1 certificate-expired"],
        )
        .then(|s| {
            s.policy("testing", &["mx.@"]);
            s.txt("v=STSv1; id=2;");
        }),
        row(
            "kept-then-stricter.example",
            "STS-47",
            |s| {
                s.mx();
                s.policy("testing", &["mx.@"]);
            },
            waits("4.7.0").because("validation-failure"),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .then(|s| {
            s.policy("enforce", &["other.@"]);
            s.txt("v=STSv1; id=2;");
        })
        .connections(&[0]),
        row(
            "kept-then-listed.example",
            "STS-47",
            |s| {
                s.mx();
                s.policy("enforce", &["old.@"]);
            },
            delivered("verified"),
            &["sts +1 -0"],
        )
        .then(|s| {
            s.enforce();
            s.txt("v=STSv1; id=A;");
        }),
        row(
            "kept-testing-stripped.example",
            "STS-73",
            |s| {
                s.mx();
                s.policy("testing", &["mx.@"]);
            },
            delivered("plain"),
            &["sts +0 -1 starttls-not-supported sts-policy-fetch-error/txt-missing"],
        )
        .then(|s| {
            s.dns().remove(&s.txt_name());
            s.hosts[0].behave(|b| b.starttls = StartTls::Stripped);
        }),
        row(
            "kept-none-txt-gone.example",
            "STS-51, RPT-64",
            |s| {
                s.mx();
                s.policy("none", &[]);
            },
            delivered("encrypted"),
            &["no-policy-found +1 -0"],
        )
        .then(|s| s.dns().remove(&s.txt_name())),
        row(
            "kept-new-mx.example",
            "STS-65, D27",
            |s| {
                s.mx();
                s.enforce();
            },
            waits("4.7.0").because("validation-failure"),
            &["sts +0 -1 validation-failure/sts-mx-mismatch"],
        )
        .then(|s| {
            s.host("mx.attacker.@");
            s.dns().mx(s.domain, &[(10, &s.name("mx.attacker.@"))]);
        })
        .connections(&[0, 0]),
        contradicted!("kept-null-mx.example", "D04, NMX-06", "4.7.0", |s| s.dns().mx(s.domain, &[(0, ".")]))
            .more(|s| unless(s.requests() == 0, "the policy was asked for")),
        contradicted!("kept-nxdomain.example", "NMX-06, A-16", "4.7.0", |s| s
            .dns()
            .fault(s.domain, Some(Fault::NxDomain))),
        contradicted!("kept-mx-servfail.example", "D01, OUT-03", "4.4.3", |s| s
            .dns()
            .fault(s.domain, Some(Fault::ServFail))),
        contradicted!("kept-mx-loops.example", "OUT-09", "4.4.4", |s| s
            .dns()
            .mx(s.domain, &[(10, "relay.lab.example")])),
        contradicted!("kept-mx-loopback.example", "OUT-09", "4.4.4", |s| s
            .dns()
            .a(&s.name("mx.@"), "127.0.0.1".parse().unwrap())),
        contradicted!("kept-mx-private.example", "OUT-09", "4.4.4", |s| s
            .dns()
            .a(&s.name("mx.@"), "10.1.2.3".parse().unwrap())),
        contradicted!("kept-no-address.example", "OUT-09, R10", "4.4.4", |s| s.dns().remove(&s.name("mx.@"))),
        contradicted!("kept-implicit-no-address.example", "OUT-09, R10", "4.4.4", |s| s
            .dns()
            .mx(s.domain, &[])),
        contradicted!("kept-mx-dead.example", "D28", "4.4.1", |s| s
            .dns()
            .a(&s.name("mx.@"), s.world.next_address().ip())),
        row(
            "kept-signed-null-mx.example",
            "NMX-06",
            |s| {
                s.mx();
                s.enforce();
            },
            super::row::returned("5.1.10"),
            &[],
        )
        .then(|s| {
            s.dns().mx(s.domain, &[(0, ".")]);
            s.dns().sign(s.domain);
        })
        .connections(&[0]),
        row(
            "kept-txt-error-none.example",
            "STS-51",
            |s| {
                s.mx();
                s.policy("none", &[]);
            },
            delivered("encrypted"),
            &["no-policy-found +1 -0"],
        )
        .then(|s| s.dns().fault_for(&s.txt_name(), RecordType::TXT, Fault::ServFail)),
        row(
            "kept-body-before-id.example",
            "STS-47, STS-55",
            |s| {
                s.flawed(Flaw::Expired);
                s.enforce();
            },
            waits("4.7.5").because("certificate-expired"),
            &["sts +0 -1 certificate-expired"],
        )
        .then(|s| s.serve(Page::policy(&policy_text("none", &[] as &[&str]))))
        // STS-55: the attempt after an enforce failure looks at the file whatever the id says.
        .delivered_on_retry(),
    ]
}
