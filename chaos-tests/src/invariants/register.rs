//! What a resource says is linearizable: each read and write seems to happen at one moment between its beginning and its end, and nothing
//! that was acknowledged is lost.
//!
//! Every write writes another value, and so the rule of Gibbons and Korach ("Testing Shared Memories", SIAM J. Comput. 26, 1997, §4.2)
//! decides it: of the operations of one value, take the first end `f` and the last beginning `s`. If `f < s` the register held the value
//! from `f` to `s`. Two such spans may not overlap, and the span from `s` to `f` of another value may not lie within one.

use std::collections::BTreeMap;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Wrote this value.
    Write(u64),
    /// Found this value; 0 is what was there at first.
    Read(u64),
}

/// An operation on one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub does: Does,
    /// When it was asked for.
    pub began: u64,
    /// When it was acknowledged; `None` for a write of which nobody knows whether it took effect.
    pub ended: Option<u64>,
}

/// The operations of one value.
#[derive(Debug, Default, Clone, Copy)]
struct Cluster {
    /// When its write began; `None`: nobody wrote it.
    written: Option<u64>,
    is_acknowledged: bool,
    is_read: bool,
    first_end: u64,
    last_begin: u64,
}

/// What was broken, if anything.
pub fn broken(operations: &[Operation]) -> Option<String> {
    let clusters = match clusters(operations) {
        Ok(clusters) => clusters,
        Err(sentence) => return Some(sentence),
    };
    let (mut held, mut free) = (Vec::new(), Vec::new());
    for (value, cluster) in clusters {
        match cluster.first_end < cluster.last_begin {
            true => held.push((cluster.first_end, cluster.last_begin, value)),
            false => free.push((cluster.last_begin, cluster.first_end, value)),
        }
    }
    held.sort_unstable();
    for pair in held.windows(2) {
        let [(_, end, one), (begin, _, other)] = pair else { continue };
        if begin < end {
            return Some(format!(
                "register: the values {one} and {other} were both there at {begin}: one was read again after the other replaced it"
            ));
        }
    }
    for (begin, end, value) in free {
        let after = held.partition_point(|(from, _, _)| *from < begin);
        if let Some((from, to, other)) = after.checked_sub(1).map(|before| held[before])
            && from < begin
            && end < to
        {
            return Some(format!(
                "register: the value {value} was written and acknowledged from {begin} to {end} and lost: {other} was there from {from} to {to}"
            ));
        }
    }
    None
}

fn clusters(operations: &[Operation]) -> Result<BTreeMap<u64, Cluster>, String> {
    let mut clusters = BTreeMap::from([(
        0,
        Cluster { written: Some(0), is_acknowledged: true, is_read: false, first_end: 0, last_begin: 0 },
    )]);
    for operation in operations {
        let (Does::Write(value) | Does::Read(value)) = operation.does;
        let cluster = clusters.entry(value).or_insert(Cluster { first_end: u64::MAX, ..Cluster::default() });
        cluster.last_begin = cluster.last_begin.max(operation.began);
        cluster.first_end = cluster.first_end.min(operation.ended.unwrap_or(u64::MAX));
        match operation.does {
            Does::Write(_) if cluster.written.is_some() => return Err(format!("register: {value} was written twice")),
            Does::Write(_) => {
                cluster.written = Some(operation.began);
                cluster.is_acknowledged = operation.ended.is_some();
            }
            Does::Read(_) => cluster.is_read = true,
        }
    }
    // Of what nobody saw and nobody acknowledged, nothing can be said.
    clusters.retain(|_, cluster| cluster.is_acknowledged || cluster.is_read);
    for (value, cluster) in &clusters {
        match cluster.written {
            None => return Err(format!("register: {value} was read, and nobody wrote it")),
            Some(began) if cluster.first_end < began => {
                return Err(format!("register: {value} was read before its write began"));
            }
            Some(_) => {}
        }
    }
    Ok(clusters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, began: u64, ended: u64) -> Operation {
        Operation { does: Does::Write(value), began, ended: Some(ended) }
    }

    fn unknown(value: u64, began: u64) -> Operation {
        Operation { does: Does::Write(value), began, ended: None }
    }

    fn read(value: u64, began: u64, ended: u64) -> Operation {
        Operation { does: Does::Read(value), began, ended: Some(ended) }
    }

    #[test]
    fn what_can_be_put_in_an_order_is_fine() {
        for history in [
            vec![],
            vec![read(0, 5, 6), write(1, 7, 9), read(1, 10, 11)],
            vec![write(1, 0, 10), read(0, 2, 3), read(1, 4, 5)],
            // Written at once: either may be the last.
            vec![write(1, 1, 10), write(2, 2, 9), read(1, 11, 12)],
            vec![write(1, 1, 10), write(2, 2, 9), read(2, 11, 12)],
            // An unknown write may have come late, or never.
            vec![write(1, 1, 2), unknown(2, 3), read(1, 10, 11)],
            vec![write(1, 1, 2), unknown(2, 3), read(1, 10, 11), read(2, 20, 21)],
        ] {
            assert_eq!(broken(&history), None, "{history:?}");
        }
    }

    #[test]
    fn each_break_is_seen() {
        for (history, sentence) in [
            (vec![read(7, 1, 2)], "nobody wrote it"),
            (vec![read(1, 1, 2), write(1, 3, 4)], "before its write began"),
            (vec![write(1, 1, 2), read(0, 3, 4)], "lost"),
            (vec![write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)], "lost"),
            (vec![write(1, 1, 2), read(1, 3, 4), write(2, 5, 6), read(2, 7, 8), read(1, 9, 10)], "both there"),
            (vec![write(1, 1, 2), unknown(2, 3), read(2, 10, 11), read(1, 20, 21)], "lost"),
            (vec![write(1, 1, 2), write(1, 3, 4)], "written twice"),
        ] {
            let found = broken(&history);
            assert!(found.as_ref().is_some_and(|found| found.contains(sentence)), "{history:?}: {found:?}");
        }
    }
}
