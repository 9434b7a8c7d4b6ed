//! The body of a report as RFC 8460 §4.4 and the ledger (RPT-40 to RPT-61) want it, checked member by member.
//!
//! Written from the specification and knowing nothing of the program: a reader of its own that refuses what I-JSON
//! refuses (RFC 7493), then the schema, which names every member that may occur.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// What I-JSON can say, of which a report uses no fraction, no `null` and no truth value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Text(String),
    Count(u64),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Strict;
        impl<'de> Visitor<'de> for Strict {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, an array, a string or an integer below 2^53")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Json, E> {
                if n < 1 << 53 {
                    Ok(Json::Count(n))
                } else {
                    Err(E::custom("RPT-40: an integer of 2^53 or more"))
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
                let bad =
                    |c: char| matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe;
                if text.chars().any(bad) {
                    return Err(E::custom("RPT-40: a noncharacter (RFC 7493 §2.1)"));
                }
                Ok(Json::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    list.push(element);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members: Vec<(String, Json)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Json>()? {
                    if members.iter().any(|(n, _)| *n == name) {
                        return Err(de::Error::custom(format!("RPT-40: {name} occurs twice")));
                    }
                    members.push((name, value));
                }
                Ok(Json::Object(members))
            }
        }
        d.deserialize_any(Strict)
    }
}

impl Json {
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The value at `a/0/b`.
    pub(crate) fn at(&self, path: &str) -> &Self {
        path.split('/').fold(self, |v, name| match v {
            Self::List(list) => &list[name.parse::<usize>().unwrap()],
            other => other.get(name).unwrap_or_else(|| panic!("no {name} of {path}")),
        })
    }
}

/// Reads and checks a report.
pub(crate) fn check(octets: &[u8]) -> Result<Json, String> {
    if octets.starts_with(b"\xef\xbb\xbf") {
        return Err("RPT-40: a byte order mark".to_owned());
    }
    let body: Json = serde_json::from_slice(octets).map_err(|e| e.to_string())?;
    let names = ["organization-name", "date-range", "contact-info", "report-id", "policies"];
    members(&body, &names, &[])?;
    text(&body, "organization-name")?;
    let contact = text(&body, "contact-info")?;
    let submitter = contact.rsplit_once('@').ok_or("RPT-43: contact-info is no address")?.1;
    let range = body.get("date-range").ok_or("no date-range")?;
    members(range, &["start-datetime", "end-datetime"], &[])?;
    let (start, end) = (text(range, "start-datetime")?, text(range, "end-datetime")?);
    if !is_moment(start) || !start.ends_with("T00:00:00Z") || !is_moment(end) || start[..10] != end[..10] {
        return Err(format!("RPT-42: {start} to {end}"));
    }
    let id = text(&body, "report-id")?;
    let (left, right) = id.rsplit_once('@').ok_or("RPT-44: no @ in the report-id")?;
    let day: String = start[..10].chars().filter(char::is_ascii_digit).collect();
    if right != submitter
        || !left.starts_with(&format!("{day}."))
        || ![left, right].iter().all(|p| is_dot_atom(p))
    {
        return Err(format!("RPT-44: {id}"));
    }
    let entries = list(&body, "policies")?;
    for (i, entry) in entries.iter().enumerate() {
        check_entry(entry).map_err(|e| format!("policies[{i}]: {e}"))?;
        if entries[..i].iter().any(|other| other.get("policy") == entry.get("policy")) {
            return Err(format!("RPT-45: policies[{i}] occurs twice"));
        }
    }
    Ok(body)
}

fn check_entry(entry: &Json) -> Result<(), String> {
    members(entry, &["policy", "summary", "failure-details"], &[])?;
    let policy = entry.get("policy").ok_or("no policy")?;
    let kind = text(policy, "policy-type")?;
    let (must, may): (&[&str], &[&str]) = match kind {
        // Absent together when nothing could be fetched (RPT-26).
        "sts" => (&["policy-type", "policy-domain"], &["policy-string", "mx-host"]),
        // Absent where no records could be had: `dnssec-invalid`, `dane-required`.
        "tlsa" => (&["policy-type", "policy-domain"], &["policy-string"]),
        "no-policy-found" => (&["policy-type", "policy-domain"], &[]),
        other => return Err(format!("RPT-46: policy-type {other}")),
    };
    members(policy, must, may)?;
    let domain = text(policy, "policy-domain")?;
    if !is_host(domain) {
        return Err(format!("RPT-48: policy-domain {domain}"));
    }
    for name in ["policy-string", "mx-host"] {
        if policy.get(name).is_some() {
            let texts = list(policy, name)?;
            if texts.is_empty() || !texts.iter().all(|t| matches!(t, Json::Text(_))) {
                return Err(format!("RPT-47, RPT-49: {name} is not a list of strings"));
            }
        }
    }
    let summary = entry.get("summary").ok_or("no summary")?;
    let totals = ["total-successful-session-count", "total-failure-session-count"];
    members(summary, &totals, &[])?;
    for name in totals {
        count(summary, name)?;
    }
    for (i, detail) in list(entry, "failure-details")?.iter().enumerate() {
        check_detail(kind, detail).map_err(|e| format!("failure-details[{i}]: {e}"))?;
    }
    Ok(())
}

