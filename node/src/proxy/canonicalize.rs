//! Makes one path out of the many spellings of it, before anything reads it: policy and upstream see the same.
//!
//! A path that can't be made unambiguous is refused, never guessed at (RFC 3986 §5.2.4, §6.2.2).

use std::borrow::Cow;

/// A path without dot segments.
#[derive(Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// Percent-decoded, for policies.
    pub path: Cow<'a, str>,
    /// Percent-encoded as the caller sent it, for the upstream.
    pub escaped: Cow<'a, str>,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `*` with another method than OPTIONS.
    #[error("`*` is only a target of OPTIONS")]
    Asterisk,
    /// Does not start with a slash.
    #[error("the path does not start with `/`")]
    Relative,
    /// `%` without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Escape,
    /// Bytes below 0x20, or 0x7f.
    #[error("the path has a control character")]
    Control,
    /// Not UTF-8 once decoded.
    #[error("the path is not UTF-8")]
    Encoding,
    /// `.` or `..` beside a backslash.
    #[error("a dot segment stands beside a backslash")]
    Backslash,
    /// `..;x`: some upstreams cut the parameter off, and what is left is a dot segment.
    #[error("a dot segment has a parameter")]
    Parameter,
    /// An encoded slash and dot segments: two readings.
    #[error("the path has two readings")]
    Ambiguous,
}

/// Canonicalizes `escaped`, the path of a request target without its query.
///
/// # Errors
/// If it has more than one reading.
pub fn path<'a>(escaped: &'a str, is_options: bool) -> Result<Canonical<'a>, Error> {
    if escaped == "*" {
        return if is_options { Ok(unchanged(escaped, Cow::Borrowed(escaped))) } else { Err(Error::Asterisk) };
    }
    // Most paths have nothing that could be read in another way.
    let is_plain = |byte: &u8| !matches!(byte, b'%' | b'.' | b'\\' | ..b' ' | 0x7f);
    if escaped.is_empty() || escaped.starts_with('/') && escaped.as_bytes().iter().all(is_plain) {
        return Ok(unchanged(escaped, Cow::Borrowed(escaped)));
    }
    let decoded = decode(escaped)?;
    if !decoded.starts_with('/') {
        return Err(Error::Relative);
    }
    if decoded.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(Error::Control);
    }
    let has_dots = |text: &str| text.contains("/.") || text.contains("\\.");
    if !decoded.as_bytes().contains(&b'.') || !has_dots(&decoded) {
        return Ok(unchanged(escaped, decoded));
    }
    if dot_beside_backslash(&decoded) {
        return Err(Error::Backslash);
    }
    if decoded.split('/').any(|segment| segment.split_once(';').is_some_and(|(name, _)| dots(name) != Dots::No)) {
        return Err(Error::Parameter);
    }
    let path = without_dots(&decoded, dots);
    let target = without_dots(escaped, |segment| decode(segment).map_or(Dots::No, |segment| dots(&segment)));
    if decode(&target)? != path {
        return Err(Error::Ambiguous);
    }
    Ok(Canonical { path: Cow::Owned(path), escaped: Cow::Owned(target) })
}

fn unchanged<'a>(escaped: &'a str, path: Cow<'a, str>) -> Canonical<'a> {
    Canonical { path, escaped: Cow::Borrowed(escaped) }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Error> {
    if !text.as_bytes().contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let two_digits =
            || bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if *byte == b'%' && !two_digits() {
            return Err(Error::Escape);
        }
    }
    percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| Error::Encoding)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    No,
    One,
    Two,
}

fn dots(segment: &str) -> Dots {
    match segment {
        "." => Dots::One,
        ".." => Dots::Two,
        _ => Dots::No,
    }
}

fn without_dots(path: &str, dots: impl Fn(&str) -> Dots) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let dots = dots(segment);
        match dots {
            Dots::No => kept.push(segment),
            Dots::One => {}
            Dots::Two => drop(kept.pop()),
        }
        if dots != Dots::No && segments.peek().is_none() {
            kept.push(""); // a trailing dot segment leaves its slash
        }
    }
    format!("/{}", kept.join("/"))
}

