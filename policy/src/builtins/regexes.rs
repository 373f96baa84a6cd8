//! Regular expressions of the RE2 class: matching takes time proportional to the text.

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind};

use crate::{Budget, EvalError};

/// Bytes of a compiled expression.
const SIZE_MAX: usize = 256 << 10;
/// Groups within groups.
const NEST_MAX: u32 = 64;
/// What compiling an expression costs that isn't constant.
const COMPILE_UNITS: u64 = 50_000;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// Units that 16 bytes of text cost: the slow path of the matcher looks at every state for every byte.
    weight: u64,
}

/// Compiles, or says in a few words what is wrong.
pub(crate) fn compile(pattern: &str) -> Result<Pattern, String> {
    let regex = RegexBuilder::new(pattern).size_limit(SIZE_MAX).dfa_size_limit(SIZE_MAX).nest_limit(NEST_MAX).build();
    let regex = regex.map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(_) => "it is too big when compiled".to_owned(),
            error => {
                // The last line says what; the lines before it draw where.
                let text = error.to_string();
                text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        }
    })?;
    let parsed = regex_syntax::ParserBuilder::new().nest_limit(NEST_MAX).build().parse(pattern);
    let states = parsed.map_err(|error| error.to_string()).map(|hir| states(&hir))?;
    Ok(Pattern { regex, weight: 1 + states / 16 })
}

/// States of the automaton, about: what is repeated counts as often as it may be.
fn states(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1)).max(1);
            states(&repetition.sub).saturating_mul(times.into())
        }
        HirKind::Capture(capture) => states(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(states).fold(1, |sum, part| sum.saturating_add(part))
        }
    }
}

/// Whether `pattern` matches any part of `text`.
pub(crate) fn is_match(pattern: &Pattern, text: &str, budget: &mut Budget) -> Result<bool, EvalError> {
    budget.spend((text.len() as u64 / 16 + 1).saturating_mul(pattern.weight))?;
    Ok(pattern.regex.is_match(text))
}

/// Compiles and matches.
pub(super) fn matches(text: &str, pattern: &str, budget: &mut Budget) -> Result<bool, EvalError> {
    budget.spend(COMPILE_UNITS)?;
    let pattern = compile(pattern).map_err(|_| EvalError::Invalid("matches(): the regular expression is refused"))?;
    is_match(&pattern, text, budget)
}
