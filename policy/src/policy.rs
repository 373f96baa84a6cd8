//! A policy: its rules in the order in which they decide.

use std::{cell::Cell, ops::Range, sync::Arc};

use octelium_api::{
    core::policy::{Spec, spec},
    meta::ObjectReference,
};

use crate::{
    Budget, Condition, Context, Effect, Error, EvalError, Reads, Value,
    compile::{Compiler, Purpose},
    parse,
};

/// Rules, and enforcement rules, of one policy.
const RULES_MAX: usize = 100;
/// Priorities are −4 (strongest) to 4.
const PRIORITY_MAX: i32 = 4;
/// Per priority one place for DENY and one for ALLOW.
pub(crate) const SLOTS: usize = 18;

/// Where a policy comes from, for access logs.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A Policy resource.
    Named(ObjectReference),
    /// A policy written inside another resource.
    Inline {
        /// That resource.
        owner: ObjectReference,
        /// The policy's own name, maybe empty.
        name: String,
    },
    /// A policy that comes with the program.
    BuiltIn(String),
}

/// A rule as logs name it. Shared, so that a decision carries it without copying.
#[derive(Debug, PartialEq)]
pub struct RuleId {
    /// Where its policy comes from.
    pub origin: Arc<Origin>,
    /// Its name, maybe empty.
    pub name: String,
    /// Its priority.
    pub priority: i32,
}

/// A compiled policy.
#[derive(Debug)]
pub struct Policy {
    origin: Arc<Origin>,
    disabled: bool,
    attrs: Value,
    /// Ordered by slot.
    rules: Box<[Rule]>,
    /// Where each slot begins in `rules`; the last is the end.
    starts: [u8; SLOTS + 1],
    /// The slots that have rules, as bits.
    used: u32,
    enforcement: Box<[EnforcementRule]>,
    reads: Reads,
    warnings: Box<[Error]>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub id: Arc<RuleId>,
    pub effect: Effect,
    condition: Condition,
}

#[derive(Debug)]
struct EnforcementRule {
    enforce: bool,
    condition: Condition,
}

impl Policy {
    /// Compiles a policy; `path` is where it stands in its resource, e.g. `spec`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &Spec, origin: Origin, path: &str) -> Result<Self, Vec<Error>> {
        parse::on_deep_stack(path, || Self::compile_here(spec, origin, path))
    }

    fn compile_here(policy: &Spec, origin: Origin, path: &str) -> Result<Self, Vec<Error>> {
        let mut compiler = Compiler::default();
        let origin = Arc::new(origin);
        for (name, count) in [("rules", policy.rules.len()), ("enforcementRules", policy.enforcement_rules.len())] {
            if count > RULES_MAX {
                return Err(vec![Error::at(format!("{path}.{name}"), "more than 100 rules")]);
            }
        }
        let rules = policy.rules.iter().enumerate();
        let mut rules: Vec<Rule> = rules
            .map(|(index, rule)| self::rule(&mut compiler, rule, &origin, &format!("{path}.rules[{index}]")))
            .collect();
        let enforcement = policy.enforcement_rules.iter().enumerate();
        let enforcement = enforcement
            .map(|(index, rule)| enforcement_rule(&mut compiler, rule, &format!("{path}.enforcementRules[{index}]")))
            .collect();
        if !compiler.errors.is_empty() {
            return Err(compiler.errors);
        }
        rules.sort_by_key(slot);
        let mut starts = [0; SLOTS + 1];
        for (at, start) in starts.iter_mut().enumerate() {
            // At most 100 rules.
            *start = rules.partition_point(|rule| slot(rule) < at) as u8;
        }
        let used = rules.iter().fold(0, |used, rule| used | 1 << slot(rule));
        Ok(Self {
            origin,
            disabled: policy.is_disabled,
            attrs: policy.attrs.as_ref().map_or_else(|| Value::map::<&str>([]), Value::from_struct),
            rules: rules.into(),
            starts,
            used: if policy.is_disabled { 0 } else { used },
            enforcement,
            warnings: compiler.warnings.into(),
            reads: if policy.is_disabled { Reads::default() } else { compiler.reads },
        })
    }

    /// What of `ctx` its rules may read.
    pub fn reads(&self) -> Reads {
        self.reads
    }

    /// What compiles and may not mean what it seems to.
    pub fn warnings(&self) -> &[Error] {
        &self.warnings
    }

    /// Whether it contributes nothing.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// The slots that have rules, as bits; none if the policy is disabled.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// The rules of one slot.
    pub(crate) fn slot(&self, slot: usize) -> &[Rule] {
        &self.rules[self.places(slot)]
    }

    /// Where the rules of one slot stand among all rules.
    pub(crate) fn places(&self, slot: usize) -> Range<usize> {
        usize::from(self.starts[slot])..usize::from(self.starts[slot + 1])
    }

    /// The rule at this place.
    pub(crate) fn rule(&self, place: usize) -> &Rule {
        &self.rules[place]
    }

    pub(crate) fn matches(&self, rule: &Rule, ctx: &Context<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
        rule.condition.evaluate(ctx, Some(&self.attrs), budget)
    }

    /// Whether the rule matches, if neither request nor time have a say; and what finding out costs.
    pub(crate) fn matches_ahead(&self, rule: &Rule, ctx: &Context<'_>) -> Option<(Result<bool, EvalError>, u64)> {
        ahead(|budget, asked| rule.condition.evaluate_ahead(ctx, Some(&self.attrs), budget, asked))
    }

    /// Whether its rules count, if neither request nor time have a say; and what finding out costs.
    pub(crate) fn is_enforced_ahead(&self, ctx: &Context<'_>) -> Option<(bool, u64)> {
        let (enforced, cost) = ahead(|budget, asked| {
            self.enforced_by(budget, |condition, budget| {
                condition.evaluate_ahead(ctx, Some(&self.attrs), budget, asked)
            })
        })?;
        enforced.ok().map(|enforced| (enforced, cost))
    }

    /// Whether anything of the request is read to find out whether its rules count.
    pub(crate) fn enforcement_reads_request(&self) -> bool {
        self.enforcement.iter().any(|rule| rule.condition.reads().request)
    }

    /// Whether its rules count. An ENFORCE rule that fails enforces and an IGNORE rule that fails doesn't ignore: no DENY may be
    /// lost through an error.
    ///
    /// # Errors
    /// Only [`EvalError::Budget`].
    pub(crate) fn is_enforced(&self, ctx: &Context<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
        self.enforced_by(budget, |condition, budget| condition.evaluate(ctx, Some(&self.attrs), budget))
    }

    fn enforced_by(
        &self,
        budget: &mut Budget,
        holds: impl Fn(&Condition, &mut Budget) -> Result<bool, EvalError>,
    ) -> Result<bool, EvalError> {
        let mut ignored = false;
        for rule in &self.enforcement {
            if ignored && !rule.enforce {
                continue;
            }
            match holds(&rule.condition, budget) {
                Ok(true) if rule.enforce => return Ok(true),
                Ok(true) => ignored = true,
                Ok(false) => {}
                Err(EvalError::Budget) => return Err(EvalError::Budget),
                Err(_) if rule.enforce => return Ok(true),
                Err(_) => {}
            }
        }
        Ok(!ignored)
    }
}

