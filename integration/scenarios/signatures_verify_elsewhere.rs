//! What the relay signs verifies with dkimpy and with OpenDKIM, whatever the body looks like, after a retry too;
//! what was changed afterwards does not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sealpost::clock::Timestamp;
use sealpost::dkim::canonical::{BlankEnd, BodyHash, relaxed_field};
use sealpost::dkim::{Algorithm, Signers, SigningKey, keygen};
use sealpost::mail::Domain;

use crate::world::World;
use crate::world::client::Client;
use crate::world::relay::{Relay, Setup};
use crate::{SENDER, can_run, count, path_of, program, relay_with, run};

/// Debian's Python, whose packages these are.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Prints, for each message file, the result of each of its signatures.
const DKIMPY: &str = r#"
import json, sys, dkim
keys = json.load(open(sys.argv[1]))
def verify(message, i):
    try:
        return dkim.DKIM(message).verify(idx=i, dnsfunc=lambda name, timeout=5: keys[name.decode().rstrip(".")].encode())
    except dkim.DKIMException as e:
        return e
for path in sys.argv[2:]:
    message = open(path, "rb").read()
    count = sum(name.lower() == b"dkim-signature" for name, _ in dkim.rfc822_parse(message)[0])
    print(path, *[verify(message, i) for i in range(count)], sep="\t")
"#;

/// Makes keys of both kinds with the program itself; the sections that use them, and their records by name.
pub(crate) async fn keys(world: &World, domains: &[&str]) -> (String, BTreeMap<String, String>) {
    let (mut sections, mut records) = (String::new(), BTreeMap::new());
    for domain in domains {
        for algorithm in ["rsa", "ed25519"] {
            let file = world.dir.path().join(format!("{domain}.{algorithm}.pem")).display().to_string();
            let words =
                ["dkim", "keygen", "--domain", domain, "--selector", algorithm, "--algorithm", algorithm];
            let made = run(program(), &[&words[..], &["--out", &file, "--json"]].concat()).await;
            let made: serde_json::Value = serde_json::from_str(&made).expect(&made);
            let text = |key: &str| made[key].as_str().unwrap().to_owned();
            records.insert(text("record_name"), text("record"));
            sections.push_str(&format!(
                "[[dkim]]\ndomain = \"{domain}\"\nselector = \"{algorithm}\"\nprivate_key = \"{file}\"\n\n"
            ));
        }
    }
    (sections, records)
}

/// The verifiers, fed with files.
pub(crate) struct Verifiers {
    folder: PathBuf,
    records: PathBuf,
    config: PathBuf,
    count: usize,
}

impl Verifiers {
    pub(crate) fn new(world: &World, records: &BTreeMap<String, String>) -> Self {
        let folder = world.dir.path().join("verify");
        std::fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        std::fs::write(at("records.json"), serde_json::to_vec(records).unwrap()).unwrap();
        let lines: Vec<String> = records.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        std::fs::write(at("records"), lines.concat()).unwrap();
        let config = format!("Mode v\nSyslog no\nTestPublicKeys {}\n", at("records").display());
        std::fs::write(at("opendkim.conf"), config).unwrap();
        Self { records: at("records.json"), config: at("opendkim.conf"), folder, count: 0 }
    }

    /// What dkimpy says of each signature, and OpenDKIM of each by itself, as it stops at the first good one.
    async fn judge(&mut self, message: &[u8]) -> (Vec<String>, Vec<bool>) {
        self.count += 1;
        let file = |name: String| self.folder.join(name).display().to_string();
        let whole = file(format!("{}.eml", self.count));
        std::fs::write(&whole, message).unwrap();
        let said = run(PYTHON, &["-c", DKIMPY, &self.records.display().to_string(), &whole]).await;
        let dkimpy = said.trim_end().split('\t').skip(1).map(str::to_owned).collect();

        let (fields, body) = split(message);
        let signatures: Vec<usize> =
            (0..fields.len()).filter(|i| fields[*i].starts_with(b"DKIM-Signature:")).collect();
        let mut opendkim = Vec::new();
        for kept in &signatures {
            let others = fields.iter().enumerate().filter(|(i, _)| i == kept || !signatures.contains(i));
            let fields: Vec<&[u8]> = others.map(|(_, field)| *field).collect();
            let one = file(format!("{}-{kept}.eml", self.count));
            std::fs::write(&one, [fields.concat().as_slice(), body].concat()).unwrap();
            let config = self.config.display().to_string();
            let said = run(path_of("opendkim"), &["-x", &config, "-t", &one]).await;
            opendkim.push(said.contains("succeeded") && !said.contains("failed"));
        }
        (dkimpy, opendkim)
    }

