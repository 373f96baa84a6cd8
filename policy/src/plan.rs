//! What is left to decide for one caller at one Service, when all has been decided that depends on neither request nor time.
//!
//! A plan answers as [`decide`](crate::decide) does, to the reason and to the last unit of the budget: what was evaluated ahead
//! is paid for by every decision as if it had been evaluated then.

use std::{ops::Range, sync::Arc};

use crate::{Budget, Context, Decision, Effect, EvalError, Policy, evaluate::Course, policy::SLOTS};

/// See the module. Holds for the caller and the Service that it was made for, as they were then.
#[derive(Debug)]
pub struct Plan {
    steps: Box<[Step]>,
    settled: Box<[Settled]>,
    /// What was settled behind the last step.
    end: Debt,
}

/// A rule that a decision has to look at.
#[derive(Debug)]
struct Step {
    policy: Arc<Policy>,
    /// The rule's place in its policy.
    rule: usize,
    /// What it answers, if that is known.
    known: Option<Result<bool, EvalError>>,
    /// The policy's place among those of which only a request tells whether they are enforced.
    asks: Option<usize>,
    /// What was settled between the step before and this one.
    debt: Debt,
}

/// Something evaluated ahead that costs.
#[derive(Debug)]
struct Settled {
    policy: Arc<Policy>,
    /// The rule's place; `None`: the policy's enforcement rules.
    rule: Option<usize>,
    cost: u64,
}

/// What settled things cost together.
#[derive(Debug, Default)]
struct Debt {
    cost: u64,
    /// Which.
    of: Range<usize>,
}

impl Plan {
    /// Evaluates what can be evaluated for the caller and the Service in `ctx`; its request and time aren't looked at.
    pub fn new<'p>(policies: impl Iterator<Item = &'p Arc<Policy>>, ctx: &Context<'_>) -> Self {
        Planner::default().plan(&policies.collect::<Vec<_>>(), ctx)
    }

    /// Decides about a request; the rest of `ctx` must be what the plan was made of. Allocates nothing where the rules don't.
    pub fn decide(&self, ctx: &Context<'_>) -> Decision {
        let mut course = Course::default();
        for step in &self.steps {
            if let Some(exceeded) = self.pay(&step.debt, &mut course) {
                return exceeded;
            }
            if let Some(index) = step.asks {
                match course.is_enforced(index, &step.policy, ctx) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(_) => return course.exceeded(&step.policy, None),
                }
            }
            let rule = step.policy.rule(step.rule);
            let matches = step.known.unwrap_or_else(|| step.policy.matches(rule, ctx, &mut course.budget));
            if let Some(decision) = course.follow(&step.policy, rule, matches) {
                return decision;
            }
        }
        self.pay(&self.end, &mut course).unwrap_or_else(|| course.nothing_matched())
    }

    /// How many rules a decision looks at, at most.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The decision, if what was settled costs more than is left.
    fn pay(&self, debt: &Debt, course: &mut Course) -> Option<Decision> {
        if course.budget.spend_whole(debt.cost) {
            return None;
        }
        let over = self.settled[debt.of.clone()].iter().find(|settled| course.budget.spend(settled.cost).is_err())?;
        Some(course.exceeded(&over.policy, over.rule.map(|place| over.policy.rule(place))))
    }
}

/// Whether a policy is enforced, as far as that is known ahead.
#[derive(Clone, Copy)]
enum Enforced {
    Known(bool),
    Ask(usize),
}

/// Makes a plan.
#[derive(Default)]
struct Planner {
    steps: Vec<Step>,
    settled: Vec<Settled>,
    /// Where the next step's debt begins in `settled`.
    paid: usize,
    /// Policies of which only a request tells whether they are enforced.
    asked: usize,
    /// What was settled costs this together.
    total: u64,
}

impl Planner {
    fn plan(mut self, policies: &[&Arc<Policy>], ctx: &Context<'_>) -> Plan {
        let ctx = &Context { request: None, ..*ctx };
        let mut enforced: Vec<Option<Enforced>> = vec![None; policies.len()];
        'decided: for slot in 0..SLOTS {
            for (policy, enforced) in policies.iter().zip(&mut enforced) {
                if policy.used() & (1 << slot) == 0 {
                    continue;
                }
                // Asked for where a decision would ask.
                let enforced = *enforced.get_or_insert_with(|| self.enforced(policy, ctx));
                if let Enforced::Known(false) = enforced {
                    continue;
                }
                for place in policy.places(slot) {
                    // No decision gets further than what it may cost, so neither does planning.
                    if self.rule(policy, place, enforced, ctx) || self.total > Budget::UNITS {
                        break 'decided;
                    }
                }
            }
        }
        let end = self.debt();
        Plan { steps: self.steps.into(), settled: self.settled.into(), end }
    }

    fn enforced(&mut self, policy: &Arc<Policy>, ctx: &Context<'_>) -> Enforced {
        if let Some((enforced, cost)) = policy.is_enforced_ahead(ctx) {
            self.settle(policy, None, cost);
            return Enforced::Known(enforced);
        }
        self.asked += 1;
        Enforced::Ask(self.asked - 1)
    }

    /// Adds a rule, if it may matter; says whether it surely decides.
    fn rule(&mut self, policy: &Arc<Policy>, place: usize, enforced: Enforced, ctx: &Context<'_>) -> bool {
        let rule = policy.rule(place);
        let asks = match enforced {
            Enforced::Ask(index) => Some(index),
            Enforced::Known(_) => None,
        };
        // What a rule costs must not be paid for a policy that may turn out not to be enforced.
        let ahead = if asks.is_none() { policy.matches_ahead(rule, ctx) } else { None };
        let known = ahead.map(|(matches, cost)| {
            self.settle(policy, Some(place), cost);
            matches
        });
        if known == Some(Ok(false)) {
            return false;
        }
        let debt = self.debt();
        self.steps.push(Step { policy: Arc::clone(policy), rule: place, known, asks, debt });
        match known {
            Some(Ok(true)) => true,
            Some(Err(_)) => rule.effect == Effect::Deny,
            _ => false,
        }
    }

    fn settle(&mut self, policy: &Arc<Policy>, rule: Option<usize>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost > 0 {
            self.settled.push(Settled { policy: Arc::clone(policy), rule, cost });
        }
    }

    /// What was settled since it was last asked for.
    fn debt(&mut self) -> Debt {
        let of = std::mem::replace(&mut self.paid, self.settled.len())..self.settled.len();
        Debt { cost: self.settled[of.clone()].iter().map(|settled| settled.cost).fold(0, u64::saturating_add), of }
    }
}
