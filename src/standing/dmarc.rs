//! DMARC from the sender's side (RFC 7489): the policy that is published, and whether a signature aligns with it.

use crate::mail::Domain;

/// A published policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dmarc {
    /// The domain whose record it is: the From domain, or one above it.
    pub domain: Domain,
    /// `p=`, or `sp=` for a domain below it.
    pub policy: String,
    /// `adkim=s`: only signatures of the From domain itself align.
    pub strict: bool,
}

/// Names above the From domain that are asked for a record.
const MOST_PARENTS: usize = 7;

/// The domains whose `_dmarc` is looked at for mail from `from`, in order: the first that has a record counts.
pub fn candidates(from: &Domain) -> Vec<Domain> {
    let mut names = vec![from.clone()];
    let mut text = from.as_str();
    while let Some((_, parent)) = text.split_once('.') {
        // Nobody signs for a top-level domain.
        if !parent.contains('.') || names.len() > MOST_PARENTS {
            break;
        }
        names.extend(Domain::parse_host(parent));
        text = parent;
    }
    names
}

/// The policy for `from` that the TXT records at `_dmarc.<at>` publish; `None` when they publish none, or several
/// (RFC 7489 §6.6.3).
pub fn read(from: &Domain, at: &Domain, txt: &[Vec<u8>]) -> Option<Dmarc> {
    let mut found = txt.iter().filter_map(|t| tags(t));
    let (Some(tags), None) = (found.next(), found.next()) else { return None };
    let tag = |name: &str| tags.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_ascii_lowercase());
    let policy = if from == at { tag("p") } else { tag("sp").or_else(|| tag("p")) };
    Some(Dmarc {
        domain: at.clone(),
        policy: policy.unwrap_or_else(|| "none".to_owned()),
        strict: tag("adkim").as_deref() == Some("s"),
    })
}

/// The tags of a record that begins with `v=DMARC1` (RFC 7489 §6.4).
fn tags(text: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut tags = text.split(';').map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name.trim().to_ascii_lowercase(), value.trim().to_owned())
    });
    let first = tags.next()?;
    (first == ("v".to_owned(), "DMARC1".to_owned())).then(|| tags.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(name: &str) -> Domain {
        Domain::parse_host(name).unwrap()
    }

    #[test]
    fn the_domain_and_those_above_it_are_asked() {
        let names = |from: &str| candidates(&d(from)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("example.net"), ["example.net"]);
        assert_eq!(names("a.b.example.net"), ["a.b.example.net", "b.example.net", "example.net"]);
        assert_eq!(candidates(&d(&format!("{}example.net", "a.".repeat(40)))).len(), 8);
    }

    #[test]
    fn one_record_counts_and_two_do_not() {
        let from = d("a.example.net");
        for (txt, at, want) in [
            (&["v=DMARC1; p=reject"][..], "a.example.net", Some(("reject", false))),
            (&["v=DMARC1;p=Reject;sp=none;adkim=S"], "a.example.net", Some(("reject", true))),
            (&["v=DMARC1; p=reject; sp=quarantine"], "example.net", Some(("quarantine", false))),
            (&["v=DMARC1; p=reject"], "example.net", Some(("reject", false))),
            (&["v=DMARC1"], "example.net", Some(("none", false))),
            (&["v=spf1 -all", "v = DMARC1 ; p=none"], "example.net", Some(("none", false))),
            (&["v=DMARC1; p=none", "v=DMARC1; p=none"], "example.net", None),
            (&["p=none; v=DMARC1"], "example.net", None),
            (&["v=DMARC10; p=none"], "example.net", None),
            (&[], "example.net", None),
        ] {
            let txt: Vec<_> = txt.iter().map(|t| t.as_bytes().to_vec()).collect();
            let got = read(&from, &d(at), &txt);
            let want =
                want.map(|(policy, strict)| Dmarc { domain: d(at), policy: policy.to_owned(), strict });
            assert_eq!(got, want, "{txt:?}");
        }
    }
}