fn dot_beside_backslash(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_separator = |byte: u8| byte == b'/' || byte == b'\\';
    let mut start = 0_usize;
    for end in 0..=bytes.len() {
        if end < bytes.len() && !is_separator(bytes[end]) {
            continue;
        }
        let before = start.checked_sub(1).and_then(|index| bytes.get(index));
        if dots(&path[start..end]) != Dots::No && (before == Some(&b'\\') || bytes.get(end) == Some(&b'\\')) {
            return true;
        }
        start = end + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(escaped: &str) -> Result<(String, String), Error> {
        path(escaped, false).map(|canonical| (canonical.path.into_owned(), canonical.escaped.into_owned()))
    }

    #[test]
    fn dot_segments_are_removed_and_all_else_stays() {
        for (input, path, escaped) in [
            ("/public/../secret.html", "/secret.html", "/secret.html"),
            ("/a/b/..", "/a/", "/a/"),
            ("/a/b/../..", "/", "/"),
            ("/a/./", "/a/", "/a/"),
            ("/a/.", "/a/", "/a/"),
            ("/..", "/", "/"),
            ("/../x", "/x", "/x"),
            ("//.", "//", "//"),
            ("/a//b", "/a//b", "/a//b"),
            ("/a/...", "/a/...", "/a/..."),
            ("/a/...;x/b;y=..", "/a/...;x/b;y=..", "/a/...;x/b;y=.."),
            ("/v1.2.3/r", "/v1.2.3/r", "/v1.2.3/r"),
            ("/proxy/http://x/y", "/proxy/http://x/y", "/proxy/http://x/y"),
            ("/.well-known/acme", "/.well-known/acme", "/.well-known/acme"),
            ("/.well-known/..name", "/.well-known/..name", "/.well-known/..name"),
            ("/objects%2Farchive/a/../b", "/objects/archive/b", "/objects%2Farchive/b"),
            ("/a%20b/%2e%2e/c", "/c", "/c"),
            ("/a%20b/./c", "/a b/c", "/a%20b/c"),
            ("/projects/g%2Fp", "/projects/g/p", "/projects/g%2Fp"),
            ("/a/%2E%2e/b", "/b", "/b"),
            ("", "", ""),
        ] {
            assert_eq!(seen(input), Ok((path.to_owned(), escaped.to_owned())), "{input}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (input, error) in [
            ("/api/users/a%2Fb/../c", Error::Ambiguous),
            ("/public%2f..%2fsecret", Error::Ambiguous),
            ("/public%2F..%2Fsecret", Error::Ambiguous),
            ("/public/%2e%2e%2fsecret", Error::Ambiguous),
            ("/a\\..\\b", Error::Backslash),
            ("/a/..\\b", Error::Backslash),
            ("/a\\../b", Error::Backslash),
            ("/a%5c..%5cb", Error::Backslash),
            ("/public/..;/secret", Error::Parameter),
            ("/public/.;a=b/secret", Error::Parameter),
            ("/public/%2e.%3B/secret", Error::Parameter),
            ("/public/..;", Error::Parameter),
            ("/a%00b", Error::Control),
            ("/a%1fb", Error::Control),
            ("/a%7fb", Error::Control),
            ("/a%zz", Error::Escape),
            ("/a%2", Error::Escape),
            ("/a%ff", Error::Encoding),
            ("a", Error::Relative),
            ("*", Error::Asterisk),
        ] {
            assert_eq!(seen(input), Err(error), "{input}");
        }
        assert!(path("*", true).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn canonicalizing_twice_changes_nothing_and_leaves_no_dot_segment(input in "[/.a%2eEfF\\\\b]{0,24}") {
            let input = format!("/{input}");
            if let Ok((decoded, escaped)) = seen(&input) {
                proptest::prop_assert_eq!(seen(&escaped), Ok((decoded.clone(), escaped)));
                proptest::prop_assert!(decoded.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
