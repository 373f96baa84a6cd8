//! Functions on strings. Positions are in characters.

use crate::{Budget, EvalError, Value, functions::Fun, value::View};

const RANGE: EvalError = EvalError::Invalid("a position in a string is out of range");

/// `text.fun(args)`
pub(super) fn call(fun: Fun, text: &str, args: &[View<'_>], budget: &mut Budget) -> Result<Value, EvalError> {
    use View::{Int, Str};
    budget.spend_bytes(text.len())?;
    Ok(match (fun, args) {
        (Fun::CharAt, [Int(at)]) => {
            let at = position(*at)?;
            match text.chars().nth(at) {
                Some(char) => Value::string(char.encode_utf8(&mut [0; 4])),
                None if at == text.chars().count() => Value::string(""),
                None => return Err(RANGE),
            }
        }
        (Fun::IndexOf, [Str(part)]) => index(text, text.find(part)),
        (Fun::IndexOf, [Str(part), Int(from)]) => {
            let start = byte_at(text, position(*from)?)?;
            index(text, text[start..].find(part).map(|at| start + at))
        }
        (Fun::LastIndexOf, [Str(part)]) => index(text, text.rfind(part)),
        (Fun::LastIndexOf, [Str(part), Int(from)]) => {
            // The match may begin at `from` at the latest.
            let start = byte_at(text, position(*from)?)?;
            budget.spend_bytes(start.saturating_mul(part.len().min(16)))?;
            let mut begins = text[..start].char_indices().map(|(at, _)| at).chain([start]).rev();
            index(text, begins.find(|at| text[*at..].starts_with(part)))
        }
        (Fun::LowerAscii, []) => Value::String(text.to_ascii_lowercase().into()),
        (Fun::UpperAscii, []) => Value::String(text.to_ascii_uppercase().into()),
        (Fun::ToLower, []) => Value::String(text.to_lowercase().into()),
        (Fun::ToUpper, []) => Value::String(text.to_uppercase().into()),
        (Fun::Trim, []) => Value::string(text.trim()),
        (Fun::Reverse, []) => Value::String(text.chars().rev().collect::<String>().into()),
        (Fun::Substring, [Int(from)]) => Value::string(&text[byte_at(text, position(*from)?)?..]),
        (Fun::Substring, [Int(from), Int(to)]) => {
            let (from, to) = (byte_at(text, position(*from)?)?, byte_at(text, position(*to)?)?);
            Value::string(text.get(from..to).ok_or(RANGE)?)
        }
        (Fun::Replace, [Str(old), Str(new)]) => replace(text, old, new, -1, budget)?,
        (Fun::Replace, [Str(old), Str(new), Int(limit)]) => replace(text, old, new, *limit, budget)?,
        (Fun::Split, [Str(separator)]) => split(text, separator, -1, budget)?,
        (Fun::Split, [Str(separator), Int(limit)]) => split(text, separator, *limit, budget)?,
        _ => return Err(EvalError::Overload(fun.name())),
    })
}

fn position(at: i64) -> Result<usize, EvalError> {
    usize::try_from(at).map_err(|_| RANGE)
}

/// The byte at which this character begins, or the end of the text.
fn byte_at(text: &str, character: usize) -> Result<usize, EvalError> {
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.into_iter().nth(character).ok_or(RANGE)
}

fn index(text: &str, byte: Option<usize>) -> Value {
    Value::Int(byte.map_or(-1, |byte| text[..byte].chars().count() as i64))
}

fn replace(text: &str, old: &str, new: &str, limit: i64, budget: &mut Budget) -> Result<Value, EvalError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(old).take(limit).count();
    budget.spend_bytes(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Value::String(text.replacen(old, new, limit).into()))
}

/// As in Go: an empty separator splits into characters, `limit` 0 gives nothing, the last of `limit` parts holds the rest.
fn split(text: &str, separator: &str, limit: i64, budget: &mut Budget) -> Result<Value, EvalError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let mut parts: Vec<Value> = Vec::new();
    let mut rest = text;
    while parts.len() + 1 < limit {
        let cut = match separator {
            "" => {
                rest.chars().next().map(|char| (char.len_utf8(), char.len_utf8())).filter(|(end, _)| *end < rest.len())
            }
            _ => rest.find(separator).map(|at| (at, at + separator.len())),
        };
        let Some((end, next)) = cut else { break };
        budget.spend(2)?;
        parts.push(Value::string(&rest[..end]));
        rest = &rest[next..];
    }
    if !(separator.is_empty() && rest.is_empty()) {
        parts.push(Value::string(rest));
    }
    Ok(Value::list(parts))
}

/// One text of all, which must be strings.
pub(super) fn join(items: &[Value], separator: &str, budget: &mut Budget) -> Result<Value, EvalError> {
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        let Value::String(text) = item else { return Err(EvalError::Overload("join")) };
        budget.spend_bytes(text.len() + separator.len())?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text);
    }
    Ok(Value::String(joined.into()))
}
