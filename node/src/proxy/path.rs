//! Rewrites a path: a prefix is removed where it ends with a segment, then another is put in front.

use octelium_actors::router::PathRewrite;

/// `escaped` is a canonical path as the caller escaped it; the result too.
pub fn rewrite(escaped: &str, rules: &PathRewrite) -> Option<String> {
    let removed = rules.remove_prefix.as_deref().and_then(|prefix| without_prefix(escaped, prefix));
    match (removed, rules.add_prefix.as_deref()) {
        (None, None) => None,
        (removed, add) => {
            let rest = removed.unwrap_or(escaped);
            let add = add.unwrap_or_default().trim_end_matches('/');
            let slash = if rest.starts_with('/') { "" } else { "/" };
            Some(format!("{add}{slash}{rest}"))
        }
    }
}

/// What follows `prefix`, however the caller escaped it: the rule that chose this path saw it decoded.
fn without_prefix<'a>(escaped: &'a str, prefix: &str) -> Option<&'a str> {
    let prefix = prefix.trim_end_matches('/').as_bytes();
    let bytes = escaped.as_bytes();
    let mut at = 0;
    for expected in prefix {
        let (byte, length) = decoded(bytes.get(at..)?)?;
        if byte != *expected {
            return None;
        }
        at += length;
    }
    let ends_segment = matches!(bytes.get(at), None | Some(b'/'));
    ends_segment.then(|| &escaped[at..])
}

fn decoded(bytes: &[u8]) -> Option<(u8, usize)> {
    match bytes {
        [b'%', high, low, ..] => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            Some((u8::try_from(digit(high)? * 16 + digit(low)?).ok()?, 3))
        }
        [byte, ..] => Some((*byte, 1)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_segments() {
        for (path, remove, add, after) in [
            ("/v1/users", "/v1", "", Some("/users")),
            ("/v1", "/v1", "", Some("/")),
            ("/v1/", "/v1", "", Some("/")),
            ("/v10/users", "/v1", "", None),
            ("/%761/users", "/v1", "", Some("/users")),
            ("/v1/a%2Fb", "/v1/", "", Some("/a%2Fb")),
            ("/users", "/v1", "/v2", Some("/v2/users")),
            ("/v1/path", "/v1", "/v2", Some("/v2/path")),
            ("/path", "", "/prefix/", Some("/prefix/path")),
            ("/", "", "/prefix", Some("/prefix/")),
            ("/other", "/v1", "", None),
        ] {
            let some = |text: &str| (!text.is_empty()).then(|| text.into());
            let rules = PathRewrite { remove_prefix: some(remove), add_prefix: some(add) };
            assert_eq!(rewrite(path, &rules).as_deref(), after, "{path} -{remove} +{add}");
        }
    }
}
