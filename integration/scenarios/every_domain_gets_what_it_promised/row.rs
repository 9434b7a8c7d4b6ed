//! A row: a domain, how it is set up, and what must become of its mail.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::stage::Stage;
use crate::world::relay::Relay;
use crate::world::{PATIENCE, eventually};

/// The session of a domain that promised nothing, when it is encrypted.
pub(super) const FREE: &[&str] = &["no-policy-found +1 -0"];

/// One domain.
pub(super) struct Row {
    pub(super) domain: &'static str,
    /// The requirements that it shows.
    ids: &'static str,
    pub(super) stage: fn(&mut Stage<'_>),
    /// What changes once the relay knows the policy.
    pub(super) later: Option<fn(&mut Stage<'_>)>,
    /// One for each recipient, who are `a@`, `b@` and so on.
    pub(super) wants: Vec<Want>,
    /// The address of the one recipient, where it is an odd one.
    address: Option<&'static str>,
    pub(super) parameters: &'static str,
    pub(super) body: String,
    /// The counters of the TLS report: `sts +1 -0`, or with failures `sts +0 -1 certificate-expired`.
    records: &'static [&'static str],
    /// Connections to each host, where the number matters.
    connections: Option<&'static [usize]>,
    /// No host may see MAIL, the one that delivers apart.
    mail_may_be_seen: bool,
    /// What else must hold, as a text for each thing that does not.
    more: Option<fn(&Stage<'_>) -> Vec<String>>,
    pub(super) delivered_on_retry: bool,
}

/// What becomes of one recipient's mail.
#[derive(Debug, Clone)]
pub(super) struct Want {
    outcome: &'static str,
    /// Security level of a delivery, enhanced code of anything else.
    how: &'static str,
    /// The host that takes it, by its place.
    by: Option<usize>,
    tls_failure: Option<&'static str>,
    maybe_delivered: bool,
}

/// Delivered at this security level by the first host.
pub(super) const fn delivered(level: &'static str) -> Want {
    Want { outcome: "delivered", how: level, by: Some(0), tls_failure: None, maybe_delivered: false }
}

/// It waits, with this enhanced code.
pub(super) const fn waits(enhanced: &'static str) -> Want {
    Want { outcome: "deferred", how: enhanced, by: None, tls_failure: None, maybe_delivered: false }
}

/// It is returned, with this enhanced code.
pub(super) const fn returned(enhanced: &'static str) -> Want {
    Want { outcome: "bounced", how: enhanced, by: None, tls_failure: None, maybe_delivered: false }
}

impl Want {
    pub(super) const fn by(mut self, host: usize) -> Self {
        self.by = Some(host);
        self
    }

    /// Any of the hosts may take it.
    pub(super) const fn by_any(mut self) -> Self {
        self.by = None;
        self
    }

    pub(super) const fn because(mut self, tls_failure: &'static str) -> Self {
        self.tls_failure = Some(tls_failure);
        self
    }

    pub(super) const fn uncertain(mut self) -> Self {
        self.maybe_delivered = true;
        self
    }

    pub(super) fn is_bounce(&self) -> bool {
        self.outcome == "bounced"
    }

    fn compare(&self, line: &Map<String, Value>, stage: &Stage<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |key: &str, want: Value| {
            // The log writes what there is not as an empty text.
            let got = line.get(key).filter(|v| !v.is_null()).cloned().unwrap_or_else(|| "".into());
            if got != want {
                wrong.push(format!("{key} is {got}, not {want}"));
            }
        };
        expect("outcome", self.outcome.into());
        let delivered = self.outcome == "delivered";
        expect(if delivered { "security" } else { "enhanced" }, self.how.into());
        if !delivered {
            // A delivery has no cause of failure; what a testing policy found is in the records.
            expect("tls_failure", self.tls_failure.unwrap_or_default().into());
        }
        if self.maybe_delivered {
            expect("maybe_delivered", true.into());
        }
        if let Some(host) = self.by {
            expect("mx", stage.hosts[host].name().trim_end_matches('.').to_ascii_lowercase().into());
        }
        wrong
    }
}

/// A domain with one recipient.
pub(super) fn row(
    domain: &'static str,
    ids: &'static str,
    stage: fn(&mut Stage<'_>),
    want: Want,
    records: &'static [&'static str],
) -> Row {
    Row {
        domain,
        ids,
        stage,
        later: None,
        wants: vec![want],
        address: None,
        parameters: "",
        body: "Hello.".to_owned(),
        records,
        connections: None,
        mail_may_be_seen: false,
        more: None,
        delivered_on_retry: false,
    }
}

impl Row {
    /// What changes after the relay has fetched the policy.
    pub(super) fn then(mut self, later: fn(&mut Stage<'_>)) -> Self {
        self.later = Some(later);
        self
    }

    /// Further recipients.
    pub(super) fn and(mut self, wants: &[Want]) -> Self {
        self.wants.extend_from_slice(wants);
        self
    }

    pub(super) fn to(mut self, address: &'static str, parameters: &'static str) -> Self {
        self.address = Some(address);
        self.parameters = parameters;
        self
    }

    pub(super) fn parameters(mut self, parameters: &'static str) -> Self {
        self.parameters = parameters;
        self
    }

    pub(super) fn body(mut self, body: String) -> Self {
        self.body = body;
        self
    }

    pub(super) fn connections(mut self, each: &'static [usize]) -> Self {
        self.connections = Some(each);
        self
    }

    /// The host refuses later than at MAIL.
    pub(super) fn dialogue(mut self) -> Self {
        self.mail_may_be_seen = true;
        self
    }

    pub(super) fn more(mut self, more: fn(&Stage<'_>) -> Vec<String>) -> Self {
        self.more = Some(more);
        self
    }

    pub(super) fn delivered_on_retry(mut self) -> Self {
        self.delivered_on_retry = true;
        self
    }

    /// The recipients as the application writes them.
    pub(super) fn addresses(&self) -> impl Iterator<Item = String> + '_ {
        let plain = (b'a'..=b'z').map(char::from).zip(&self.wants);
        plain.map(|(l, _)| self.address.map_or_else(|| format!("{l}@{}", self.domain), str::to_owned))
    }

    /// The recipients as the relay writes them: the domain in A-labels and lower case.
    pub(super) fn recipients(&self) -> impl Iterator<Item = String> + '_ {
        self.addresses().map(|a| format!("{}@{}", a.split('@').next().unwrap_or_default(), self.domain))
    }
}

/// Says `broken` where `holds` is false.
pub(super) fn unless(holds: bool, broken: &str) -> Vec<String> {
    if holds { Vec::new() } else { vec![broken.to_owned()] }
}

/// Waits for the first attempt and compares everything; a text for the row when something is wrong.
pub(super) async fn check(relay: &Relay, row: &Row, stage: &Stage<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut texts = Vec::new();
    for (recipient, want) in row.recipients().zip(&row.wants) {
        let first = async || relay.deliveries_to(&recipient).into_iter().next();
        let Some(line) = eventually(PATIENCE, first).await else {
            wrong.push(format!("{recipient}: no attempt"));
            continue;
        };
        texts.push(line.get("text").map_or_else(String::new, Value::to_string));
        wrong.extend(want.compare(&line, stage).into_iter().map(|w| format!("{recipient}: {w}")));
    }
    wrong.extend(check_hosts(row, stage, true));
    let want: Vec<String> = row.records.iter().map(|r| (*r).to_owned()).collect();
    let same = async || alike(&records(relay, row.domain), &want).then_some(());
    if eventually(PATIENCE, same).await.is_none() {
        wrong.push(format!("records are {:?}, not {want:?}", records(relay, row.domain)));
    }
    wrong.extend(row.more.map(|more| more(stage)).unwrap_or_default());
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "{} ({}):\n    {}\n    said {}",
        row.domain,
        row.ids,
        wrong.join("\n    "),
        texts.join(", ")
    )]
}

