//! The decision over all policies that apply to a request.

use crate::{
    Budget, Context, EvalError, Origin, Policy,
    policy::{Rule, SLOTS},
};

/// What a rule, or a decision, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Let it pass.
    Allow,
    /// Refuse it.
    Deny,
}

/// Whether a request may pass, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<'p> {
    /// The answer.
    pub effect: Effect,
    /// What decided.
    pub reason: Reason<'p>,
    /// The first ALLOW rule that was passed over because it failed, for the log.
    pub failure: Option<Failure<'p>>,
}

/// What decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason<'p> {
    /// No rule matched: deny.
    NoPolicyMatch,
    /// This rule matched, or is a DENY rule that failed.
    PolicyMatch {
        /// Where its policy comes from.
        origin: &'p Origin,
        /// Its name, maybe empty.
        rule: &'p str,
        /// Its priority.
        priority: i32,
        /// Why the DENY rule failed, if it did.
        error: Option<EvalError>,
    },
    /// The policies cost too much: deny.
    BudgetExceeded {
        /// Where the policy comes from that was being evaluated.
        origin: &'p Origin,
        /// The rule; empty if it was an enforcement rule.
        rule: &'p str,
    },
}

/// A rule that could not be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure<'p> {
    /// Where its policy comes from.
    pub origin: &'p Origin,
    /// Its name, maybe empty.
    pub rule: &'p str,
    /// Its priority.
    pub priority: i32,
    /// Why.
    pub error: EvalError,
}

/// Decides: rules of all enforced policies by priority, −4 first, in each DENY before ALLOW; the first that matches decides,
/// and none is DENY. The order of `policies` has no influence on the effect.
///
/// A DENY rule that fails denies, an ALLOW rule that fails doesn't match; a missing key isn't a failure but false.
pub fn decide<'p>(policies: impl Iterator<Item = &'p Policy> + Clone, ctx: &Context<'_>) -> Decision<'p> {
    let mut budget = Budget::new();
    let mut enforced = Enforced::default();
    let mut failure = None;
    let used = policies.clone().fold(0, |used, policy| used | policy.used());
    for slot in (0..SLOTS).filter(|slot| used & (1 << slot) != 0) {
        for (index, policy) in policies.clone().enumerate() {
            if policy.used() & (1 << slot) == 0 {
                continue;
            }
            match enforced.get(index, || policy.is_enforced(ctx, &mut budget)) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(_) => return exceeded(policy, "", failure),
            }
            for rule in policy.slot(slot) {
                match policy.matches(rule, ctx, &mut budget) {
                    Ok(false) => {}
                    Ok(true) => return decided(policy, rule, None, failure),
                    Err(EvalError::Budget) => return exceeded(policy, &rule.name, failure),
                    Err(error) if rule.effect == Effect::Deny => return decided(policy, rule, Some(error), failure),
                    Err(error) => {
                        let origin = policy.origin();
                        failure =
                            failure.or(Some(Failure { origin, rule: &rule.name, priority: rule.priority, error }));
                    }
                }
            }
        }
    }
    Decision { effect: Effect::Deny, reason: Reason::NoPolicyMatch, failure }
}

fn decided<'p>(
    policy: &'p Policy,
    rule: &'p Rule,
    error: Option<EvalError>,
    failure: Option<Failure<'p>>,
) -> Decision<'p> {
    let reason = Reason::PolicyMatch { origin: policy.origin(), rule: &rule.name, priority: rule.priority, error };
    Decision { effect: rule.effect, reason, failure }
}

fn exceeded<'p>(policy: &'p Policy, rule: &'p str, failure: Option<Failure<'p>>) -> Decision<'p> {
    Decision { effect: Effect::Deny, reason: Reason::BudgetExceeded { origin: policy.origin(), rule }, failure }
}

/// Which policies are enforced, by their place, found out once per decision. Allocates only for more policies than are usual.
#[derive(Default)]
struct Enforced {
    known: u128,
    yes: u128,
    more: Vec<Option<bool>>,
}

impl Enforced {
    fn get(&mut self, index: usize, find: impl FnOnce() -> Result<bool, EvalError>) -> Result<bool, EvalError> {
        const INLINE: usize = u128::BITS as usize;
        if index < INLINE {
            let bit = 1 << index;
            if self.known & bit == 0 {
                self.yes |= if find()? { bit } else { 0 };
                self.known |= bit;
            }
            return Ok(self.yes & bit != 0);
        }
        let index = index - INLINE;
        if self.more.len() <= index {
            self.more.resize(index + 1, None);
        }
        if let Some(known) = self.more[index] {
            return Ok(known);
        }
        let found = find()?;
        self.more[index] = Some(found);
        Ok(found)
    }
}