    /// Each verifier finds both signatures good.
    pub(crate) async fn pass(&mut self, name: &str, message: &[u8]) {
        let text = String::from_utf8_lossy(message);
        let (dkimpy, opendkim) = self.judge(message).await;
        assert_eq!(dkimpy, ["True", "True"], "{name}: dkimpy\n{text}");
        assert_eq!(opendkim, [true, true], "{name}: OpenDKIM\n{text}");
    }

    /// Each verifier finds both signatures bad.
    pub(crate) async fn fail(&mut self, name: &str, message: &[u8]) {
        let (dkimpy, opendkim) = self.judge(message).await;
        assert!(!dkimpy.contains(&"True".to_owned()) && dkimpy.len() == 2, "{name}: dkimpy {dkimpy:?}");
        assert_eq!(opendkim, [false, false], "{name}: OpenDKIM");
    }
}

/// The fields of a message, and the rest with the empty line before it.
fn split(message: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 2;
    let mut fields = Vec::new();
    let mut begin = 0;
    for at in 1..end {
        if message[at - 1] == b'\n' && !matches!(message[at], b' ' | b'\t') {
            fields.push(&message[begin..at]);
            begin = at;
        }
    }
    fields.push(&message[begin..end]);
    (fields, &message[end..])
}

/// Submits octets as they are, dots doubled.
async fn submit(relay: &Relay, from: &str, to: &[String], content: &[u8]) {
    let mut client = Client::connect(relay.submission()).await.unwrap();
    client.command("EHLO app.example").await.unwrap();
    assert_eq!(client.command(&format!("MAIL FROM:<{from}> BODY=8BITMIME")).await.unwrap().code, 250);
    for to in to {
        assert_eq!(client.command(&format!("RCPT TO:<{to}>")).await.unwrap().code, 250);
    }
    assert_eq!(client.command("DATA").await.unwrap().code, 354);
    let mut data = Vec::new();
    for line in content.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    data.extend_from_slice(b".\r\n");
    client.write(&data).await.unwrap();
    let reply = client.reply().await.unwrap();
    assert_eq!(reply.code, 250, "{:?}", reply.lines);
}

/// Subject, further fields, body.
fn odd_messages() -> Vec<(&'static str, String, Vec<u8>)> {
    let html = |charset| format!("MIME-Version: 1.0\r\nContent-Type: text/html; charset={charset}\r\n");
    let text = |text: &str| text.as_bytes().to_vec();
    let list: Vec<String> = (0..25).map(|i| format!("<recipient-{i}@a.example>")).collect();
    let references: Vec<String> = (0..60).map(|i| format!("<{i}.{}@a.example>", "r".repeat(40))).collect();
    let long_line = format!("<p>{}</p>\r\n", "Größe ".repeat(20_000));
    let large = "A line of text with  two blanks \t and a trailing one \r\n".repeat(20_000);
    vec![
        ("plain", String::new(), text("Hello.\r\n")),
        ("blank-end", String::new(), text("Hello. \t\r\n \t\r\n\r\n   \r\n")),
        ("empty-end", String::new(), text("Hello.\r\n\r\n\r\n")),
        ("empty", String::new(), text("")),
        ("only-blank", String::new(), text(" \r\n\t\r\n\r\n")),
        ("blank-inside", String::new(), text("\r\n\r\n \t\r\n  a  b\t\tc \r\n \r\n.\r\n..dot\r\n \t.\r\nend\r\n")),
        ("utf8", html("utf-8"), text("<p>Größe  —  10 €</p>\r\n")),
        ("latin1", html("iso-8859-1"), b"<p>Gr\xf6\xdfe</p>\r\n\xa0\r\n".to_vec()),
        ("long-line", html("utf-8"), text(&long_line)),
        ("large", String::new(), text(&format!("{large} \r\n\r\n"))),
        ("folded", format!("References: {}\r\nCc: {}\r\n", references.join("\r\n  "), list.join(",\r\n\t")), text("x\r\n")),
        (
            "odd-fields",
            "REPLY-TO:\t a@sender.example  \r\nList-Unsubscribe: <https://a.example/u>\r\nList-Id: one\r\nList-Id:   two\r\n\
             Content-Language:\r\n en\r\nX-Not-Signed: x\r\nIn-Reply-To:<a@b.example>\r\n"
                .to_owned(),
            text("x\r\n"),
        ),
        (
            "multipart",
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"=_b\"\r\n".to_owned(),
            text("preamble\r\n--=_b\r\n\r\none\r\n\r\n--=_b\r\nContent-Type: text/plain\r\n\r\ntwo \r\n--=_b--\r\n \r\n"),
        ),
    ]
}