fn check_detail(kind: &str, detail: &Json) -> Result<(), String> {
    let may = [
        "sending-mta-ip",
        "receiving-mx-hostname",
        "receiving-mx-helo",
        "receiving-ip",
        "additional-information",
        "failure-reason-code",
    ];
    members(detail, &["result-type", "failed-session-count"], &may)?;
    let result = text(detail, "result-type")?;
    let places: &[&str] = match result {
        "starttls-not-supported" | "validation-failure" => &["sts", "tlsa", "no-policy-found"],
        "certificate-host-mismatch" | "certificate-expired" | "certificate-not-trusted" => &["sts", "tlsa"],
        "tlsa-invalid" | "dnssec-invalid" | "dane-required" => &["tlsa"],
        "sts-policy-fetch-error" | "sts-policy-invalid" | "sts-webpki-invalid" => &["sts"],
        other => return Err(format!("RPT-52: result-type {other}")),
    };
    if !places.contains(&kind) {
        return Err(format!("RPT-60, RPT-61: {result} in an entry of type {kind}"));
    }
    if count(detail, "failed-session-count")? == 0 {
        return Err("RPT-57: no session".to_owned());
    }
    for name in ["sending-mta-ip", "receiving-ip"] {
        if detail.get(name).is_some() {
            let ip = text(detail, name)?;
            let parsed: IpAddr = ip.parse().map_err(|_| format!("RPT-53: {name} {ip}"))?;
            let mapped = matches!(parsed, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            if mapped || parsed.to_string() != ip {
                return Err(format!("RPT-53: {name} {ip}"));
            }
        }
    }
    if detail.get("receiving-mx-hostname").is_some() && !is_host(text(detail, "receiving-mx-hostname")?) {
        return Err("RPT-54: receiving-mx-hostname".to_owned());
    }
    for (name, max) in [("receiving-mx-helo", 255), ("failure-reason-code", 128)] {
        if detail.get(name).is_some() {
            let value = text(detail, name)?;
            if value.len() > max || !value.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(format!("RPT-55, RPT-59: {name} {value:?}"));
            }
        }
    }
    Ok(())
}

/// Exactly these members, `may` being those that may be absent.
fn members(object: &Json, must: &[&str], may: &[&str]) -> Result<(), String> {
    let Json::Object(members) = object else { return Err("not an object".to_owned()) };
    if let Some(name) = must.iter().find(|n| object.get(n).is_none()) {
        return Err(format!("{name} is missing"));
    }
    match members.iter().find(|(n, _)| !must.contains(&n.as_str()) && !may.contains(&n.as_str())) {
        Some((name, _)) => Err(format!("{name} has no place here")),
        None => Ok(()),
    }
}

/// Present and not empty.
fn text<'a>(object: &'a Json, name: &str) -> Result<&'a str, String> {
    match object.get(name) {
        Some(Json::Text(t)) if !t.is_empty() => Ok(t),
        other => Err(format!("{name}: {other:?}")),
    }
}

fn count(object: &Json, name: &str) -> Result<u64, String> {
    match object.get(name) {
        Some(Json::Count(n)) => Ok(*n),
        other => Err(format!("{name}: {other:?}")),
    }
}

fn list<'a>(object: &'a Json, name: &str) -> Result<&'a [Json], String> {
    match object.get(name) {
        Some(Json::List(l)) => Ok(l),
        other => Err(format!("{name}: {other:?}")),
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`.
fn is_moment(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:ddZ";
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(b, f)| if f == b'd' { b.is_ascii_digit() } else { b == f })
}

/// RFC 5322 §3.2.3 `dot-atom-text`.
fn is_dot_atom(text: &str) -> bool {
    let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(atext))
}

/// A-labels, lower case, no trailing dot.
fn is_host(text: &str) -> bool {
    let ldh = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(ldh))
}
