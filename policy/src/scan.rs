//! A cheap look at an expression before the parser sees it.
//!
//! The parser and the walk over its tree recurse, so a text must be bounded before it is parsed. For that this scanner must
//! see the same tokens as the parser's lexer; where it could be fooled (an unclosed string, an unknown escape, a name glued to
//! a quote) it refuses the text, which the parser would refuse too.

/// Bytes of an expression.
pub(crate) const TEXT_BYTES_MAX: usize = 10_000;
/// Brackets within brackets.
const BRACKETS_MAX: usize = 64;
/// Steps between an expression and its innermost part: operators, selections, calls and brackets.
const HEIGHT_MAX: u32 = 120;

/// What is wrong, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub offset: usize,
    pub message: &'static str,
}

/// One level of brackets.
#[derive(Default)]
struct Level {
    open: u8,
    /// The highest of the finished parts.
    highest: u32,
    /// The highest bracket in this part.
    inner: u32,
    /// Operators in this part.
    operators: u32,
    /// `?` nest to the right, so each counts until the next comma.
    choices: u32,
}

impl Level {
    fn height(&self) -> u32 {
        self.highest.max(self.inner + self.operators + self.choices)
    }

    fn end_part(&mut self) {
        self.highest = self.height();
        self.inner = 0;
        self.operators = 0;
    }
}

/// Refuses what is too long or nested too deeply.
pub(crate) fn check(text: &str) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let refuse = |offset, message| Err(Refusal { offset, message });
    if text.trim().is_empty() {
        return refuse(0, "the expression is empty");
    }
    if bytes.len() > TEXT_BYTES_MAX {
        return refuse(0, "the expression is longer than 10000 bytes");
    }
    let mut levels = vec![Level::default()];
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let next = bytes.get(at + 1).copied();
        at += 1;
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { break };
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0x0c => {}
            b'"' | b'\'' => at = string(bytes, start, false)?,
            b'/' if next == Some(b'/') => {
                at = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |end| at + end)
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                at = word_end(bytes, at);
                let word = &bytes[start..at];
                if matches!(bytes.get(at), Some(b'"' | b'\'')) {
                    at = match word {
                        b"b" | b"B" | b"in" => string(bytes, at, false)?,
                        b"r" | b"R" | b"br" | b"bR" | b"Br" | b"BR" => string(bytes, at, true)?,
                        _ => return refuse(at, "unexpected quote"),
                    };
                }
                if word == b"in" {
                    level.operators += 1;
                }
            }
            b'0'..=b'9' => {
                at = word_end(bytes, at);
                if matches!(bytes.get(at), Some(b'"' | b'\'')) {
                    return refuse(at, "unexpected quote");
                }
            }
            b'(' | b'[' | b'{' => {
                if depth > BRACKETS_MAX {
                    return refuse(start, "too many brackets within brackets");
                }
                level.operators += u32::from(byte != b'{');
                levels.push(Level { open: byte, ..Level::default() });
            }
            b')' | b']' | b'}' => {
                let closed = match byte {
                    b')' => b'(',
                    b']' => b'[',
                    _ => b'{',
                };
                if level.open != closed {
                    return refuse(start, "this bracket closes nothing");
                }
                let height = level.height();
                levels.pop();
                if let Some(outer) = levels.last_mut() {
                    outer.inner = outer.inner.max(height);
                }
            }
            b',' => {
                level.end_part();
                level.choices = 0;
            }
            b':' => level.end_part(),
            b'?' => {
                level.end_part();
                level.choices += 1;
            }
            b'&' | b'|' if next == Some(byte) => {
                at += 1;
                level.end_part();
            }
            b'=' | b'!' | b'<' | b'>' if next == Some(b'=') => {
                at += 1;
                level.operators += 1;
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'.' | b'!' | b'<' | b'>' => level.operators += 1,
            _ => return refuse(start, "unexpected character"),
        }
        if levels.last().is_some_and(|level| level.height() > HEIGHT_MAX) {
            return refuse(start, "the expression is nested too deeply, or has too many operators in a row");
        }
    }
    if levels.len() > 1 {
        return refuse(bytes.len(), "a bracket is not closed");
    }
    Ok(())
}

fn word_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        at += 1;
    }
    at
}

/// The end of the string whose first quote is at `start`.
fn string(bytes: &[u8], start: usize, raw: bool) -> Result<usize, Refusal> {
    const UNCLOSED: &str = "the string is not closed";
    let quote = bytes[start];
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let mut at = start + if triple { 3 } else { 1 };
    loop {
        match bytes.get(at) {
            None => return Err(Refusal { offset: start, message: UNCLOSED }),
            Some(b'\n' | b'\r') if !triple => return Err(Refusal { offset: start, message: UNCLOSED }),
            Some(b'\\') if !raw => at = escape(bytes, at)?,
            Some(byte) if *byte == quote && !triple => return Ok(at + 1),
            Some(byte) if *byte == quote && bytes[at..].starts_with(&[quote; 3]) => return Ok(at + 3),
            Some(_) => at += 1,
        }
    }
}

/// The end of the escape sequence at `start`.
fn escape(bytes: &[u8], start: usize) -> Result<usize, Refusal> {
    let digits = |from: usize, count: usize, of: fn(&u8) -> bool| {
        bytes.get(from..from + count).is_some_and(|digits| digits.iter().all(of)).then_some(from + count)
    };
    let end = match bytes.get(start + 1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => Some(start + 2),
        Some(b'x' | b'X') => digits(start + 2, 2, u8::is_ascii_hexdigit),
        Some(b'u') => digits(start + 2, 4, u8::is_ascii_hexdigit),
        Some(b'U') => digits(start + 2, 8, u8::is_ascii_hexdigit),
        Some(b'0'..=b'3') => digits(start + 2, 2, |byte| (b'0'..=b'7').contains(byte)),
        _ => None,
    };
    end.ok_or(Refusal { offset: start, message: "unknown escape in a string" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> &'static str {
        check(text).expect_err(text).message
    }

    #[test]
    fn ordinary_texts_pass() {
        for text in [
            "a.b.c(d)[1] == 'x' && !(y in [1, 2]) ? \"q\\\"\" : r'\\' // done",
            "{'a': 1.5e+3, 'b': b'\\xff'}.a < -1 || '''a'b\n''' == \"\"\"\"\"\"",
            "\"ü\" == R\"\"\"\\\"\"\" && x in'abc'",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn depth_is_refused_wherever_it_hides() {
        let deep = "nested too deeply, or has too many operators in a row";
        assert!(refused(&format!("1{}", "+1".repeat(200))).ends_with(deep));
        assert!(refused(&format!("a{}", ".b".repeat(200))).ends_with(deep));
        assert!(refused(&format!("a{}", "[0]".repeat(200))).ends_with(deep));
        assert!(refused(&format!("{}1", "a?b:".repeat(200))).ends_with(deep));
        assert!(refused(&format!("({}){}", ["1"; 70].join("+"), "+1".repeat(70))).ends_with(deep));
        assert!(refused(&format!("1{}", ".a.b".repeat(200))).ends_with(deep));
        assert!(refused(&"(".repeat(70)).ends_with("within brackets"));
        assert_eq!(check(&["a + 1 > 2"; 500].join(" && ")), Ok(()));
    }

    #[test]
    fn nothing_hides_in_strings() {
        for text in ["'abc", "'a\nb'", "\"\\q\"", "0x1r\"\\\"", "1'a'", "'''a''", "\"\\u12\"", "a'b'"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
