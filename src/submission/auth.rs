//! Checking passwords (SUB-23).
//!
//! A check takes tens of milliseconds and about 19 MiB, so few run at once, each on a blocking thread, and what
//! was right a short while ago is remembered under a keyed digest, never as a password.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::User;
use crate::smtp::sasl::Credentials;
use crate::smtp::session::Verdict;

/// Checks that run at once.
const AT_ONCE: usize = 2;
/// Right credentials remembered, and for how long.
const REMEMBERED: u64 = 1000;
const REMEMBER: Duration = Duration::from_secs(300);
/// What an unknown name is checked against when there are no users: argon2id with the crate's default cost.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$2VPZ5NPLQ0AvKhVzlH3qWxJBvqOsMSXL5d6XE1zVqjY";

/// Knows the users.
pub struct Authenticator {
    users: HashMap<String, Arc<User>>,
    nobody: Arc<str>,
    slots: Arc<Semaphore>,
    wait: Duration,
    key: hmac::Key,
    known: moka::sync::Cache<[u8; 32], ()>,
}

/// The random generator of the system failed, which leaves no way to run safely.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers from the system")]
pub struct NoRandomness;

impl Authenticator {
    /// An authenticator for `users`; a check waits at most `wait` for a free slot.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(users: &[User], wait: Duration) -> Result<Self, NoRandomness> {
        let nobody = users.first().map_or(NOBODY, |u| &u.password_hash).into();
        Ok(Self {
            users: users.iter().map(|u| (u.name.clone(), Arc::new(u.clone()))).collect(),
            nobody,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            wait,
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandomness)?,
            known: moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBER).build(),
        })
    }

    /// Whether there is anybody to authenticate.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Checks credentials, and names the user when they are right. An unknown name costs the same work as a
    /// wrong password, so that the time tells nothing.
    pub async fn check(&self, given: Credentials) -> (Verdict, Option<Arc<User>>) {
        let user = self.users.get(&given.user);
        let digest = self.digest(&given);
        if let Some(user) = user.filter(|_| self.known.contains_key(&digest)) {
            return (Verdict::Right, Some(Arc::clone(user)));
        }
        let slot = tokio::time::timeout(self.wait, Arc::clone(&self.slots).acquire_owned()).await;
        let Ok(Ok(slot)) = slot else { return (Verdict::Unknown, None) };
        let hash: Arc<str> =
            user.map_or_else(|| Arc::clone(&self.nobody), |u| u.password_hash.as_str().into());
        let work = move || {
            let _slot = slot;
            verify(&given.password, &hash)
        };
        match (tokio::task::spawn_blocking(work).await, user) {
            (Ok(Some(true)), Some(user)) => {
                self.known.insert(digest, ());
                (Verdict::Right, Some(Arc::clone(user)))
            }
            (Ok(Some(_)), _) | (Ok(None), None) => (Verdict::Wrong, None),
            (Ok(None) | Err(_), _) => (Verdict::Unknown, None),
        }
    }

    fn digest(&self, given: &Credentials) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(given.user.len() as u64).to_be_bytes());
        context.update(given.user.as_bytes());
        context.update(given.password.as_bytes());
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        digest
    }
}

/// `None` when the hash cannot be used; the password may still be right.
fn verify(password: &str, hash: &str) -> Option<bool> {
    match Argon2::default().verify_password(password.as_bytes(), hash) {
        Ok(()) => Some(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Some(false),
        Err(error) => {
            tracing::error!(event = "password-hash-unusable", %error);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::PasswordHasher;

    fn user(name: &str, password: &str) -> User {
        let cheap = Argon2::from(argon2::Params::new(8, 1, 1, None).unwrap());
        let hash = cheap.hash_password(password.as_bytes()).unwrap().to_string();
        User { name: name.into(), password_hash: hash, allowed_senders: Vec::new() }
    }

    fn given(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    // SUB-23
    #[tokio::test]
    async fn only_the_right_password_opens() {
        let broken =
            User { name: "x".into(), password_hash: "$argon2id$".into(), allowed_senders: Vec::new() };
        let auth = Authenticator::new(&[user("app1", "secret"), broken], Duration::from_secs(1)).unwrap();
        for (name, password, want) in [
            ("app1", "secret", Verdict::Right),
            ("app1", "secret", Verdict::Right),
            ("app1", "Secret", Verdict::Wrong),
            ("app1", "", Verdict::Wrong),
            ("APP1", "secret", Verdict::Wrong),
            ("nobody", "secret", Verdict::Wrong),
            ("x", "secret", Verdict::Unknown),
        ] {
            let (got, user) = auth.check(given(name, password)).await;
            assert_eq!(got, want, "{name} {password}");
            assert_eq!(user.is_some(), want == Verdict::Right);
        }
        assert_eq!(verify("x", NOBODY), Some(false), "the stand-in for unknown names is a usable hash");
    }

    // SUB-23, LIM-20
    #[tokio::test(start_paused = true)]
    async fn without_a_free_slot_the_answer_is_not_wrong_but_later() {
        let auth = Authenticator::new(&[user("app1", "secret")], Duration::from_secs(30)).unwrap();
        let _all = auth.slots.acquire_many(2).await.unwrap();
        assert_eq!(auth.check(given("app1", "secret")).await.0, Verdict::Unknown);
    }
}
