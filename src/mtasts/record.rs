//! The discovery record: TXT at `_mta-sts.<domain>` (RFC 8461 §3.1).

/// Why a set of TXT records names no policy. Never a reason to doubt a cached one (STS-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRecord {
    /// No record begins with `v=STSv1;`.
    Missing,
    /// More than one does.
    Multiple,
    /// The one that does breaks the grammar or lacks a usable id.
    Invalid,
}

impl NoRecord {
    /// In words, for logs and `check`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no STSv1 record",
            Self::Multiple => "more than one STSv1 record",
            Self::Invalid => "a malformed STSv1 record",
        }
    }
}

/// The policy id that the TXT records of `_mta-sts.<domain>` announce, each record's strings already joined.
///
/// # Errors
/// [`NoRecord`] when the records announce none.
pub fn policy_id(records: &[Vec<u8>]) -> Result<String, NoRecord> {
    let mut candidates = records.iter().filter_map(|r| fields_of(r));
    match (candidates.next(), candidates.next()) {
        (None, _) => Err(NoRecord::Missing),
        (Some(_), Some(_)) => Err(NoRecord::Multiple),
        (Some(fields), None) => parse_fields(fields).ok_or(NoRecord::Invalid),
    }
}

/// What follows `v=STSv1 *WSP ";"`; `None` when the record is none of ours (STS-05).
fn fields_of(record: &[u8]) -> Option<&[u8]> {
    let rest = record.strip_prefix(b"v=STSv1")?;
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    rest.get(blanks..)?.strip_prefix(b";")
}

fn parse_fields(fields: &[u8]) -> Option<String> {
    let fields = std::str::from_utf8(fields).ok().filter(|f| f.is_ascii())?;
    let mut fields: Vec<&str> = fields.split(';').map(|f| f.trim_matches(WSP)).collect();
    // One optional delimiter may end the record; an empty field anywhere else breaks the grammar (STS-10).
    // Spec: blanks after the last field, which the ABNF lacks, are let pass; they cannot mean anything.
    if fields.last() == Some(&"") {
        fields.pop();
    }
    let mut id = None;
    for field in fields {
        let (name, value) = field.split_once('=')?;
        if !is_field_name(name) || !is_field_value(value) {
            return None;
        }
        // The first one counts (RFC 8461 §3.2, which speaks of both formats).
        if name == "id" && id.is_none() {
            id = Some(value);
        }
    }
    id.filter(|v| v.len() <= 32 && v.bytes().all(|b| b.is_ascii_alphanumeric())).map(str::to_owned)
}

/// `sts-ext-name`, which is also how keys of the policy file look (RFC 8461 §3.2).
pub(super) fn is_field_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// `sts-ext-value`: printable ASCII without `=`, `;` and blanks.
fn is_field_value(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'=' && b != b';')
}

/// Blank space of both formats.
pub(super) const WSP: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id_of(records: &[&str]) -> Result<String, NoRecord> {
        policy_id(&records.iter().map(|r| r.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    // STS-04..11
    #[test]
    fn a_single_record_gives_its_id_or_nothing() {
        let longest = format!("v=STSv1; id={};", "a".repeat(32));
        let too_long = format!("v=STSv1; id={};", "a".repeat(33));
        let long_name = format!("v=STSv1; id=1; {}=x", "n".repeat(32));
        let too_long_name = format!("v=STSv1; id=1; {}=x", "n".repeat(33));
        for (text, want) in [
            ("v=STSv1; id=1;", Ok("1")),
            ("v=STSv1 ; id=1", Ok("1")),
            ("v=STSv1\t;\tid=1", Ok("1")),
            ("v=STSv1;id=1", Ok("1")),
            ("v=STSv1;\tid=1 ; ", Ok("1")),
            ("v=STSv1; x=y; id=1", Ok("1")),
            ("v=STSv1; id=abC9;", Ok("abC9")),
            ("v=STSv1; id=a; id=b", Ok("a")),
            ("v=STSv1; id=1; future.x=Y", Ok("1")),
            ("v=STSv1; id=1; v=STSv1", Ok("1")),
            (&longest, Ok(&longest[12..44])),
            (&long_name, Ok("1")),
            ("v=STSv1", Err(NoRecord::Missing)),
            ("V=STSv1; id=1", Err(NoRecord::Missing)),
            (" v=STSv1; id=1", Err(NoRecord::Missing)),
            ("v=STSv1x; id=1", Err(NoRecord::Missing)),
            ("v=stsv1; id=1", Err(NoRecord::Missing)),
            ("id=1; v=STSv1;", Err(NoRecord::Missing)),
            ("v=STSv1;", Err(NoRecord::Invalid)),
            ("v=STSv1; id=", Err(NoRecord::Invalid)),
            ("v=STSv1; id=2024-01-01", Err(NoRecord::Invalid)),
            ("v=STSv1; id=a_b", Err(NoRecord::Invalid)),
            (&too_long, Err(NoRecord::Invalid)),
            (&too_long_name, Err(NoRecord::Invalid)),
            ("v=STSv1; ID=1", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1; bad", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1; k=", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1; k=a=b", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1; k=a b", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1; -k=a", Err(NoRecord::Invalid)),
            ("v=STSv1;;id=1", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1;;", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1; k=ü", Err(NoRecord::Invalid)),
            ("v=STSv1; id=1\u{0}", Err(NoRecord::Invalid)),
        ] {
            assert_eq!(id_of(&[text]), want.map(str::to_owned), "{text:?}");
        }
    }

    // STS-04
    #[test]
    fn exactly_one_candidate_must_remain() {
        assert_eq!(id_of(&[]), Err(NoRecord::Missing));
        assert_eq!(id_of(&["v=spf1 -all", "v=STSv1; id=1"]), Ok("1".into()));
        assert_eq!(id_of(&["v=STSv1; id=1", "v=STSv1; id=2"]), Err(NoRecord::Multiple));
        assert_eq!(id_of(&["v=STSv1; id=1", "v=STSv1; bad"]), Err(NoRecord::Multiple));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic_and_ids_are_alphanumeric(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
            tail in "[ -~]{0,40}",
        ) {
            let mut records = records;
            records.push(format!("v=STSv1;{tail}").into_bytes());
            if let Ok(id) = policy_id(&records) {
                prop_assert!((1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()));
            }
        }
    }
}
