use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::dns::Dnssec;
use crate::mail::{Domain, EnvelopeRecipient, ForwardPath, SenderTls};
use crate::queue::{ClaimTerms, Lease, Permit};
use crate::smtp::data::{Limits, Progress, Receiver};
use crate::store::sqlite::{SqliteSettings, SqliteStore};
use crate::submission::Timers;
use crate::submission::content::Spool;

/// No delivery is ever permitted.
struct NoPlaces;

impl Intake for NoPlaces {
    fn permit(&self, _: &Envelope) -> Option<Permit> {
        None
    }
    fn arrived(&self, _: Option<Permit>, _: Option<Lease>) {}
    fn terms(&self, _: &Permit) -> ClaimTerms {
        unreachable!("no permit was given")
    }
}

/// A door to a real store in a directory of its own.
pub(in crate::submission) struct House {
    dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    pub(in crate::submission) acceptor: Acceptor,
}

pub(in crate::submission) fn house(change: impl FnOnce(&mut Settings)) -> House {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_333_080_000)));
    let store = Arc::new(SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock)).unwrap());
    let mut settings = Settings {
        hostname: Domain::parse("relay.example.org").unwrap(),
        trusted_networks: Vec::new(),
        max_message_size: 1 << 20,
        max_recipients: 100,
        max_connections: 10,
        max_connections_per_source: 10,
        reserve: 0,
        users: Vec::new(),
        data_dir: dir.path().to_owned(),
        dnssec: Dnssec::default(),
        timers: Timers::default(),
    };
    change(&mut settings);
    let queue = Arc::clone(&store) as Arc<dyn QueueStore>;
    let acceptor = Acceptor::new(Arc::new(settings), queue, Arc::new(NoPlaces), clock);
    House { dir, store, acceptor }
}

fn who() -> Who {
    Who {
        client: "127.0.0.1".parse().unwrap(),
        helo: "app.example.org".to_owned(),
        with: With { extended: true, tls: false, authenticated: false, utf8: false },
        tls: None,
        user: None,
        session: "s".to_owned(),
    }
}

impl House {
    /// What becomes of a message with this header: `250`, or code and enhanced code.
    async fn answer(&self, header: &str) -> String {
        let (mut receiver, mut spool) = (Receiver::new(Limits::new(1 << 20)), Spool::default());
        let data = format!("{header}From: app@example.org\r\n\r\nbody\r\n.\r\n");
        assert!(matches!(receiver.feed(data.as_bytes(), spool.sink(true)), Progress::End(_)));
        let content = spool.finish(receiver.finish().unwrap(), self.dir.path()).unwrap();
        let path = ForwardPath::parse("bob@example.net").unwrap();
        let envelope = Envelope {
            reverse_path: ReversePath::parse("app@example.org").unwrap(),
            recipients: vec![EnvelopeRecipient { path, notify: None, orcpt: None }],
            ret: None,
            envid: None,
            sender_tls: SenderTls::Unsaid,
            smtputf8: false,
            has_8bit: false,
        };
        match self.acceptor.accept(envelope, content, who()).await {
            Ok(_) => "250".to_owned(),
            Err(r) => format!("{} {}", r.code, r.enhanced),
        }
    }
}

// DUR-06
#[test]
fn either_the_commit_or_the_deadline_settles_the_fate_of_a_message() {
    let fate = Fate::default();
    assert!(fate.settle(Fate::STORING));
    assert!(fate.settle(Fate::STORING), "a commit that is done again after a rollback");
    assert!(!fate.settle(Fate::GIVEN_UP), "its answer is waited for");
    let fate = Fate::default();
    assert!(fate.settle(Fate::GIVEN_UP));
    assert!(!fate.settle(Fate::STORING), "the sender was told no");
}

// DUR-06, DUR-11, DUR-12: whatever the store says, the client keeps its message.
#[tokio::test]
async fn every_error_of_the_store_is_a_reply_that_leaves_the_message_with_its_sender() {
    let house = house(|_| {});
    for (error, want) in [
        (StoreError::Full, "452 4.3.1"),
        (StoreError::Busy, "451 4.3.0"),
        (StoreError::LeaseLost, "451 4.3.0"),
        (StoreError::Content("x".to_owned()), "451 4.3.0"),
        (StoreError::Broken("x".to_owned()), "451 4.3.0"),
        (StoreError::Closed, "451 4.3.0"),
    ] {
        let r = house.acceptor.not_stored(&error, &who());
        assert_eq!(format!("{} {}", r.code, r.enhanced), want, "{error:?}");
        assert!(!r.text.contains('x'), "no words of ours for a peer: {}", r.text);
    }
    assert_eq!(house.answer("").await, "250");
    house.store.close().await;
    assert_eq!(house.answer("").await, "451 4.3.0", "a store that has ended");
}

// DUR-11
#[tokio::test]
async fn below_the_reserve_mail_is_refused_before_it_comes_and_after() {
    let sender = ReversePath::parse("app@example.org").unwrap();
    for (reserve, max_message_size, want) in
        [(u64::MAX, 1 << 20, "452 4.3.1"), (0, u64::MAX, "452 4.3.1"), (0, 1 << 20, "250")]
    {
        let house = house(|s| (s.reserve, s.max_message_size) = (reserve, max_message_size));
        let at_mail = house.acceptor.sender(None, &sender);
        assert_eq!(at_mail.is_ok(), want == "250", "{at_mail:?}");
        assert!(at_mail.err().is_none_or(|r| format!("{} {}", r.code, r.enhanced) == want));
        assert_eq!(house.answer("").await, want, "it ran out meanwhile");
    }
}

// LIM-30
#[tokio::test]
async fn a_message_in_a_loop_is_refused_beyond_the_last_hop_allowed() {
    let house = house(|_| {});
    let (other, ours) =
        ("Received: by a.example; x\r\n", "Received: from b.example by relay.example.org; x\r\n");
    for (header, want) in [
        (other.repeat(100), "250"),
        (other.repeat(101), "554 5.4.6"),
        (ours.repeat(5), "250"),
        (ours.repeat(6), "554 5.4.6"),
        (other.repeat(95) + &ours.repeat(5), "250"),
        (other.repeat(96) + &ours.repeat(5), "554 5.4.6"),
    ] {
        assert_eq!(house.answer(&header).await, want, "{}", header.lines().count());
    }
}
