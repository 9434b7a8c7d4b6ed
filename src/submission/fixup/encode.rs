//! Raw UTF-8 in a header without SMTPUTF8: RFC 2047 encoded words where the grammar has room for them (SIG-17).

use base64::Engine as _;

use super::{Refused, from};

/// Rewrites a field that has non-ASCII text so that it is ASCII, and appends it with its CRLF.
///
/// # Errors
/// 550 5.6.7 for an address, 550 5.6.9 for a structured field without room for encoded words.
pub(super) fn encode_field(name: &str, body: &str, out: &mut Vec<u8>) -> Result<(), Refused> {
    let is_one_of = |list: &[&str]| list.iter().any(|n| n.eq_ignore_ascii_case(name));
    if is_one_of(STRUCTURED) {
        return Err(Refused::needs_smtputf8(9, name));
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    if is_one_of(ADDRESSES) {
        encode_addresses(name, body, out)?;
    } else {
        encode_text(body, out);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Fields that hold addresses (RFC 5322 §3.6), where only a display name can be encoded.
const ADDRESSES: &[&str] = &[
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Disposition-Notification-To",
    "Errors-To",
];

/// Fields of ids, dates and parameters: no encoded word may stand there (RFC 2047 §5).
const STRUCTURED: &[&str] = &[
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Received",
    "Resent-Date",
    "Resent-Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Disposition",
    "DKIM-Signature",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
    "Authentication-Results",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Auto-Submitted",
];

fn encode_addresses(name: &str, body: &str, out: &mut Vec<u8>) -> Result<(), Refused> {
    let list = from::parse_mailboxes(body, name)?;
    for (i, written) in list.iter().enumerate() {
        if !written.address.is_ascii() {
            return Err(Refused::needs_smtputf8(7, name));
        }
        if i > 0 {
            out.extend_from_slice(b",\r\n");
        }
        if written.name.is_empty() {
            out.push(b' ');
        } else if written.name.is_ascii() {
            push_phrase(&written.name, out);
        } else {
            out.push(b' ');
            encode_words(&written.name, out);
            out.extend_from_slice(b"\r\n ");
        }
        out.extend_from_slice(format!("<{}>", written.address).as_bytes());
    }
    Ok(())
}

/// An ASCII display name, quoted unless it is made of atoms and encoded words already.
fn push_phrase(name: &str, out: &mut Vec<u8>) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" !#$%&'*+-/=?^_`{|}~".contains(&b);
    out.push(b' ');
    if name.bytes().all(plain) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'"');
        for b in name.bytes() {
            if matches!(b, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(b);
        }
        out.push(b'"');
    }
    out.push(b' ');
}

/// Unstructured text: runs of words with non-ASCII characters become encoded words, all else stays.
fn encode_text(body: &str, out: &mut Vec<u8>) {
    let words: Vec<&str> = body.split([' ', '\t', '\r', '\n']).filter(|w| !w.is_empty()).collect();
    let is_encoded = |w: &&&str| w.starts_with("=?") && w.ends_with("?=");
    let mut column = 0;
    let mut i = 0;
    while let Some(word) = words.get(i) {
        if word.is_ascii() {
            // Generated lines aim at 78 columns (RFC 5322 §2.1.1).
            if column > 0 && column + word.len() > 70 {
                out.extend_from_slice(b"\r\n");
                column = 0;
            }
            out.push(b' ');
            out.extend_from_slice(word.as_bytes());
            column += word.len() + 1;
            i += 1;
            continue;
        }
        let end = words.iter().skip(i).position(|w| w.is_ascii()).map_or(words.len(), |n| i + n);
        let mut run = words.get(i..end).unwrap_or_default().join(" ");
        // Blanks between two encoded words are not shown (RFC 2047 §6.2), so this one has to lie inside.
        if i > 0 && words.get(i - 1).as_ref().is_some_and(is_encoded) {
            run.insert(0, ' ');
        }
        if words.get(end).as_ref().is_some_and(is_encoded) {
            run.push(' ');
        }
        if column > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.push(b' ');
        encode_words(&run, out);
        column = 70;
        i = end;
    }
}

/// `text` as UTF-8 encoded words in base 64, each at most 75 octets (RFC 2047 §2), folded between them.
fn encode_words(text: &str, out: &mut Vec<u8>) {
    let line_start = out.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut column = out.len() - line_start;
    let mut rest = text;
    while !rest.is_empty() {
        // 12 octets frame a word in a line of at most 76; three octets make four of base 64.
        if column > 40 {
            out.extend_from_slice(b"\r\n ");
            column = 1;
        }
        let mut end = rest.len().min((76 - 12 - column) / 4 * 3);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (chunk, tail) = rest.split_at(end);
        rest = tail;
        let encoded = base64::engine::general_purpose::STANDARD.encode(chunk);
        out.extend_from_slice(format!("=?utf-8?B?{encoded}?=").as_bytes());
        column = 76;
    }
}
