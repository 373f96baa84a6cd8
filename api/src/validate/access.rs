//! Policies, wherever they are attached, and their conditions.

use prost::Message;

use super::{Report, values};
use crate::{
    core::{
        Condition, InlinePolicy,
        condition::{Type, opa},
        policy::{
            Spec,
            spec::{enforcement_rule, rule},
        },
    },
    name,
};

const LIST_MAX: usize = 100;
const PRIORITIES: std::ops::RangeInclusive<i32> = -4..=4;
const POLICY_BYTES_MAX: usize = 100_000;
const CONDITION_DEPTH_MAX: usize = 16;
pub(super) const EXPRESSION_BYTES_MAX: usize = 10_000;
const OPA_BYTES_MAX: usize = 20_000;

/// Policies by name and inline.
pub(super) fn authorization(path: &str, policies: &[String], inline: &[InlinePolicy], report: &mut Report) {
    if report.count(&format!("{path}.policies"), policies.len(), LIST_MAX) {
        for (index, policy) in policies.iter().enumerate() {
            if !name::is_policy(policy) {
                report.add(
                    &format!("{path}.policies[{index}]"),
                    "not a Policy's name: up to six names separated by dots",
                );
            }
        }
    }
    if report.count(&format!("{path}.inlinePolicies"), inline.len(), LIST_MAX) {
        for (index, inline) in inline.iter().enumerate() {
            let path = format!("{path}.inlinePolicies[{index}]");
            if !inline.name.is_empty() {
                report.plain_name(&format!("{path}.name"), &inline.name);
            }
            match &inline.spec {
                Some(spec) => policy(&format!("{path}.spec"), spec, report),
                None => report.add(&format!("{path}.spec"), "missing"),
            }
        }
    }
}

pub(super) fn policy(path: &str, spec: &Spec, report: &mut Report) {
    let bytes = spec.encoded_len();
    if bytes > POLICY_BYTES_MAX {
        return report.add(path, format!("takes {bytes} bytes; at most {POLICY_BYTES_MAX}"));
    }
    if report.count(&format!("{path}.rules"), spec.rules.len(), LIST_MAX) {
        for (index, rule) in spec.rules.iter().enumerate() {
            let path = format!("{path}.rules[{index}]");
            if !rule.name.is_empty() {
                report.plain_name(&format!("{path}.name"), &rule.name);
            }
            condition(&format!("{path}.condition"), rule.condition.as_ref(), report);
            if rule.effect == rule::Effect::Unknown as i32 {
                report.add(&format!("{path}.effect"), "missing: ALLOW or DENY");
            }
            if !PRIORITIES.contains(&rule.priority) {
                report.add(&format!("{path}.priority"), format!("{} is out of range; -4 to 4", rule.priority));
            }
        }
    }
    if report.count(&format!("{path}.enforcementRules"), spec.enforcement_rules.len(), LIST_MAX) {
        for (index, rule) in spec.enforcement_rules.iter().enumerate() {
            let path = format!("{path}.enforcementRules[{index}]");
            condition(&format!("{path}.condition"), rule.condition.as_ref(), report);
            if rule.effect == enforcement_rule::Effect::Unknown as i32 {
                report.add(&format!("{path}.effect"), "missing: ENFORCE or IGNORE");
            }
        }
    }
    values::attrs(&format!("{path}.attrs"), spec.attrs.as_ref(), report);
}

/// A condition that must be there and say exactly one thing. Expressions are compiled elsewhere.
pub(super) fn condition(path: &str, condition: Option<&Condition>, report: &mut Report) {
    match condition {
        Some(condition) => nested(path, condition, 1, report),
        None => report.add(path, "missing: write `matchAny: true` for always"),
    }
}

fn nested(path: &str, condition: &Condition, depth: usize, report: &mut Report) {
    let (member, children) = match &condition.r#type {
        None => return report.add(path, "needs one of match, not, matchAny, all, any, none"),
        Some(Type::MatchAny(_)) => return,
        Some(Type::Match(text)) => return expression(&format!("{path}.match"), text, EXPRESSION_BYTES_MAX, report),
        Some(Type::Not(text)) => return expression(&format!("{path}.not"), text, EXPRESSION_BYTES_MAX, report),
        Some(Type::Opa(opa)) => {
            let path = format!("{path}.opa.inline");
            return match &opa.r#type {
                Some(opa::Type::Inline(text)) => expression(&path, text, OPA_BYTES_MAX, report),
                None => report.add(&path, "missing"),
            };
        }
        Some(Type::All(all)) => ("all", &all.of),
        Some(Type::Any(any)) => ("any", &any.of),
        Some(Type::None(none)) => ("none", &none.of),
    };
    let path = format!("{path}.{member}.of");
    if children.is_empty() {
        return report.add(&path, "missing: at least one condition");
    }
    if depth >= CONDITION_DEPTH_MAX {
        return report.add(&path, format!("conditions nest deeper than {CONDITION_DEPTH_MAX} levels"));
    }
    if report.count(&path, children.len(), LIST_MAX) {
        for (index, child) in children.iter().enumerate() {
            nested(&format!("{path}[{index}]"), child, depth + 1, report);
        }
    }
}

pub(super) fn expression(path: &str, text: &str, bytes_max: usize, report: &mut Report) {
    if text.trim().is_empty() {
        report.add(path, "is blank");
    }
    report.length(path, text, bytes_max);
}
