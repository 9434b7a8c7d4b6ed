//! The body of somebody else's report, read with the patience that the field asks for.
//!
//! Where peers differ from RFC 8460 §4.4 and what was meant is plain, it is taken as meant: one thing where a list
//! belongs, a number as text, `""` and `null` for what is absent. Names that are not known are kept or ignored.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::tlsrpt::report::{Body, DateRange, Detail, Entry, MAX_COUNT, Policy, Summary};

/// Reads one report. `Ok(None)`: JSON, but no TLS report.
pub(super) fn body(json: &[u8]) -> Result<Option<Body>, serde_json::Error> {
    let raw: RawBody = serde_json::from_slice(json)?;
    let Some(policies) = raw.policies else { return Ok(None) };
    Ok(Some(Body {
        organization_name: raw.organization_name.0,
        date_range: DateRange {
            start_datetime: raw.date_range.start_datetime.0,
            end_datetime: raw.date_range.end_datetime.0,
        },
        contact_info: raw.contact_info.0,
        report_id: raw.report_id.0,
        policies: policies.0.into_iter().map(RawEntry::into_entry).collect(),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct RawBody {
    organization_name: Text,
    date_range: RawRange,
    contact_info: Text,
    report_id: Text,
    policies: Option<Many<RawEntry>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawRange {
    start_datetime: Text,
    end_datetime: Text,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawEntry {
    policy: RawPolicy,
    summary: RawSummary,
    failure_details: Many<RawDetail>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawPolicy {
    policy_type: Text,
    policy_string: Many<Text>,
    policy_domain: Text,
    // The example of RFC 8460 App. B and the text of §4.4 differ in the name (erratum 6241).
    #[serde(alias = "mx-host-pattern")]
    mx_host: Many<Text>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawSummary {
    total_successful_session_count: Count,
    total_failure_session_count: Count,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawDetail {
    result_type: Text,
    sending_mta_ip: Text,
    receiving_mx_hostname: Text,
    receiving_mx_helo: Text,
    receiving_ip: Text,
    failed_session_count: Count,
    additional_information: Text,
    // Its name in the drafts.
    #[serde(alias = "failure-error-code")]
    failure_reason_code: Text,
}

impl RawEntry {
    fn into_entry(self) -> Entry {
        let texts = |many: Many<Text>| many.0.into_iter().map(|t| t.0).filter(|t| !t.is_empty()).collect();
        Entry {
            policy: Policy {
                policy_type: self.policy.policy_type.0,
                policy_string: texts(self.policy.policy_string),
                policy_domain: self.policy.policy_domain.0,
                mx_host: texts(self.policy.mx_host),
            },
            summary: Summary {
                total_successful_session_count: self.summary.total_successful_session_count.0,
                total_failure_session_count: self.summary.total_failure_session_count.0,
            },
            failure_details: self.failure_details.0.into_iter().map(RawDetail::into_detail).collect(),
        }
    }
}

impl RawDetail {
    fn into_detail(self) -> Detail {
        let some = |t: Text| Some(t.0).filter(|t| !t.is_empty());
        Detail {
            result_type: self.result_type.0,
            sending_mta_ip: some(self.sending_mta_ip),
            receiving_mx_hostname: some(self.receiving_mx_hostname),
            receiving_mx_helo: some(self.receiving_mx_helo),
            receiving_ip: some(self.receiving_ip),
            failed_session_count: self.failed_session_count.0,
            additional_information: some(self.additional_information),
            failure_reason_code: some(self.failure_reason_code),
        }
    }
}

/// A string, also as a number; `null` is the empty one.
#[derive(Default)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.trim().to_owned()))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Text, E> {
        Ok(Text(n.to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
        Ok(Text::default())
    }
}

/// A number of sessions, also as text or with a fraction of zero; `null` is 0.
#[derive(Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of sessions")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Count, E> {
        Ok(Count(n.min(MAX_COUNT)))
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Count, E> {
        // By its decimal form: casting would be a silent cut.
        self.visit_str(&n.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
        let wrong = || E::custom(format_args!("{text:?} is not a number of sessions"));
        self.visit_u64(text.trim().parse().map_err(|_| wrong())?)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Count, E> {
        Ok(Count(0))
    }
}

/// A list, or the one thing that belongs into it; `null` is the empty one.
struct Many<T>(Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Many<T>, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX_ELEMENTS {
            match seq.next_element()? {
                Some(element) => list.push(element),
                None => return Ok(Many(list)),
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Many(list)),
            Some(_) => Err(de::Error::custom(format_args!("a list of more than {MAX_ELEMENTS} elements"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Many<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| Many(vec![one]))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Many<T>, E> {
        if text.is_empty() {
            return Ok(Many::default());
        }
        T::deserialize(StrDeserializer::new(text)).map(|one| Many(vec![one]))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Many<T>, E> {
        Ok(Many::default())
    }
}

const MAX_ELEMENTS: usize = 100_000;
