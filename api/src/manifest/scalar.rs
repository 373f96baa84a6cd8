//! Scalars: what an unquoted one is, and how each becomes a value of the type that the schema wants.

use std::fmt::Write;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{EnumDescriptor, Kind, Value};

use super::{
    suggest::did_you_mean,
    tree::{Content, Node},
};

/// Longer texts are shortened where a message shows them.
const SHOWN_CHARS_MAX: usize = 60;
/// Beyond this not every integer is an `f64`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What a scalar is by the core schema of YAML 1.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'n> {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'n str),
    /// `0123` is octal in YAML 1.1 and decimal in 1.2.
    Ambiguous(&'n str),
}

/// The scalar that `node` is; `None` for lists and mappings.
pub(super) fn scalar<'n>(node: &'n Node<'_>) -> Option<Scalar<'n>> {
    match &node.content {
        Content::Text(text) => Some(Scalar::Text(text)),
        Content::Plain(_) if node.is_null() => Some(Scalar::Null),
        Content::Plain(text) => Some(plain(text)),
        Content::List(_) | Content::Mapping(_) => None,
    }
}

fn plain(text: &str) -> Scalar<'_> {
    match text {
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if let Some(octal) =
        text.strip_prefix("0o").filter(|digits| digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)))
    {
        return i128::from_str_radix(octal, 8).map_or(Scalar::Text(text), Scalar::Integer);
    }
    if let Some(hex) = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return i128::from_str_radix(hex, 16).map_or(Scalar::Text(text), Scalar::Integer);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.bytes().any(|byte| byte.is_ascii_digit())
        || !digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
        || !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
    {
        return Scalar::Text(text);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        if digits.len() > 1 && digits.starts_with('0') {
            return Scalar::Ambiguous(text);
        }
        if let Ok(integer) = text.parse() {
            return Scalar::Integer(integer);
        }
    }
    text.parse().map_or(Scalar::Text(text), Scalar::Float)
}

/// The value of type `kind` (no message) that `node` stands for, or what is wrong with it.
///
/// `secret`: the message must not show the value.
pub(super) fn value(kind: &Kind, node: &Node<'_>, secret: bool) -> Result<Value, String> {
    let wrong = |expected: &str| Err(format!("expected {expected}, found {}", found(node, secret)));
    let scalar = scalar(node);
    match kind {
        Kind::String => match scalar {
            Some(Scalar::Text(text)) => Ok(Value::String(text.to_owned())),
            Some(Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_) | Scalar::Ambiguous(_)) => {
                Err(format!("expected text, found {}; put it in quotes", found(node, secret)))
            }
            _ => wrong("text"),
        },
        Kind::Bool => match scalar {
            Some(Scalar::Bool(value)) => Ok(Value::Bool(value)),
            _ => wrong("true or false"),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(node, secret).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(node, secret).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(node, secret).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(node, secret).map(Value::U64),
        Kind::Float => match float(scalar) {
            #[allow(clippy::cast_possible_truncation, reason = "what a float field holds")]
            Some(value) if !value.is_finite() || (value as f32).is_finite() => Ok(Value::F32(value as f32)),
            Some(_) => Err(format!("{} is out of range", found(node, secret))),
            None => wrong("a number"),
        },
        Kind::Double => float(scalar).map(Value::F64).map_or_else(|| wrong("a number"), Ok),
        Kind::Bytes => match scalar {
            Some(Scalar::Text(text)) => base64(text)
                .map(|bytes| Value::Bytes(bytes.into()))
                .ok_or_else(|| "expected base64, found text that is not".to_owned()),
            // Base64 may happen to read as a number.
            Some(Scalar::Integer(_) | Scalar::Float(_) | Scalar::Ambiguous(_)) => match &node.content {
                Content::Plain(text) => {
                    base64(text).map_or_else(|| wrong("base64"), |bytes| Ok(Value::Bytes(bytes.into())))
                }
                _ => wrong("base64"),
            },
            _ => wrong("base64"),
        },
        Kind::Enum(choices) => choice(choices, node, scalar, secret).map(Value::EnumNumber),
        Kind::Message(_) => wrong("a mapping"),
    }
}

fn integer<T: TryFrom<i128> + Bounds>(node: &Node<'_>, secret: bool) -> Result<T, String> {
    let value = match scalar(node) {
        Some(Scalar::Integer(value)) => Some(value),
        // Proto JSON writes 64-bit integers as text and accepts any integer so.
        Some(Scalar::Text(text)) if !text.is_empty() => match plain(text) {
            Scalar::Integer(value) => Some(value),
            _ => None,
        },
        #[allow(clippy::cast_possible_truncation, reason = "an exact integer")]
        Some(Scalar::Float(value)) if value.fract() == 0.0 && value.abs() < EXACT_MAX => Some(value as i128),
        Some(Scalar::Ambiguous(_)) => {
            return Err(format!("{} is ambiguous; write it without leading zeros", found(node, secret)));
        }
        _ => None,
    };
    let Some(value) = value else { return Err(format!("expected an integer, found {}", found(node, secret))) };
    T::try_from(value)
        .map_err(|_| format!("{} is out of range; expected {} to {}", found(node, secret), T::LEAST, T::MOST))
}

trait Bounds {
    const LEAST: i128;
    const MOST: i128;
}