/// Evaluates without a request and without a time; `None` if either was asked for, or the whole budget isn't enough.
fn ahead(
    evaluate: impl FnOnce(&mut Budget, &Cell<bool>) -> Result<bool, EvalError>,
) -> Option<(Result<bool, EvalError>, u64)> {
    let (mut budget, asked) = (Budget::new(), Cell::new(false));
    let result = evaluate(&mut budget, &asked);
    (!asked.get() && result != Err(EvalError::Budget)).then(|| (result, Budget::UNITS - budget.left()))
}

/// Strongest priority first, and in it DENY before ALLOW.
fn slot(rule: &Rule) -> usize {
    let priority = usize::try_from(rule.id.priority + PRIORITY_MAX).expect("rule() clamps priorities");
    priority * 2 + usize::from(rule.effect == Effect::Allow)
}

fn condition(compiler: &mut Compiler, of: Option<&octelium_api::core::Condition>, path: &str) -> Condition {
    let none = octelium_api::core::Condition::default();
    let of_others = std::mem::take(&mut compiler.reads);
    let node = compiler.condition(of.unwrap_or(&none), &format!("{path}.condition"));
    let own = compiler.reads;
    compiler.reads |= of_others;
    Condition::of(node, own)
}

fn rule(compiler: &mut Compiler, rule: &spec::Rule, origin: &Arc<Origin>, path: &str) -> Rule {
    let effect = match rule.effect() {
        spec::rule::Effect::Allow => Effect::Allow,
        spec::rule::Effect::Deny => Effect::Deny,
        spec::rule::Effect::Unknown => {
            compiler.errors.push(Error::at(format!("{path}.effect"), "the effect must be ALLOW or DENY"));
            Effect::Deny
        }
    };
    let priority = rule.priority.clamp(-PRIORITY_MAX, PRIORITY_MAX);
    if priority != rule.priority {
        compiler.errors.push(Error::at(format!("{path}.priority"), "the priority must be from -4 to 4"));
    }
    compiler.purpose = Some(if effect == Effect::Allow { Purpose::Opens } else { Purpose::Closes });
    let id = RuleId { origin: Arc::clone(origin), name: rule.name.clone(), priority };
    Rule { id: Arc::new(id), effect, condition: condition(compiler, rule.condition.as_ref(), path) }
}

fn enforcement_rule(compiler: &mut Compiler, rule: &spec::EnforcementRule, path: &str) -> EnforcementRule {
    let effect = rule.effect();
    if effect == spec::enforcement_rule::Effect::Unknown {
        compiler.errors.push(Error::at(format!("{path}.effect"), "the effect must be ENFORCE or IGNORE"));
    }
    let ignores = effect == spec::enforcement_rule::Effect::Ignore;
    compiler.purpose = Some(if ignores { Purpose::Opens } else { Purpose::Closes });
    let condition = condition(compiler, rule.condition.as_ref(), path);
    EnforcementRule { enforce: !ignores, condition }
}
