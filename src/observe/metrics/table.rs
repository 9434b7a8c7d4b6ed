//! Every metric once: its name, what it means, and what to alert on. Help texts of a scrape, the manual ([`ALL`]) and the
//! tests are made from this table.
//!
//! Prometheus has its rules for names: the prefix of the program, base units, `_total` for what only grows.

use Kind::{Counter, Gauge, Histogram};

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name, as in a query.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells, in a sentence or two: the help text of a scrape.
    pub help: &'static str,
    /// What to alert on, as PromQL with a word on it; empty where it is for looking only.
    pub alert: &'static str,
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows, from 0 at each start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values in buckets with these upper ends, and one without end.
    Histogram(&'static [f64]),
}

/// Seconds of what happens on this machine or next to it: a commit, a lookup.
const QUICK: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
/// Seconds of what happens with hosts elsewhere: a fetch, an attempt.
const REMOTE: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];
/// Seconds from acceptance to delivery: from a moment to the lifetime of a message.
const DELAYS: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0,
    259_200.0,
];
/// Jobs of one commit: up to the most that a commit takes.
const JOBS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

macro_rules! metrics {
    ($($constant:ident $name:literal $kind:expr, [$($label:literal)*], $help:literal, $alert:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $constant: Metric =
                Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help, alert: $alert };
        )*

        /// All of them, in the order of a message's way through the relay:
        ///
        /// | metric | labels | what it tells | what to alert on |
        /// | --- | --- | --- | --- |
        $(#[doc = concat!("| `", $name, "` | ", $("`", $label, "` ",)* "| ", $help, " | ", $alert, " |")])*
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD "sealpost_build_info" Gauge, ["version"],
        "Always 1; the label names the release that runs.", "";
    STARTED "sealpost_start_time_seconds" Gauge, [],
        "When the relay started, in seconds since 1970.",
        "`changes(sealpost_start_time_seconds[1h]) > 3`: it starts again and again; see its log.";
    SCRAPE_COMPLETE "sealpost_scrape_complete" Gauge, [],
        "1 when the store answered for this scrape in time; 0 when not, and then what it would have told is missing.",
        "`sealpost_scrape_complete == 0` for 10 minutes.";

    SUBMISSION_CONNECTIONS "sealpost_submission_connections_total" Counter, ["result"],
        "Connections of submitting clients, accepted or turned away at a limit.",
        "`increase(sealpost_submission_connections_total{result=\"turned_away\"}[10m]) > 0`: a client has lost its way, or \
         `submission.max_connections` is too low.";
    SUBMISSION_OPEN "sealpost_submission_connections_open" Gauge, [],
        "Connections of submitting clients that are open now.", "";
    SUBMISSION_AUTH "sealpost_submission_auth_total" Counter, ["result"],
        "AUTH commands by result; error: the password could not be checked.",
        "`rate(sealpost_submission_auth_total{result=\"failure\"}[15m]) > 1`: somebody guesses, or an application has an old \
         password.";
    SUBMISSION_REFUSALS "sealpost_submission_refusals_total" Counter, ["stage" "reply"],
        "What submitting clients were refused, at a command or at the end of content, with 4xx or 5xx.",
        "`rate(sealpost_submission_refusals_total{stage=\"content\"}[15m]) > 0`: applications lose mail, or keep it for \
         later; the log event `refused` says why.";
    MESSAGES_ACCEPTED "sealpost_messages_accepted_total" Counter, [],
        "Messages taken over from clients: committed and answered with 250.",
        "`rate(sealpost_messages_accepted_total[1h]) == 0` where there always is mail.";
    BYTES_ACCEPTED "sealpost_messages_accepted_bytes_total" Counter, [],
        "Octets of these messages.", "";
    NOTIFICATIONS "sealpost_notifications_total" Counter, ["kind"],
        "Notifications to senders that were put into the queue: outcome (of failure, or of relaying) and delay.", "";
    DOUBLE_BOUNCES "sealpost_double_bounces_total" Counter, [],
        "Notifications that could not be delivered themselves and were dropped.",
        "`increase(sealpost_double_bounces_total[1h]) > 10`: mail with a sender that does not exist is submitted.";

    QUEUE_RECIPIENTS "sealpost_queue_recipients" Gauge, ["state" "cause"],
        "Recipients still owed a delivery, by state and by what they wait for.",
        "`sum by (cause) (sealpost_queue_recipients{cause=~\"tls_.+\\|tlsa_lookup\\|policy_mx\"}) > 0` for 4 hours: a domain \
         breaks its promise; `sealpost_queue_recipients{cause=\"auth\"} > 0`: the next hop refuses our password; \
         `sealpost_queue_recipients{state=\"held\"} > 0`: rows are damaged.";
    QUEUE_OLDEST "sealpost_queue_oldest_age_seconds" Gauge, [],
        "Since when the oldest message in the queue has been there; 0 for an empty queue.",
        "`sealpost_queue_oldest_age_seconds > 86400`: mail goes back to its sender when `queue.max_age` is reached.";
    QUEUE_DOMAIN "sealpost_queue_domain_recipients" Gauge, ["domain"],
        "Recipients that wait, of the 50 domains with most of them, each counted up to 20000; `other` is the rest.", "";
    QUEUE_SUSPENDED "sealpost_queue_domains_suspended" Gauge, [],
        "Domains left alone for a while because no host of theirs can be reached.",
        "`sealpost_queue_domains_suspended > 50`: when there are many, it is this network that is cut off.";

    ATTEMPTS_RUNNING "sealpost_attempts_running" Gauge, [],
        "Delivery attempts under way now.", "";
    ATTEMPT_DURATION "sealpost_attempt_duration_seconds" Histogram(REMOTE), [],
        "How long attempts take, each for one message and domain, from the first lookup to the last outcome.",
        "`rate(sealpost_attempt_duration_seconds_count[15m]) == 0 and ignoring (state) sealpost_queue_recipients{state=\"queued\"} \
         > 0`: mail is not even tried.";
    DELIVERED "sealpost_recipients_delivered_total" Counter, ["security"],
        "Recipients whose mail the remote host took, by how the session was secured.", "";
    DEFERRED "sealpost_recipients_deferred_total" Counter, ["cause"],
        "Recipients that an attempt left waiting, by cause.",
        "`rate(sealpost_recipients_deferred_total{cause=\"local\"}[10m]) > 0`: this machine lacks something; see the log.";
    BOUNCED "sealpost_recipients_bounced_total" Counter, ["cause"],
        "Recipients returned to their sender, by cause.",
        "`increase(sealpost_recipients_bounced_total{cause=\"expired\"}[1h]) > 0`: mail waited for its whole lifetime in vain; \
         a sudden rise of `rejected`: receivers do not want this mail.";
    DELIVERY_DELAY "sealpost_delivery_delay_seconds" Histogram(DELAYS), [],
        "Time from acceptance to delivery, per recipient delivered.",
        "`histogram_quantile(0.9, rate(sealpost_delivery_delay_seconds_bucket[30m])) > 300`.";

    CONNECTIONS_OPENED "sealpost_connections_opened_total" Counter, [],
        "Sessions with remote hosts that were opened and came up to MAIL.", "";
    CONNECTIONS_FAILED "sealpost_connections_failed_total" Counter, ["stage"],
        "Sessions with remote hosts that did not come about, by how far they came.",
        "`rate(sealpost_connections_failed_total{stage=\"connect\"}[15m]) > ignoring (stage) 5 * \
         rate(sealpost_connections_opened_total[15m])`: port 25 may be blocked on the way out.";
    CONNECTIONS_REUSED "sealpost_connections_reused_total" Counter, [],
        "Times that an open session served another message.", "";
    CONNECTIONS_OPEN "sealpost_connections_open" Gauge, [],
        "Sessions with remote hosts that are open now, idle ones included.", "";

    TLS_SESSIONS "sealpost_tls_sessions_total" Counter, ["security" "version"],
        "Sessions opened that were good enough for their mail, by security level and TLS version.",
        "the share of `security=\"plain\"` rises: somebody may strip STARTTLS on the way.";
    TLS_FAILURES "sealpost_tls_failures_total" Counter, ["type" "effect"],
        "Sessions that failed a promise or a handshake, by RFC 8460 result type; refused: mail waited; passed: it went all the \
         same (nothing was promised, testing mode, an exception, or the sender's wish).",
        "`increase(sealpost_tls_failures_total{effect=\"refused\"}[1h]) > 0`: mail waits for a promise; `sealpost queue list` \
         names the domains.";
    FALLBACKS "sealpost_plaintext_fallbacks_total" Counter, ["cause"],
        "Sessions used in the clear because STARTTLS was offered and failed; incompatible: the host offers nothing that this \
         relay takes, TLS 1.2 being the least.",
        "";

    EXCEPTION_END "sealpost_exception_end_timestamp_seconds" Gauge, ["domain" "allow"],
        "The last moment of each `[[exception]]`, in seconds since 1970.",
        "`sealpost_exception_end_timestamp_seconds - time() < 7 * 86400 and sealpost_exception_in_force == 1`: mail for the \
         domain waits again soon.";
    EXCEPTION_IN_FORCE "sealpost_exception_in_force" Gauge, ["domain" "allow"],
        "1 while an `[[exception]]` is in force, 0 when its day is over or it has ended early.", "";
    EXCEPTION_ENDED_EARLY "sealpost_exception_ended_early" Gauge, ["domain" "allow"],
        "1 when an `[[exception]]` ended before its day, because a session showed that the domain is sound.",
        "`sealpost_exception_ended_early == 1`: remove it.";
    EXCEPTION_RECIPIENTS "sealpost_exception_recipients_total" Counter, ["domain" "allow"],
        "Recipients delivered by an `[[exception]]`: without it their mail would have waited.", "";

    POLICY_FETCHES "sealpost_policy_fetches_total" Counter, ["result"],
        "MTA-STS policies asked for over HTTPS, by result: success, an RFC 8460 result type, or busy (all permitted fetches were \
         under way).",
        "";
    POLICY_FETCH_DURATION "sealpost_policy_fetch_duration_seconds" Histogram(REMOTE), [],
        "How long these fetches took.", "";
    REFRESHES_FAILED "sealpost_policy_refreshes_failed_total" Counter, ["severity"],
        "Refreshes of stored policies that failed; urgent: the policy runs out soon. Mode none is not counted.",
        "`increase(sealpost_policy_refreshes_failed_total{severity=\"urgent\"}[6h]) > 0`: see `sealpost policy list`.";
    POLICIES "sealpost_policies" Gauge, ["mode"],
        "MTA-STS policies in the cache, by mode.", "";
    POLICIES_FAILING "sealpost_policies_refresh_failing" Gauge, [],
        "Policies in the cache whose last refresh failed.",
        "`sealpost_policies_refresh_failing > 0.2 * sum without (mode) (sealpost_policies)`: HTTPS to the outside does not work.";
    DOWNGRADES "sealpost_policy_downgrades_total" Counter, ["cause"],
        "Enforce policies that hold no more: withdrawn by the domain, or expired because they could not be had again.",
        "`increase(sealpost_policy_downgrades_total{cause=\"expired\"}[1d]) > 0`.";

    DNS_LOOKUPS "sealpost_dns_lookups_total" Counter, ["record" "result" "dnssec"],
        "Questions to the resolver, answers from the cache apart, by record type, result, and whether the answer was \
         authenticated (`none`: there was no answer).",
        "`sum(rate(sealpost_dns_lookups_total{result=~\"servfail\\|timeout\\|unreachable\"}[10m])) > 0.5 * \
         sum(rate(sealpost_dns_lookups_total[10m]))`: the resolver is down; a rise of `result=\"bogus\"`: DNSSEC is broken \
         somewhere.";
    DNS_LOOKUP_DURATION "sealpost_dns_lookup_duration_seconds" Histogram(QUICK), [],
        "How long these questions took.",
        "`histogram_quantile(0.9, rate(sealpost_dns_lookup_duration_seconds_bucket[10m])) > 2`.";
    DNS_CACHE_HITS "sealpost_dns_cache_hits_total" Counter, [],
        "Questions answered from the cache.", "";
    DNS_CACHE_ENTRIES "sealpost_dns_cache_entries" Gauge, ["record"],
        "Answers in the cache, by record type.", "";
    DNSSEC_BELIEVED "sealpost_dnssec_believed" Gauge, [],
        "1 while DNSSEC is believed, by the word of the resolver or by validation here, else 0: without, there is no DANE.",
        "`sealpost_dnssec_believed == 0` where a validating resolver is configured.";
    DNSSEC_PROVEN "sealpost_dnssec_proven" Gauge, [],
        "1 while the self-test has shown that what is signed is told from what is not; only then is REQUIRETLS offered. 0 until \
         the first test has passed, and while `sealpost_dnssec_believed` is 0.",
        "`sealpost_dnssec_proven == 0 and sealpost_dnssec_believed == 1` for 10 minutes: wrong root keys or a dead resolver, by \
         which all mail waits, or a resolver that authenticates nothing.";
    DNSSEC_SELF_TESTS "sealpost_dnssec_self_tests_total" Counter, ["result"],
        "Self-tests of the resolvers: passed, partial (not every answer was as it should be), unauthenticated (nothing counts \
         as signed), unanswered, or disproved (DNSSEC is not believed any more).",
        "`increase(sealpost_dnssec_self_tests_total{result=\"disproved\"}[2h]) > 0`: DANE is off until the resolver is repaired.";
    DANE_HOSTS "sealpost_dane_hosts_total" Counter, ["tlsa"],
        "Hosts of delivery attempts by their TLSA records: found, none (also where DNSSEC vouches for nothing and nobody is \
         asked), or failed, which makes mail wait.",
        "`rate(sealpost_dane_hosts_total{tlsa=\"failed\"}[30m]) > ignoring (tlsa) 0.1 * \
         rate(sealpost_dane_hosts_total{tlsa=\"found\"}[30m])`.";

    REPORTS "sealpost_reports_total" Counter, ["result"],
        "TLS reports of closed days and partial ones: made, unwanted (the domain asks for none), put off, or dropped (a day of \
         sessions was never reported).",
        "`increase(sealpost_reports_total{result=\"dropped\"}[1d]) > 0`.";
    REPORTS_DUE "sealpost_reports_due" Gauge, [],
        "TLS reports that are planned and not made yet.", "";
    REPORT_DESTINATIONS "sealpost_report_destinations" Gauge, ["state"],
        "Destinations of reports that have not ended: waiting to be tried, or queued as mail.", "";
    REPORT_DELIVERIES "sealpost_report_deliveries_total" Counter, ["way" "result"],
        "What tries to hand over reports came to, by way and result.",
        "`increase(sealpost_report_deliveries_total{result=\"failed\"}[1d]) > ignoring (result) \
         increase(sealpost_report_deliveries_total{result=\"accepted\"}[1d])`: see `sealpost report list`.";
    STANDING_PROBLEMS "sealpost_standing_problems" Gauge, [],
        "What the daily look found by which receivers would not believe the reports: DKIM record, SPF, DMARC, contact.",
        "`sealpost_standing_problems > 0`: `sealpost report check` says what to mend.";

    DB_COMMIT_DURATION "sealpost_db_commit_duration_seconds" Histogram(QUICK), [],
        "How long a commit takes with its sync; everything that is promised waits for it.",
        "`histogram_quantile(0.99, rate(sealpost_db_commit_duration_seconds_bucket[10m])) > 0.5`: the disk is too slow.";
    DB_BATCH_JOBS "sealpost_db_batch_jobs" Histogram(JOBS), [],
        "Jobs that shared a commit.", "";
    DB_ERRORS "sealpost_db_errors_total" Counter, ["kind"],
        "Errors of the database: the disk is full, another process holds it, or it is broken.",
        "`increase(sealpost_db_errors_total[10m]) > 0`.";
    DB_DROPPED "sealpost_db_records_dropped_total" Counter, [],
        "Records that nobody waits for (TLS-RPT facts) and that the store could not keep up with.",
        "`increase(sealpost_db_records_dropped_total[1h]) > 0`: reports of the day are short of them.";
    DB_WRITABLE "sealpost_db_writable" Gauge, [],
        "1 while the database takes commits, else 0.",
        "`sealpost_db_writable == 0`: the relay ends within seconds and wants an operator.";
    DB_SIZE "sealpost_db_size_bytes" Gauge, [],
        "Size of the database, without its WAL.", "";
    DISK_FREE "sealpost_disk_free_bytes" Gauge, [],
        "Free octets where the database lies.",
        "`sealpost_disk_free_bytes < 2 * sealpost_disk_reserve_bytes`: below the reserve new mail gets 452.";
    DISK_RESERVE "sealpost_disk_reserve_bytes" Gauge, [],
        "What is kept free: `queue.reserve`, or twice `submission.max_message_size` if that is more.", "";
    CERTIFICATE_END "sealpost_certificate_end_timestamp_seconds" Gauge, [],
        "The end of the certificate of `[tls]`, in seconds since 1970; absent without one.",
        "`sealpost_certificate_end_timestamp_seconds - time() < 14 * 86400`: renew it.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let units = ["_seconds", "_bytes", "_total", "_info"];
        let mut seen = BTreeSet::new();
        for m in ALL {
            let name = m.name;
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("sealpost_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(m.kind == Counter, name.ends_with("_total"), "{name}");
            let stem = name.strip_suffix("_total").unwrap_or(name);
            for wrong in [
                "_ms",
                "_milliseconds",
                "_minutes",
                "_kb",
                "_megabytes",
                "_percent",
                "_count",
                "_sum",
                "_bucket",
            ] {
                assert!(!stem.ends_with(wrong), "{name}: {wrong}");
            }
            for unit in units {
                assert!(!stem.trim_end_matches(unit).contains(unit), "{name}: the unit comes last");
            }
            for label in m.labels {
                assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}: {label}");
                assert!(!["le", "quantile", "job", "instance"].contains(label), "{name}: {label} is taken");
            }
        }
    }

    #[test]
    fn every_metric_says_what_it_tells() {
        for m in ALL {
            assert!(m.help.len() > 10 && m.help.ends_with('.'), "{}: {}", m.name, m.help);
            assert!(!m.help.contains(['\n', '\\', '|']), "{}", m.name);
            // Inside a row of the manual's table a bar is written with a backslash.
            assert!(!m.alert.replace("\\|", "").contains(['\n', '|']), "{}", m.name);
        }
        let silent = ALL.iter().filter(|m| m.alert.is_empty()).count();
        assert!(silent < ALL.len() / 2, "most are there to be alerted on: {silent} of {} are not", ALL.len());
    }

    #[test]
    fn buckets_ascend() {
        for m in ALL {
            if let Histogram(buckets) = m.kind {
                assert!(!buckets.is_empty() && buckets.is_sorted(), "{}", m.name);
            }
        }
    }

    /// The names in a text that are written as metrics, without what a query adds to histograms.
    fn named(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names = words.filter(|w| w.starts_with("sealpost_"));
        let stem =
            |w: &str| ["_bucket", "_count", "_sum"].iter().find_map(|s| w.strip_suffix(s).map(str::to_owned));
        names.map(|w| stem(w).unwrap_or_else(|| w.to_owned())).collect()
    }

    #[test]
    fn alerts_and_readme_speak_of_metrics_that_exist() {
        let known: BTreeSet<String> = ALL.iter().map(|m| m.name.to_owned()).collect();
        for m in ALL {
            assert!(named(m.alert).is_subset(&known), "{}: {}", m.name, m.alert);
        }
        let readme = named(include_str!("../../../README.md"));
        assert!(readme.is_subset(&known), "{:?}", readme.difference(&known).collect::<Vec<_>>());
        assert!(!readme.is_empty(), "the README says what to alert on");
    }
}
