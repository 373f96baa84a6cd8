//! Keeps the gateway's own credentials between the caller and the gateway: no rule, expression or upstream sees one, and no
//! upstream sets one.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use octelium_actors::router::Routes;
use octelium_http1::Headers;

use super::{authenticate::Tokens, scrub};

/// Removes the credentials of the gateway from a request, once they have done their work.
pub fn hide(headers: &mut Headers, tokens: &Tokens, routes: &Routes) {
    headers.remove("x-octelium-auth");
    headers.remove("x-octelium-refresh-token");
    scrub::cookies(headers);
    let is_ours = |value| shown(value).iter().any(|text| tokens.is_ours(text, routes));
    if headers.get_all("authorization").any(is_ours) {
        headers.remove("authorization");
    }
}

/// What could be a token in an `Authorization` header.
fn shown(value: &[u8]) -> Vec<Cow<'_, str>> {
    let Some((scheme, rest)) = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' ')) else {
        return Vec::new();
    };
    let rest = rest.trim();
    if !scheme.eq_ignore_ascii_case("basic") {
        return vec![rest.into()];
    }
    let pair = STANDARD.decode(rest).ok().and_then(|pair| String::from_utf8(pair).ok());
    pair.iter().flat_map(|pair| pair.split(':')).map(|part| part.to_owned().into()).collect()
}

/// Removes cookies that an upstream sets under the gateway's names: they would log the caller in as somebody else.
pub fn keep_own_cookies(headers: &mut Headers) {
    headers.retain(|name, value| {
        let cookie = || value.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default().trim_ascii();
        name != b"set-cookie" || !scrub::COOKIES.iter().any(|ours| cookie() == ours.as_bytes())
    });
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn an_upstream_sets_no_cookie_of_ours() {
        let mut headers = Headers::new();
        for cookie in [
            "a=1; Path=/",
            "octelium_auth=forged; Domain=example.com",
            " octelium_rt =x",
            "octelium_auth",
            "b=octelium_auth=2",
        ] {
            headers.append(&header::SET_COOKIE, &HeaderValue::from_static(cookie));
        }
        keep_own_cookies(&mut headers);
        let left: Vec<_> = headers.get_all("set-cookie").collect();
        assert_eq!(left, [&b"a=1; Path=/"[..], b"b=octelium_auth=2"]);
    }

    #[test]
    fn tokens_are_looked_for_in_every_scheme() {
        for (value, expected) in [
            ("Bearer abc", &["abc"][..]),
            ("token abc", &["abc"]),
            ("Basic dXNlcjphYmM=", &["user", "abc"]),
            ("Basic !", &[]),
            ("abc", &[]),
        ] {
            assert_eq!(shown(value.as_bytes()), expected, "{value}");
        }
    }
}
