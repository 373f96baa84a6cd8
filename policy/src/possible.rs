//! Whether some request could be allowed, when only the caller and the Service are known: for lists of what one may use.

use crate::{
    Budget, Context, Effect, EvalError, Policy,
    policy::{Rule, SLOTS},
};

/// What is known without a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    No,
    /// It depends on the request.
    Depends,
}

/// Whether a request of the caller in `ctx`, which has no request, could be allowed by `policies`. `false` is certain;
/// `true` is not: rules that depend on the request are taken to match where they allow, and not to match where they deny.
pub fn could_allow<'p>(policies: impl Iterator<Item = &'p Policy> + Clone, ctx: &Context<'_>) -> bool {
    let mut budget = Budget::new();
    let policies: Vec<&Policy> = policies.collect();
    // Asked for when the first rule of a policy is looked at: a decision wouldn't spend on more either.
    let mut counted: Vec<Option<Known>> = vec![None; policies.len()];
    for slot in 0..SLOTS {
        for (policy, counts) in policies.iter().zip(&mut counted) {
            if policy.used() & (1 << slot) == 0 {
                continue;
            }
            let counts = *counts.get_or_insert_with(|| self::counts(policy, ctx, &mut budget));
            for rule in policy.slot(slot) {
                let matches = match counts {
                    Known::No => continue,
                    _ => matches(policy, rule, ctx, &mut budget),
                };
                match (matches, counts, rule.effect) {
                    (Known::No, ..) => {}
                    (_, _, Effect::Allow) => return true,
                    (Known::Yes, Known::Yes, Effect::Deny) => return false,
                    (_, _, Effect::Deny) => {}
                }
            }
        }
    }
    false
}

fn counts(policy: &Policy, ctx: &Context<'_>, budget: &mut Budget) -> Known {
    if policy.enforcement_reads_request() {
        return Known::Depends;
    }
    match policy.is_enforced(ctx, budget) {
        Ok(true) => Known::Yes,
        Ok(false) => Known::No,
        // Too dear to know: such a request is denied.
        Err(_) => Known::Yes,
    }
}

fn matches(policy: &Policy, rule: &Rule, ctx: &Context<'_>, budget: &mut Budget) -> Known {
    match policy.matches(rule, ctx, budget) {
        Ok(true) => Known::Yes,
        Ok(false) => Known::No,
        Err(EvalError::Unknown) => Known::Depends,
        // As in a decision: a DENY rule that fails denies, an ALLOW rule that fails doesn't match.
        Err(_) if rule.effect == Effect::Deny => Known::Yes,
        Err(_) => Known::No,
    }
}