// SIG-08, SIG-09, SIG-11, SIG-12, SIG-13, SIG-18, SIG-19
#[tokio::test(flavor = "multi_thread")]
async fn with_dkimpy_and_opendkim_both_kinds_of_key() {
    if !can_run("signatures verify elsewhere", &["opendkim", "dkimverify", PYTHON], false) {
        return;
    }
    let world = World::start().await;
    let (sections, records) = keys(&world, &["sender.example", "lab.example", "xn--bcher-kva.example"]).await;
    let mut verifiers = Verifiers::new(&world, &records);
    let sender = world.domain("sender.example").await;
    let host = world.enforcing_domain("a.example").await;
    host.behave(|b| {
        b.rcpt.insert("nobody@a.example".to_owned(), "550 5.1.1 no such mailbox here".to_owned());
    });
    let keys = vec![("queue", "retry = [\"1s\"]".to_owned())];
    let relay = relay_with(&world, Setup { sections, keys, ..Setup::default() }).await;

    let many: Vec<String> = (0..25).map(|i| format!("r{i}@a.example")).collect();
    let messages = odd_messages();
    let header = |from: &str, subject: &str| {
        format!(
            "From: App <{from}>\r\nTo: u@a.example\r\nSubject: {subject}\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\n\
             Message-ID: <{subject}@app.example>\r\n"
        )
    };
    for (subject, more, body) in &messages {
        let content = [header(SENDER, subject).as_bytes(), more.as_bytes(), b"\r\n", body].concat();
        submit(&relay, SENDER, &many, &content).await;
    }
    for to in &many {
        relay.gone(to).await;
    }
    for from in ["a@xn--bcher-kva.example", "a@sub.sender.example", "ceo@other.example"] {
        let content = format!("{}\r\nx\r\n", header(from, from));
        submit(&relay, SENDER, &["u@a.example".to_owned()], content.as_bytes()).await;
    }
    let obsolete = header(SENDER, "obsolete").replacen("To:", "To \t:", 1);
    submit(&relay, SENDER, &["u@a.example".to_owned()], format!("{obsolete}\r\nx\r\n").as_bytes()).await;
    relay.gone("u@a.example").await;
    host.behave(|b| b.greylist = true);
    assert_eq!(relay.submit(SENDER, "late@a.example", "retried").await.code, 250);
    assert_eq!(relay.delivery("late@a.example", 2).await["outcome"], "delivered");
    assert_eq!(relay.submit(SENDER, "nobody@a.example", "lost").await.code, 250);
    relay.gone("nobody@a.example").await;
    relay.gone(SENDER).await;

    let seen = host.seen().messages.clone();
    let of = |subject: &str| {
        let line = format!("\r\nSubject: {subject}\r\n");
        let mut found: Vec<Vec<u8>> =
            seen.iter().filter(|m| m.text().contains(&line)).map(|m| m.content.clone()).collect();
        found.dedup();
        assert_eq!(found.len(), 1, "{subject}: the same octets to everybody");
        found.remove(0)
    };
    for (subject, ..) in &messages {
        verifiers.pass(subject, &of(subject)).await;
    }
    verifiers.pass("blanks before a colon", &of("obsolete")).await;
    verifiers.pass("a second attempt", &of("retried")).await;
    assert!(of("long-line").split(|b| *b == b'\n').all(|l| l.len() <= 999));
    assert!(of("blank-end").ends_with(b"\r\n\r\nHello. \t\r\n"), "blank lines at the end are not sent");
    assert!(of("empty-end").ends_with(b"\r\n\r\nHello.\r\n\r\n\r\n"), "empty lines are");

    let domains = |content: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(&split(content).0.concat()).replace("\r\n\t", " ");
        let tags = text.lines().filter(|l| l.starts_with("DKIM-Signature:")).flat_map(|l| l.split("; "));
        tags.filter_map(|t| t.trim().strip_prefix("d=").map(str::to_owned)).collect()
    };
    for (from, want) in
        [("a@xn--bcher-kva.example", "xn--bcher-kva.example"), ("a@sub.sender.example", "sender.example")]
    {
        verifiers.pass(from, &of(from)).await;
        assert_eq!(domains(&of(from)), [want; 2]);
    }
    assert_eq!(domains(&of("ceo@other.example")), Vec::<String>::new(), "nobody else's mail is signed");
    let dsn = sender.seen().messages[0].content.clone();
    verifiers.pass("DSN", &dsn).await;
    assert_eq!(domains(&dsn), ["lab.example"; 2]);

    let good = of("plain");
    // SIG-08: for as long as the message may wait, five days, and two more.
    let text = String::from_utf8_lossy(&good).replace("\r\n\t", " ");
    let seconds =
        |tag: &str| -> u64 { text.split("; ").find_map(|t| t.strip_prefix(tag)).unwrap().parse().unwrap() };
    assert_eq!(seconds("x=") - seconds("t="), 7 * 86_400);
    verifiers.fail("a second From", &[b"From: evil@sender.example\r\n".as_slice(), &good].concat()).await;
    verifiers.fail("a second Subject", &[b"Subject: other\r\n".as_slice(), &good].concat()).await;
    verifiers.fail("a Content-Type", &[b"Content-Type: text/html\r\n".as_slice(), &good].concat()).await;
    verifiers.fail("more text", &[good.as_slice(), b"x\r\n"].concat()).await;
    verifiers.pass("a field that is not signed", &[b"X-Seen: 1\r\n".as_slice(), &good].concat()).await;

    let log = relay.log_text();
    let accepted = |word: &str| log.lines().filter(|l| l.contains("accepted") && l.contains(word)).count();
    assert_eq!(accepted("\"dkim\":\"none\""), 1, "what is not signed is counted");
    assert_eq!(accepted("\"dkim\":\"xn--bcher-kva.example\""), 1);
}

