//! Which transactions are tried next: fairly over domains, never by one queue over all messages (QUE-30).
//!
//! Every domain with due work gets one place before any gets a second, so a domain with a million due
//! messages costs its neighbours one turn and no more.

use crate::mail::Domain;

/// A domain that wants places, and how many it may still take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The domain.
    pub domain: Domain,
    /// Free places of its own limit; 1 for the probe of a suspended domain, 0 when it is paused.
    pub room: usize,
}

/// Shares `free` places over the wishes, round by round in the order given; domains that get nothing are left out.
pub fn share(wishes: Vec<Wish>, free: usize) -> Vec<(Domain, usize)> {
    let mut left = free;
    let mut given = vec![0_usize; wishes.len()];
    loop {
        let before = left;
        for (wish, got) in wishes.iter().zip(given.iter_mut()) {
            if left > 0 && *got < wish.room {
                *got += 1;
                left -= 1;
            }
        }
        if left == 0 || left == before {
            break;
        }
    }
    wishes.into_iter().zip(given).filter(|(_, n)| *n > 0).map(|(w, n)| (w.domain, n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wishes(rooms: &[usize]) -> Vec<Wish> {
        rooms
            .iter()
            .enumerate()
            .map(|(i, room)| Wish { domain: Domain::parse(&format!("d{i}.example")).unwrap(), room: *room })
            .collect()
    }

    // QUE-30
    #[test]
    fn a_busy_domain_never_takes_the_place_of_a_quiet_one() {
        let got = share(wishes(&[1000, 1, 1]), 4);
        let counts: Vec<usize> = got.iter().map(|(_, n)| *n).collect();
        assert_eq!(counts, [2, 1, 1]);
    }

    proptest! {
        #[test]
        fn shares_fit_and_nobody_starves(rooms in proptest::collection::vec(0_usize..30, 0..40), free in 0_usize..200) {
            let got = share(wishes(&rooms), free);
            let sum: usize = got.iter().map(|(_, n)| *n).sum();
            prop_assert_eq!(sum, free.min(rooms.iter().sum()));
            let wanting = rooms.iter().filter(|r| **r > 0).count();
            prop_assert_eq!(got.len(), wanting.min(free));
        }
    }
}
