//! The decision over all policies that apply to a request.

use std::sync::Arc;

use crate::{
    Budget, Context, EvalError, Origin, Policy, RuleId,
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
pub struct Decision {
    /// The answer.
    pub effect: Effect,
    /// What decided.
    pub reason: Reason,
    /// The first ALLOW rule that was passed over because it failed, for the log.
    pub failure: Option<Failure>,
}

/// What decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// No rule matched: deny.
    NoPolicyMatch,
    /// This rule matched, or is a DENY rule that failed.
    PolicyMatch {
        /// Which rule.
        rule: Arc<RuleId>,
        /// Why the DENY rule failed, if it did.
        error: Option<EvalError>,
    },
    /// The policies cost too much: deny.
    BudgetExceeded {
        /// Where the policy comes from that was being evaluated.
        origin: Arc<Origin>,
        /// The rule; `None` if it was an enforcement rule.
        rule: Option<Arc<RuleId>>,
    },
}

/// A rule that could not be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Which rule.
    pub rule: Arc<RuleId>,
    /// Why.
    pub error: EvalError,
}

/// Decides: rules of all enforced policies by priority, −4 first, in each DENY before ALLOW; the first that matches decides,
/// and none is DENY. The order of `policies` has no influence on the effect.
///
/// A DENY rule that fails denies, an ALLOW rule that fails doesn't match; a missing key isn't a failure but false.
/// Where one caller asks more than once, [`Plan`](crate::Plan) decides the same with less work.
pub fn decide<'p>(policies: impl Iterator<Item = &'p Policy> + Clone, ctx: &Context<'_>) -> Decision {
    let mut course = Course::default();
    let used = policies.clone().fold(0, |used, policy| used | policy.used());
    for slot in (0..SLOTS).filter(|slot| used & (1 << slot) != 0) {
        for (index, policy) in policies.clone().enumerate() {
            if policy.used() & (1 << slot) == 0 {
                continue;
            }
            match course.is_enforced(index, policy, ctx) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(_) => return course.exceeded(policy, None),
            }
            for rule in policy.slot(slot) {
                let matches = policy.matches(rule, ctx, &mut course.budget);
                if let Some(decision) = course.follow(policy, rule, matches) {
                    return decision;
                }
            }
        }
    }
    course.nothing_matched()
}

/// One decision while it is made.
#[derive(Default)]
pub(crate) struct Course {
    pub budget: Budget,
    enforced: Enforced,
    failure: Option<Failure>,
}

impl Course {
    /// Whether this policy, the `index`th, is enforced; found out once.
    pub(crate) fn is_enforced(&mut self, index: usize, policy: &Policy, ctx: &Context<'_>) -> Result<bool, EvalError> {
        self.enforced.get(index, || policy.is_enforced(ctx, &mut self.budget))
    }

    /// What follows from a rule's answer: the decision, or that the next rule is asked.
    pub(crate) fn follow(
        &mut self,
        policy: &Policy,
        rule: &Rule,
        matches: Result<bool, EvalError>,
    ) -> Option<Decision> {
        match matches {
            Ok(false) => None,
            Ok(true) => Some(self.decided(rule, None)),
            Err(EvalError::Budget) => Some(self.exceeded(policy, Some(rule))),
            Err(error) if rule.effect == Effect::Deny => Some(self.decided(rule, Some(error))),
            Err(error) => {
                self.failure.get_or_insert_with(|| Failure { rule: Arc::clone(&rule.id), error });
                None
            }
        }
    }

    fn decided(&mut self, rule: &Rule, error: Option<EvalError>) -> Decision {
        let reason = Reason::PolicyMatch { rule: Arc::clone(&rule.id), error };
        Decision { effect: rule.effect, reason, failure: self.failure.take() }
    }

    /// The work that a decision may cost is spent.
    pub(crate) fn exceeded(&mut self, policy: &Policy, rule: Option<&Rule>) -> Decision {
        let reason =
            Reason::BudgetExceeded { origin: Arc::clone(policy.origin()), rule: rule.map(|rule| Arc::clone(&rule.id)) };
        Decision { effect: Effect::Deny, reason, failure: self.failure.take() }
    }

    pub(crate) fn nothing_matched(self) -> Decision {
        Decision { effect: Effect::Deny, reason: Reason::NoPolicyMatch, failure: self.failure }
    }
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