macro_rules! bounds {
    ($($number:ty),*) => {
        $(impl Bounds for $number {
            const LEAST: i128 = <$number>::MIN as i128;
            const MOST: i128 = <$number>::MAX as i128;
        })*
    };
}

bounds!(i32, i64, u32, u64);

fn float(scalar: Option<Scalar<'_>>) -> Option<f64> {
    match scalar? {
        #[allow(clippy::cast_precision_loss, reason = "floating point fields round")]
        Scalar::Integer(value) => Some(value as f64),
        Scalar::Float(value) => Some(value),
        Scalar::Text("NaN") => Some(f64::NAN),
        Scalar::Text("Infinity") => Some(f64::INFINITY),
        Scalar::Text("-Infinity") => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn choice(choices: &EnumDescriptor, node: &Node<'_>, scalar: Option<Scalar<'_>>, secret: bool) -> Result<i32, String> {
    let known = match scalar {
        Some(Scalar::Text(name)) => choices.get_value_by_name(name),
        Some(Scalar::Integer(number)) => i32::try_from(number).ok().and_then(|number| choices.get_value(number)),
        _ => None,
    };
    if let Some(value) = known {
        return Ok(value.number());
    }
    let values: Vec<_> = choices.values().collect();
    // The zero value usually says that there is none; to leave the key out says the same.
    let names = || {
        values.iter().map(|value| value.name()).filter(|name| !name.ends_with("UNSET") && !name.ends_with("UNKNOWN"))
    };
    let hint = match scalar {
        Some(Scalar::Text(name)) => did_you_mean(name, names()),
        _ => String::new(),
    };
    Err(format!("expected one of {}, found {}{hint}", names().collect::<Vec<_>>().join(", "), found(node, secret)))
}

/// What stands at `node`, for a message: `the number 5`.
pub(super) fn found(node: &Node<'_>, secret: bool) -> String {
    match (scalar(node), &node.content) {
        (Some(Scalar::Null), _) => "nothing".to_owned(),
        (_, Content::List(_)) => "a list".to_owned(),
        (_, Content::Mapping(_)) => "a mapping".to_owned(),
        (Some(Scalar::Bool(_)), Content::Plain(text)) if !secret => format!("{text}"),
        (Some(Scalar::Integer(_) | Scalar::Float(_) | Scalar::Ambiguous(_)), Content::Plain(text)) if !secret => {
            format!("the number {}", shorten(text))
        }
        (Some(Scalar::Text(_)), Content::Plain(text) | Content::Text(text)) if !secret => {
            format!("the text {}", quote(text))
        }
        (Some(Scalar::Text(_)), _) => "text".to_owned(),
        (Some(Scalar::Bool(_)), _) => "true or false".to_owned(),
        _ => "a number".to_owned(),
    }
}

/// Text in backticks, shortened, without characters that could disturb a terminal.
pub(super) fn quote(text: &str) -> String {
    format!("`{}`", shorten(text))
}

/// Text shortened, without characters that could disturb a terminal.
pub(super) fn shorten(text: &str) -> String {
    let mut shown = String::new();
    for (index, char) in text.chars().enumerate() {
        if index == SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        if char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        {
            // Writing to a String does not fail.
            write!(shown, "{}", char.escape_unicode()).ok();
        } else {
            shown.push(char);
        }
    }
    shown
}

/// Standard or URL-safe, padded or not, as proto JSON accepts it; line breaks as YAML folds them are ignored.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text.chars().filter(|char| !char.is_ascii_whitespace()).collect();
    let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_scalars_have_a_type() {
        for (text, expected) in [
            ("true", Scalar::Bool(true)),
            ("yes", Scalar::Text("yes")),
            ("on", Scalar::Text("on")),
            ("12", Scalar::Integer(12)),
            ("-12", Scalar::Integer(-12)),
            ("+12", Scalar::Integer(12)),
            ("0", Scalar::Integer(0)),
            ("0x1F", Scalar::Integer(31)),
            ("0o17", Scalar::Integer(15)),
            ("0x", Scalar::Text("0x")),
            ("0123", Scalar::Ambiguous("0123")),
            ("1.5", Scalar::Float(1.5)),
            (".5", Scalar::Float(0.5)),
            ("1e3", Scalar::Float(1000.0)),
            ("e3", Scalar::Text("e3")),
            ("1.2.3", Scalar::Text("1.2.3")),
            ("2024-01-01", Scalar::Text("2024-01-01")),
            ("1_000", Scalar::Text("1_000")),
            ("12:30", Scalar::Text("12:30")),
            ("-", Scalar::Text("-")),
            (".", Scalar::Text(".")),
            ("Infinity", Scalar::Text("Infinity")),
            ("nan", Scalar::Text("nan")),
            (".inf", Scalar::Float(f64::INFINITY)),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn base64_is_read_in_all_spellings() {
        for text in ["+/8=", "+/8", "-_8=", "-_8", "+/\n8="] {
            assert_eq!(base64(text).as_deref(), Some(&[0xfb, 0xff][..]), "{text}");
        }
        assert_eq!(base64("a$"), None);
        assert_eq!(base64("+_8="), None);
    }

    #[test]
    fn shown_text_is_short_and_harmless() {
        assert_eq!(quote("a\u{1b}[2Jb\u{202e}"), "`a\\u{1b}[2Jb\\u{202e}`");
        assert_eq!(shorten(&"x".repeat(100)).chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
