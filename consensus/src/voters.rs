//! Who votes: a pure function from what the leader knows of the members to at most one change.

use std::collections::BTreeSet;

/// A member as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its node id.
    pub id: u64,
    /// It has a vote now.
    pub is_voter: bool,
    /// It answered a moment ago.
    pub is_live: bool,
    /// It has been silent for longer than a restart takes: its seat may be given away.
    pub is_lost: bool,
    /// It has nearly all of the log.
    pub is_caught_up: bool,
    /// It was told to finish its work: others are preferred.
    pub is_drained: bool,
    /// It is being removed.
    pub is_leaving: bool,
}

/// The set of voters that is better than the present one and can be reached from it; `None` if there is nothing to do.
///
/// There is an odd number of voters, at most `seats`. A voter that is lost or drained is replaced, but never merely dropped:
/// with fewer voters, fewer failures are survived. One that is being removed is. No change is proposed that the live voters
/// of both the old and the new set could not commit (Raft §6, joint consensus).
pub fn next(members: &[Member], leader: u64, seats: usize) -> Option<BTreeSet<u64>> {
    let present: BTreeSet<u64> = members.iter().filter(|member| member.is_voter).map(|member| member.id).collect();
    let mut candidates: Vec<&Member> = members.iter().filter(|member| can_vote(member)).collect();
    // Whoever stands first keeps or gets a seat.
    candidates.sort_by_key(|member| (rank(member, leader), member.id));
    let wanted = odd(seats.min(candidates.len()));
    let better: BTreeSet<u64> = candidates.iter().take(wanted).map(|member| member.id).collect();
    let is_live = |id: &u64| members.iter().any(|member| member.id == *id && member.is_live);
    let can_commit = |voters: &BTreeSet<u64>| 2 * voters.iter().filter(|id| is_live(id)).count() > voters.len();
    (!better.is_empty() && better != present && can_commit(&present) && can_commit(&better)).then_some(better)
}

fn can_vote(member: &Member) -> bool {
    !member.is_leaving && (member.is_voter || (member.is_live && member.is_caught_up && !member.is_drained))
}

fn rank(member: &Member, leader: u64) -> u8 {
    match member {
        _ if member.id == leader && !member.is_drained => 0,
        Member { is_voter: true, is_lost: false, is_drained: false, .. } => 1,
        Member { is_voter: false, .. } => 2,
        _ => 3,
    }
}

/// The largest odd number up to this one; 1 at least, since somebody must vote.
fn odd(count: usize) -> usize {
    count.saturating_sub(1) / 2 * 2 + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voter(id: u64) -> Member {
        Member {
            id,
            is_voter: true,
            is_live: true,
            is_lost: false,
            is_caught_up: true,
            is_drained: false,
            is_leaving: false,
        }
    }

    fn learner(id: u64) -> Member {
        Member { is_voter: false, ..voter(id) }
    }

    fn dead(member: Member) -> Member {
        Member { is_live: false, is_lost: true, ..member }
    }

    fn restarting(member: Member) -> Member {
        Member { is_live: false, ..member }
    }

    fn drained(member: Member) -> Member {
        Member { is_drained: true, ..member }
    }

    fn leaving(member: Member) -> Member {
        Member { is_leaving: true, ..member }
    }

    #[test]
    fn seats_are_filled_in_odd_numbers_and_given_back() {
        let behind = Member { is_caught_up: false, ..learner(3) };
        let cases = [
            ("alone", vec![voter(1)], None),
            ("two nodes: one votes", vec![voter(1), learner(2)], None),
            ("the third brings the second", vec![voter(1), learner(2), learner(3)], Some(vec![1, 2, 3])),
            ("not before it has caught up", vec![voter(1), learner(2), behind], None),
            ("a fourth waits", vec![voter(1), voter(2), voter(3), learner(4)], None),
            ("five", vec![voter(1), voter(2), voter(3), learner(4), learner(5)], Some(vec![1, 2, 3, 4, 5])),
            ("a restart takes no seat away", vec![voter(1), restarting(voter(2)), voter(3), learner(4)], None),
            ("a lost voter is replaced", vec![voter(1), dead(voter(2)), voter(3), learner(4)], Some(vec![1, 3, 4])),
            ("but not dropped", vec![voter(1), dead(voter(2)), voter(3)], None),
            (
                "a drained voter is replaced",
                vec![voter(1), drained(voter(2)), voter(3), learner(4)],
                Some(vec![1, 3, 4]),
            ),
            ("and keeps its seat until then", vec![voter(1), drained(voter(2)), voter(3)], None),
            ("one that leaves does not", vec![voter(1), leaving(voter(2)), voter(3)], Some(vec![1])),
            ("two voters are one too many", vec![voter(1), voter(2)], Some(vec![1])),
            ("the last one stays", vec![leaving(voter(1))], None),
            (
                "no change without a majority",
                vec![voter(1), dead(voter(2)), dead(voter(3)), learner(4), learner(5)],
                None,
            ),
        ];
        for (name, members, expected) in cases {
            assert_eq!(next(&members, 1, 5), expected.map(|voters: Vec<u64>| BTreeSet::from_iter(voters)), "{name}");
        }
    }

    fn member() -> impl Strategy<Value = Member> {
        any::<[bool; 6]>().prop_map(|[is_voter, is_live, is_lost, is_caught_up, is_drained, is_leaving]| Member {
            id: 0,
            is_voter,
            is_live,
            is_lost: is_lost && !is_live,
            is_caught_up,
            is_drained,
            is_leaving,
        })
    }

    proptest! {
        #[test]
        fn every_change_can_be_committed_and_leads_to_rest(
            mut members in proptest::collection::vec(member(), 1..9), seats in 1..7_usize
        ) {
            for (id, member) in (1..).zip(&mut members) {
                member.id = id;
            }
            members[0] = Member { is_voter: true, is_live: true, is_lost: false, ..members[0] };
            let Some(voters) = next(&members, 1, seats) else { return Ok(()) };
            prop_assert!(voters.len() % 2 == 1 && voters.len() <= seats.max(1));
            let live = |of: &dyn Fn(&&Member) -> bool| {
                let all: Vec<_> = members.iter().filter(of).collect();
                2 * all.iter().filter(|member| member.is_live).count() > all.len()
            };
            prop_assert!(live(&|member| member.is_voter) && live(&|member| voters.contains(&member.id)));
            for member in &mut members {
                member.is_voter = voters.contains(&member.id);
            }
            prop_assert_eq!(next(&members, 1, seats), None, "one change is enough");
        }
    }
}