/// Prints the hash of each body and then the text of each field, in relaxed form.
const CANONICAL: &str = r#"
import base64, hashlib, json, sys
from dkim.canonicalization import Relaxed
bodies, fields = json.loads(sys.argv[1])
for body in bodies:
    print(base64.b64encode(hashlib.sha256(Relaxed.canonicalize_body(body.encode())).digest()).decode())
for name, value in fields:
    (name, value), = Relaxed.canonicalize_headers([(name.encode(), value.encode())])
    print(base64.b64encode(name + b":" + value).decode())
"#;

// SIG-12
#[tokio::test]
async fn the_canonical_forms_are_those_of_dkimpy() {
    if !can_run("canonical forms as dkimpy has them", &["dkimverify", PYTHON], false) {
        return;
    }
    // RFC 6376 §3.4.5 and §3.4.6, then the edges. Blanks at the end of a text without a line end are left out: there
    // dkimpy differs, and none comes over SMTP.
    let bodies = [
        " C \r\nD \t E\r\n\r\n\r\n",
        "",
        "\r\n",
        "\r\n\r\n",
        " \r\n\t\r\n",
        "a",
        "a\r\n  \r\n",
        "a\r\n \r\n\t\r\n\r\n",
        "a\r\n \t\r\n\r\nb\r\n",
        "\r\n\r\na\r\n",
        "\t\t a  b\r\n",
        "Gr\u{f6}\u{df}e \u{a0} \r\n",
        ".\r\n..\r\n",
    ];
    let fields = [
        ("A", " X\r\n"),
        ("B", " Y\t\r\n\tZ  \r\n"),
        ("SUBJect", "\r\n x \t y\r\n\t\r\n"),
        ("Empty", " \r\n"),
        ("Utf-8", "  Gr\u{f6}\u{df}e\u{a0}\r\n"),
    ];
    let vectors = serde_json::to_string(&(bodies, fields)).unwrap();
    let theirs = run(PYTHON, &["-c", CANONICAL, &vectors]).await;
    let theirs: Vec<&str> = theirs.lines().collect();
    let hash = |body: &str| {
        let mut hash = BodyHash::default();
        hash.update(body.as_bytes());
        STANDARD.encode(hash.finish())
    };
    let relaxed = |(name, value): &(&str, &str)| {
        let mut out = Vec::new();
        relaxed_field(name, value.as_bytes(), &mut out);
        STANDARD.encode([out.as_slice(), b"\r\n"].concat())
    };
    let ours: Vec<String> = bodies.iter().map(|b| hash(b)).chain(fields.iter().map(relaxed)).collect();
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours, theirs, "number {i}");
    }
    assert_eq!(ours.len(), theirs.len(), "{theirs:?}");
}