/// Whether the counters are the wanted ones. `*` stands for a reason that the requirements leave open, or alone
/// for counters that depend on chance.
fn alike(got: &[String], want: &[String]) -> bool {
    let word = |(g, w): (&str, &str)| match w.strip_suffix('*') {
        Some(start) => g.len() > start.len() && g.starts_with(start),
        None => g == w,
    };
    let entry = |(g, w): (&String, &String)| {
        g.split(' ').count() == w.split(' ').count() && g.split(' ').zip(w.split(' ')).all(word)
    };
    *want == ["*"] || got.len() == want.len() && got.iter().zip(want).all(entry)
}

/// The second attempt of what waited.
pub(super) async fn check_again(relay: &Relay, row: &Row, stage: &Stage<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let waiting = row.recipients().zip(&row.wants).filter(|(_, w)| w.outcome == "deferred");
    for (recipient, _) in waiting {
        let second = async || relay.deliveries_to(&recipient).into_iter().nth(1);
        let Some(line) = eventually(PATIENCE, second).await else {
            wrong.push(format!("{recipient}: no second attempt"));
            continue;
        };
        let wanted = if row.delivered_on_retry {
            line["outcome"] == "delivered"
        } else {
            line["outcome"] != "bounced"
        };
        if !wanted {
            wrong.push(format!("{recipient}: {} {}", line["outcome"], line["text"]));
        }
    }
    if row.delivered_on_retry {
        wrong.extend(unless(stage.messages() == 1, "not one message"));
    } else {
        wrong.extend(check_hosts(row, stage, false));
    }
    wrong.into_iter().map(|w| format!("{} ({}): {w}", row.domain, row.ids)).collect()
}

