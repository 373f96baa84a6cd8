//! Failed log-ins by address. Whoever shows something valid is let in however often others at the same address failed: what is
//! throttled is failing.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::ClientInfo;

/// A window's length. Failures of the present and the last window count.
const WINDOW_SECONDS: i64 = 60;
/// So many failures in two windows are answered as fast as any.
const FAILURES_FREE: u32 = 30;
/// Addresses of one window; more than these begin a new one.
const ADDRESSES_MAX: usize = 8_192;
/// How long an answer is held back where the protocol can't say "later".
const PAUSE: Duration = Duration::from_secs(1);
/// So many answers are held back at once; the rest is answered at once.
const PAUSED_MAX: usize = 64;

/// See the module.
pub struct Throttle {
    windows: Mutex<Windows>,
    paused: Semaphore,
}

#[derive(Default)]
struct Windows {
    began: i64,
    present: HashMap<Source, u32>,
    last: HashMap<Source, u32>,
}

/// An IPv4 address, or the /64 of an IPv6 address, which one subscriber has.
type Source = Option<IpAddr>;

impl Default for Throttle {
    fn default() -> Self {
        Self { windows: Mutex::default(), paused: Semaphore::new(PAUSED_MAX) }
    }
}

impl Throttle {
    /// Notes a failure. Whether there were too many from this address.
    pub fn failed(&self, client: &ClientInfo, now_unix: i64) -> bool {
        let source = source(&client.ip);
        let mut windows = self.windows.lock();
        let age = now_unix.saturating_sub(windows.began);
        if !(0..WINDOW_SECONDS).contains(&age) || windows.present.len() >= ADDRESSES_MAX {
            let is_next = (0..2 * WINDOW_SECONDS).contains(&age);
            let ended = std::mem::take(&mut windows.present);
            windows.last = if is_next { ended } else { HashMap::new() };
            windows.began = now_unix;
        }
        let before = windows.last.get(&source).copied().unwrap_or_default();
        let failures = windows.present.entry(source).or_default();
        *failures = failures.saturating_add(1);
        before.saturating_add(*failures) > FAILURES_FREE
    }

    /// Holds an answer back for a moment.
    pub async fn pause(&self) {
        if let Ok(_permit) = self.paused.try_acquire() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn source(ip: &str) -> Source {
    match ip.parse().ok()? {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none() => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            Some(IpAddr::V6(network.into()))
        }
        other => Some(other.to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str) -> ClientInfo {
        ClientInfo { ip: ip.to_owned(), ..ClientInfo::default() }
    }

    #[test]
    fn only_many_failures_of_one_address_are_too_many() {
        let throttle = Throttle::default();
        let many =
            |ip: &str, now| (0..FAILURES_FREE).map(|_| throttle.failed(&from(ip), now)).filter(|many| *many).count();
        assert_eq!(many("192.0.2.1", 1_000), 0);
        assert!(throttle.failed(&from("192.0.2.1"), 1_001));
        assert!(!throttle.failed(&from("192.0.2.2"), 1_001), "another address");
        assert!(throttle.failed(&from("192.0.2.1"), 1_065), "the last window counts");
        assert!(!throttle.failed(&from("192.0.2.1"), 1_200), "it is over");
        assert_eq!(many("2001:db8::1", 2_000), 0);
        assert!(throttle.failed(&from("2001:db8::2"), 2_000), "the same network");
        assert!(!throttle.failed(&from("2001:db8:0:1::1"), 2_000), "another one");
    }

    #[test]
    fn addresses_are_bounded() {
        let throttle = Throttle::default();
        for n in 0..3 * ADDRESSES_MAX {
            throttle.failed(&from(&std::net::Ipv4Addr::from(u32::try_from(n).unwrap()).to_string()), 1_000);
        }
        let windows = throttle.windows.lock();
        assert!(windows.present.len() <= ADDRESSES_MAX && windows.last.len() <= ADDRESSES_MAX);
    }

    #[test]
    fn a_clock_that_goes_back_begins_anew() {
        let throttle = Throttle::default();
        throttle.failed(&from("192.0.2.1"), 1_000);
        assert!(!throttle.failed(&from("192.0.2.1"), 10));
    }
}