/// Reads messages in base64, one a line, and prints the results of their signatures; the keys are those of DKIMPY.
const MANY: &str = r#"
import base64, json, sys, dkim
keys = json.load(open(sys.argv[1]))
def verify(message, i):
    try:
        return dkim.DKIM(message).verify(idx=i, dnsfunc=lambda name, timeout=5: keys[name.decode().rstrip(".")].encode())
    except Exception as e:
        return repr(e)
for line in open(sys.argv[2]):
    message = base64.b64decode(line)
    print(*[verify(message, i) for i in range(2)], sep="\t")
"#;

/// A header section and a body as the intake lets them through: well-formed fields with odd blanks, folds, names and
/// octets; lines that end in CRLF.
fn random_message(random: &mut StdRng) -> (Vec<u8>, Vec<u8>) {
    fn blanks(random: &mut StdRng) -> String {
        (0..random.random_range(0..4)).map(|_| if random.random() { ' ' } else { '\t' }).collect()
    }
    fn word(random: &mut StdRng) -> String {
        let few = [
            "a",
            "Größe",
            "ü",
            "=?utf-8?q?=C3=BC?=",
            "\u{a0}",
            ";",
            ":",
            "b=",
            "\"q\\\"\"",
            "(c)",
            "\u{1}",
            "\u{1f600}",
        ];
        let n = random.random_range(0..few.len() + 3);
        few.get(n).map_or_else(|| "w".repeat(random.random_range(1..90)), |w| (*w).to_owned())
    }
    const NAMES: [&str; 16] = [
        "To",
        "cc",
        "SUBJECT",
        "Date",
        "Message-Id",
        "Reply-To",
        "Sender",
        "In-Reply-To",
        "References",
        "MIME-Version",
        "Content-Type",
        "content-transfer-encoding",
        "Auto-Submitted",
        "TLS-Required",
        "X-Other",
        "Received",
    ];
    const MANY_TIMES: [&str; 5] =
        ["List-Id", "list-unsubscribe", "List-Odd_Name", "Content-X", "DKIM-Signature-Not"];
    let mut names: Vec<&str> = NAMES.into_iter().filter(|_| random.random()).collect();
    names
        .extend((0..random.random_range(0..6)).map(|_| MANY_TIMES[random.random_range(0..MANY_TIMES.len())]));
    names.push("From");
    names.shuffle(random);
    let mut header = String::new();
    for name in names {
        header.push_str(name);
        header.push(':');
        if name == "From" {
            header.push_str(&blanks(random));
            header.push_str(
                ["App <a@sender.example>", "\"x, y\" <a@sub.sender.example>", "a@sender.example (c)"]
                    [random.random_range(0..3)],
            );
        }
        let words = if random.random_range(0..200) == 0 { 3000 } else { random.random_range(0..12) };
        for _ in (0..words).take_while(|_| name != "From") {
            header.push_str(&blanks(random));
            header.push_str(&word(random));
            if random.random_range(0..4) == 0 {
                header.push_str(&blanks(random));
                header.push_str("\r\n");
                header.push(if random.random() { ' ' } else { '\t' });
                header.push_str(&word(random));
            }
        }
        header.push_str(&blanks(random));
        header.push_str("\r\n");
    }
    header.push_str("\r\n");
    let mut body = Vec::new();
    let lines = match random.random_range(0..50) {
        0 => 6000,
        1..8 => 0,
        _ => random.random_range(0..30),
    };
    for _ in 0..lines {
        for _ in 0..random.random_range(0..8) {
            match random.random_range(0..6) {
                0 => body.extend(blanks(random).bytes()),
                1 => {
                    body.extend((0..9).map(|_| random.random::<u8>()).filter(|b| !matches!(b, b'\r' | b'\n')))
                }
                2 => body.push(b'.'),
                3 => body.extend(b"From "),
                _ => body.extend(word(random).bytes()),
            }
        }
        body.extend(b"\r\n");
    }
    for _ in 0..random.random_range(0..4) {
        body.extend(blanks(random).bytes());
        body.extend(b"\r\n");
    }
    if random.random_range(0..5) == 0 {
        body.extend(b"no line end");
    }
    (header.into_bytes(), body)
}

