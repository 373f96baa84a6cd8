//! Who was locked out is let in nowhere: on nodes that hear the cluster almost at once, on the others after `viewAgeMax` at the latest.

/// One time that a caller was locked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// When it was asked for.
    pub began: u64,
    /// When it was acknowledged.
    pub acknowledged: u64,
    /// When it was asked to be undone.
    pub until: u64,
    /// Whether some node was under a fault meanwhile.
    pub is_disturbed: bool,
}

/// A request of that caller that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetIn {
    pub node: usize,
    pub sent: u64,
}

/// How long after each revocation was asked for the last request was sent that was let in, in nanoseconds.
pub fn delays(revocations: &[Revocation], let_in: &[LetIn]) -> Vec<(Revocation, u64)> {
    let mut let_in = let_in.to_vec();
    let_in.sort_unstable_by_key(|one| one.sent);
    let delay = |revocation: &Revocation| {
        let end = let_in.partition_point(|one| one.sent < revocation.until);
        let last = end.checked_sub(1).map_or(0, |last| let_in[last].sent);
        (*revocation, last.saturating_sub(revocation.began))
    };
    revocations.iter().map(delay).collect()
}

/// What was broken: requests sent later than `undisturbed` after an acknowledgement while no node was under a fault, or later than
/// `bound` in any case.
pub fn broken(revocations: &[Revocation], let_in: &[LetIn], undisturbed: u64, bound: u64) -> Vec<String> {
    let mut broken = Vec::new();
    for revocation in revocations {
        let allowed = if revocation.is_disturbed { bound } else { undisturbed };
        let from = revocation.acknowledged.saturating_add(allowed);
        let late = let_in.iter().find(|one| one.sent > from && one.sent < revocation.until);
        if let Some(late) = late {
            let after = (late.sent - revocation.acknowledged) / 1_000_000;
            broken.push(format!(
                "revoked: node {} let in a request that was sent {after} ms after the revocation was acknowledged (allowed: {} ms)",
                late.node,
                allowed / 1_000_000
            ));
        }
    }
    broken.truncate(3);
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_let_in_too_late_is_seen() {
        let calm = Revocation { began: 100, acknowledged: 110, until: 200, is_disturbed: false };
        let disturbed = Revocation { is_disturbed: true, ..calm };
        let at = |sent| [LetIn { node: 1, sent: 50 }, LetIn { node: 2, sent }, LetIn { node: 0, sent: 205 }];
        assert!(broken(&[calm], &at(115), 10, 50).is_empty());
        assert_eq!(broken(&[calm], &at(121), 10, 50).len(), 1);
        assert!(broken(&[disturbed], &at(121), 10, 50).is_empty());
        assert_eq!(broken(&[disturbed], &at(161), 10, 50).len(), 1);
        assert_eq!(delays(&[calm], &at(121)), [(calm, 21)]);
        assert_eq!(delays(&[calm], &at(90)), [(calm, 0)]);
    }
}
