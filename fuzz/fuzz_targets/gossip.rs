//! No datagram is opened but what a key of the cluster has sealed, whole, once, within the window and from the sender's last start.
//!
//! Even first byte: the rest is a datagram. Odd: each three bytes are a delivery (of which start, which datagram, how damaged).

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use octelium_actors::membership::envelope::{ClusterKey, Keyring, Opener, Sealer};

const CLUSTER: [u8; 16] = [7; 16];
const SENDER: u64 = 11;
/// As the envelope has it.
const WINDOW: u64 = 64;
const STARTS: usize = 3;
const DATAGRAMS: usize = 200;

fn ring() -> Keyring {
    Keyring { keys: vec![ClusterKey { id: 1, secret: [1; 32].into() }], sealing: 1 }
}

/// What each start sent, in order: the counter of the first is 1.
fn sent(start: usize) -> Vec<Vec<u8>> {
    let mut sealer = Sealer::new(CLUSTER, SENDER, start as u64);
    sealer.rekey(&ring());
    (0..DATAGRAMS)
        .map(|at| sealer.seal(&at.to_be_bytes()).expect("the ring has a key, and the message is short"))
        .collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let mut opener = Opener::new(CLUSTER);
    opener.rekey(&ring());
    if first % 2 == 0 {
        assert!(opener.open(rest).is_err(), "nobody guesses a tag");
        return;
    }
    let sent: Vec<_> = (0..STARTS).map(sent).collect();
    let (mut newest, mut highest, mut seen) = (0, 0, HashSet::new());
    for step in rest.chunks_exact(3) {
        let (start, at) = (usize::from(step[0]) % STARTS, usize::from(step[1]) % DATAGRAMS);
        let (datagram, counter) = (&sent[start][at], at as u64 + 1);
        if step[2] != 0 {
            let mut damaged = datagram.clone();
            let place = usize::from(step[2]) % damaged.len();
            damaged[place] ^= 1 << (step[2] % 8);
            assert!(opener.open(&damaged).is_err(), "a changed datagram");
            continue;
        }
        if start > newest {
            (newest, highest) = (start, 0);
            seen.clear();
        }
        let is_fresh = start == newest && counter + WINDOW > highest && seen.insert(counter);
        let opened = opener.open(datagram);
        assert_eq!(opened.is_ok(), is_fresh, "start {start}, counter {counter}, highest {highest}");
        if let Ok(opened) = opened {
            assert_eq!((opened.sender, opened.incarnation), (SENDER, start as u64));
            assert_eq!(opened.message, at.to_be_bytes());
            highest = highest.max(counter);
        }
    }
});