fn check_hosts(row: &Row, stage: &Stage<'_>, first: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let taker = row.wants.iter().find(|w| w.outcome == "delivered");
    for (i, host) in stage.hosts.iter().enumerate() {
        let seen = host.seen();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                wrong.push(format!("{}: {what}", host.name()));
            }
        };
        if let Some(each) = row.connections.filter(|each| first || each.iter().all(|n| *n == 0)) {
            let got = seen.connections.len();
            expect(got == each[i], format!("{got} connections, not {}", each[i]));
        }
        let takes = taker.is_some_and(|w| w.by.is_none_or(|by| by == i));
        let mails = seen.mail_commands(true) + seen.mail_commands(false);
        if !takes && !row.mail_may_be_seen {
            expect(mails == 0, format!("saw MAIL {mails} times"));
        }
        match taker {
            Some(want) if takes => {
                let plain = want.how == "plain";
                let fits = seen.messages.iter().all(|m| m.tls != plain);
                expect(
                    fits && (plain || seen.mail_commands(false) == 0),
                    "content in the wrong clothes".into(),
                );
                expect(want.by.is_none() || !seen.messages.is_empty(), "took nothing".into());
            }
            _ if row.mail_may_be_seen => {}
            _ => expect(seen.messages.is_empty(), "was given content".into()),
        }
    }
    let copies = stage.messages();
    // A domain without a host of its own shares another's.
    if taker.is_some() && copies == 0 && !stage.hosts.is_empty() {
        wrong.push("delivered, and no host has it".to_owned());
    }
    wrong
}

/// The TLS-RPT counters of a domain, folded or not, as the rows write them.
pub(crate) fn records(relay: &Relay, domain: &str) -> Vec<String> {
    #[derive(Default)]
    struct Count {
        success: i64,
        failure: i64,
        details: BTreeMap<String, i64>,
    }
    let database = relay.database();
    // One read transaction, lest a record be folded between the two looks.
    let read = database.unchecked_transaction().unwrap();
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let kind = |policy: &Value| policy["type"].as_str().unwrap_or("?").to_owned();
    let detail = |result: &str, reason: &str| {
        if reason.is_empty() { result.to_owned() } else { format!("{result}/{reason}") }
    };

    let mut raw = read.prepare("SELECT body FROM session_record").unwrap();
    for body in raw.query_map([], |r| r.get::<_, String>(0)).unwrap() {
        let record: Value = serde_json::from_str(&body.unwrap()).unwrap();
        if record["report_domain"] != domain {
            continue;
        }
        for verdict in record["verdicts"].as_array().unwrap() {
            let count = counts.entry(kind(&verdict["policy"])).or_default();
            let success = verdict["success"].as_bool().unwrap();
            count.success += i64::from(success);
            count.failure += i64::from(!success);
            for d in verdict["details"].as_array().unwrap() {
                let name = detail(d["result"].as_str().unwrap(), d["reason"].as_str().unwrap_or(""));
                *count.details.entry(name).or_default() += 1;
            }
        }
    }
    let mut folded =
        read.prepare("SELECT p.id, policy, success, failure FROM counted_policy p JOIN counted_day c ON c.id = p.counted WHERE domain = ?1").unwrap();
    let rows = folded.query_map([domain], |r| {
        Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?, r.get::<_, i64>(3)?))
    });
    let mut details = read
        .prepare("SELECT result, reason, sum(count) FROM counted_detail WHERE policy = ?1 GROUP BY 1, 2")
        .unwrap();
    for row in rows.unwrap() {
        let (id, policy, success, failure) = row.unwrap();
        let count = counts.entry(kind(&serde_json::from_str(&policy).unwrap())).or_default();
        count.success += success;
        count.failure += failure;
        let found = details
            .query_map([id], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?)));
        for d in found.unwrap() {
            let (result, reason, n) = d.unwrap();
            *count.details.entry(detail(&result, &reason)).or_default() += n;
        }
    }
    let text = |(kind, count): (String, Count)| {
        let details =
            count.details.into_iter().map(|(name, n)| if n == 1 { name } else { format!("{name}*{n}") });
        let details: Vec<String> = details.collect();
        format!("{kind} +{} -{} {}", count.success, count.failure, details.join(" ")).trim_end().to_owned()
    };
    counts.into_iter().map(text).collect()
}
