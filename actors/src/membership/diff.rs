//! What changed between two looks at the peers.

use std::collections::BTreeMap;

use super::Peer;

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node is heard that wasn't.
    Joined(u64),
    /// A node was started anew, or takes requests now and didn't before, or the other way round.
    Changed(u64),
    /// A node isn't heard any more.
    Left(u64),
}

/// What is new in `now`.
pub fn events(before: &BTreeMap<u64, Peer>, now: &BTreeMap<u64, Peer>) -> Vec<Event> {
    let mut events = Vec::new();
    for (node, peer) in now {
        let known = before.get(node).filter(|known| known.is_live);
        match (known, peer.is_live) {
            (None, true) => events.push(Event::Joined(*node)),
            (Some(_), false) => events.push(Event::Left(*node)),
            (Some(known), true) if known.incarnation != peer.incarnation || known.is_ready != peer.is_ready => {
                events.push(Event::Changed(*node));
            }
            _ => {}
        }
    }
    let gone = before.iter().filter(|(node, known)| known.is_live && !now.contains_key(node));
    events.extend(gone.map(|(node, _)| Event::Left(*node)));
    events
}

/// Of two starts of one node the later counts.
pub fn newer(one: Peer, other: Peer) -> Peer {
    if other.incarnation > one.incarnation { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(incarnation: u64, is_live: bool, is_ready: bool) -> Peer {
        Peer { incarnation, is_live, is_ready, ..Peer::default() }
    }

    #[test]
    fn each_change_is_told_once() {
        let map = |peers: &[(u64, Peer)]| peers.iter().cloned().collect::<BTreeMap<_, _>>();
        let before = map(&[
            (1, peer(1, true, true)),
            (2, peer(1, true, true)),
            (3, peer(1, false, true)),
            (4, peer(1, true, true)),
        ]);
        let now = map(&[
            (1, peer(1, true, false)),
            (2, peer(1, false, true)),
            (3, peer(2, true, true)),
            (5, peer(1, true, true)),
            (6, peer(1, false, false)),
        ]);
        assert_eq!(
            events(&before, &now),
            [Event::Changed(1), Event::Left(2), Event::Joined(3), Event::Joined(5), Event::Left(4)]
        );
        assert_eq!(events(&now, &now), []);
    }

    #[test]
    fn a_former_start_says_nothing_any_more() {
        let (old, new) = (peer(1, true, true), peer(2, false, false));
        assert_eq!(newer(old.clone(), new.clone()), new);
        assert_eq!(newer(new.clone(), old), new);
    }
}
