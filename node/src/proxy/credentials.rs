//! Keeps the gateway's own credentials between the caller and the gateway: no rule, expression or upstream sees one, and no
//! upstream sets one.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use octelium_actors::router::Routes;
use octelium_control::token::TOKEN_CHARS;
use octelium_http1::Headers;

use super::{authenticate::Tokens, scrub};

/// As lenient as any server may be.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Removes the credentials of the gateway from a request, once they have done their work.
pub fn hide(headers: &mut Headers, tokens: &Tokens, routes: &Routes) {
    scrub::cookies(headers);
    headers.remove("x-octelium-auth");
    headers.remove("x-octelium-refresh-token");
    // If one shows a token, none stays.
    if headers.get_all("authorization").any(|value| holds_token(value, |text| tokens.is_ours(text, routes))) {
        headers.remove("authorization");
    }
}

/// Whether a token stands anywhere in an `Authorization` header, in whatever scheme and form, also within Basic's encoding.
fn holds_token(value: &[u8], is_token: impl Fn(&str) -> bool) -> bool {
    let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let stands_in = |bytes: &[u8]| {
        let texts = bytes.split(|byte| !is_sign(byte)).filter(|text| text.len() == TOKEN_CHARS);
        texts.filter_map(|text| std::str::from_utf8(text).ok()).any(&is_token)
    };
    if stands_in(value) {
        return true;
    }
    let encoded = value.split(|byte| byte.is_ascii_whitespace()).filter(|part| part.len() > TOKEN_CHARS);
    encoded.filter_map(|part| LENIENT.decode(part).ok()).any(|decoded| stands_in(&decoded))
}

/// Removes cookies that an upstream sets under the gateway's names: they would log the caller in as somebody else.
pub fn keep_own_cookies(headers: &mut Headers) {
    if !headers.contains_key("set-cookie") {
        return;
    }
    headers.retain(|name, value| {
        name != b"set-cookie" || !scrub::COOKIES.iter().any(|ours| cookie_name(value) == ours.as_bytes())
    });
}

/// What a browser sends back as the cookie's name. One without a name comes back as its value alone, in which a server reads
/// a name.
fn cookie_name(value: &[u8]) -> &[u8] {
    let pair = value.split(|byte| *byte == b';').next().unwrap_or_default();
    let mut parts = pair.split(|byte| *byte == b'=').map(<[u8]>::trim_ascii).skip_while(|part| part.is_empty());
    parts.next().unwrap_or_default()
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
            "=octelium_auth=forged; Path=/app",
            " = = octelium_rt=forged",
            "b=octelium_auth=2",
        ] {
            headers.append(&header::SET_COOKIE, &HeaderValue::from_static(cookie));
        }
        keep_own_cookies(&mut headers);
        let left: Vec<_> = headers.get_all("set-cookie").collect();
        assert_eq!(left, [&b"a=1; Path=/"[..], b"b=octelium_auth=2"]);
    }

    #[test]
    fn tokens_are_looked_for_in_every_form() {
        let token = "t".repeat(TOKEN_CHARS);
        let basic = |user: &[u8], padded: bool| {
            let pair = [user, b":", token.as_bytes()].concat();
            let text = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("Basic {}", if padded { &text } else { text.trim_end_matches('=') })
        };
        for (value, expected) in [
            (format!("Bearer {token}"), true),
            (format!("bearer\t{token}"), true),
            (token.clone(), true),
            (format!("Bearer x, Bearer {token}"), true),
            (format!("token=\"{token}\""), true),
            (basic(b"user", true), true),
            (basic(b"user", false), true),
            (basic(b"\xff\xfe", true), true),
            (format!("Bearer {token}t"), false),
            ("Basic dXNlcjphYmM=".to_owned(), false),
            ("Basic !".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(holds_token(value.as_bytes(), |text| text == token), expected, "{value}");
        }
    }
}