// SIG-10, SIG-12: random messages, in pieces of random sizes.
#[tokio::test]
async fn random_messages_verify_with_dkimpy() {
    if !can_run("random messages verify with dkimpy", &["dkimverify", PYTHON], false) {
        return;
    }
    let key = |algorithm: Algorithm| {
        let pem = keygen::generate(algorithm).unwrap();
        SigningKey::from_pem(Domain::parse("sender.example").unwrap(), algorithm.key_type().to_owned(), &pem)
            .unwrap()
    };
    let keys = vec![key(Algorithm::Rsa), key(Algorithm::Ed25519)];
    let records: BTreeMap<String, String> =
        keys.iter().map(|k| (k.record_name().to_string(), k.record().to_string())).collect();
    let signers = Signers::new(keys).valid_for(std::time::Duration::from_secs(7 * 86_400));
    let random = &mut StdRng::seed_from_u64(8460);
    let now =
        Timestamp::from_millis(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
    let (mut lines, mut messages) = (String::new(), Vec::new());
    for _ in 0..count(2000) {
        let (header, mut body) = random_message(random);
        let mut end = BlankEnd::default();
        let all = end.before(&body);
        body.truncate(body.len() - usize::try_from(end.surplus(all)).unwrap());
        let mut signing = signers.start(&header).expect("a key");
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(random.random_range(1..=rest.len().min(700)));
            signing.body(piece);
            rest = tail;
        }
        let message = [signing.finish(now), header, body].concat();
        lines.push_str(&STANDARD.encode(&message));
        lines.push('\n');
        messages.push(message);
    }
    let folder = tempfile::tempdir().unwrap();
    let (records_file, messages_file) = (folder.path().join("records.json"), folder.path().join("messages"));
    std::fs::write(&records_file, serde_json::to_vec(&records).unwrap()).unwrap();
    std::fs::write(&messages_file, lines).unwrap();
    let said =
        run(PYTHON, &["-c", MANY, records_file.to_str().unwrap(), messages_file.to_str().unwrap()]).await;
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), messages.len(), "{}", said.last().unwrap_or(&""));
    for (n, (said, message)) in said.iter().zip(&messages).enumerate() {
        assert_eq!(*said, "True\tTrue", "number {n}: {:?}", String::from_utf8_lossy(message));
    }
}
