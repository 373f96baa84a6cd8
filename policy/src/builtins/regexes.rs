//! Regular expressions of the RE2 class: matching takes time proportional to the text.

use regex::{Regex, RegexBuilder};

use crate::{Budget, EvalError};

/// Bytes of a compiled expression.
const SIZE_MAX: usize = 256 << 10;
/// What compiling an expression costs that isn't constant.
const COMPILE_UNITS: u64 = 50_000;

/// Compiles, or says in a few words what is wrong.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(SIZE_MAX).dfa_size_limit(SIZE_MAX).nest_limit(64).build().map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(_) => "it is too big when compiled".to_owned(),
            error => {
                // The last line says what; the lines before it draw where.
                let text = error.to_string();
                text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        }
    })
}

/// Whether `regex` matches any part of `text`.
pub(crate) fn is_match(regex: &Regex, text: &str, budget: &mut Budget) -> Result<bool, EvalError> {
    // The slow path of the matcher looks at every state for every byte.
    let per_16_bytes = 1 + regex.as_str().len() as u64 / 16;
    budget.spend((text.len() as u64 / 16 + 1) * per_16_bytes)?;
    Ok(regex.is_match(text))
}

/// Compiles and matches.
pub(super) fn matches(text: &str, pattern: &str, budget: &mut Budget) -> Result<bool, EvalError> {
    budget.spend(COMPILE_UNITS)?;
    let regex = compile(pattern).map_err(|_| EvalError::Invalid("matches(): the regular expression is refused"))?;
    is_match(&regex, text, budget)
}
