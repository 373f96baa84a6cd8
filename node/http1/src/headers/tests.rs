//! The lines as a model: what a plain list of pairs would hold.

use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::Headers;

fn parsed(head: &str) -> Headers {
    let mut room = [httparse::EMPTY_HEADER; 16];
    let httparse::Status::Complete((_, parsed)) = httparse::parse_headers(head.as_bytes(), &mut room).unwrap() else {
        panic!("incomplete");
    };
    Headers::of_head(head.as_bytes(), parsed)
}

fn pairs(headers: &Headers) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())).collect()
}

#[test]
fn lines_of_a_head_keep_their_order_and_values() {
    let mut headers = parsed("Host: a\r\nX-Empty:\r\nCookie: b=1\r\nCOOKIE:  c=2 \r\n\r\n");
    let lines: Vec<(&[u8], &[u8])> = vec![(b"host", b"a"), (b"x-empty", b""), (b"cookie", b"b=1"), (b"cookie", b"c=2")];
    assert_eq!(headers.iter().collect::<Vec<_>>(), lines);
    assert_eq!(headers.get("cookie"), Some(&b"b=1"[..]));
    assert_eq!(headers.get_one("cookie"), None);
    assert_eq!(headers.get_one("host"), Some(&b"a"[..]));
    assert!(headers.remove("cookie"));
    assert!(!headers.remove("cookie"));
    headers.insert(&HeaderName::from_static("host"), &HeaderValue::from_static("b"));
    assert_eq!(pairs(&headers), [("x-empty".to_owned(), b"".to_vec()), ("host".to_owned(), b"b".to_vec())]);
    assert_eq!(pairs(&Headers::from(&headers.to_map())), pairs(&headers));
    assert_eq!(pairs(&headers.clone()), pairs(&headers));
}

#[test]
fn a_name_is_removed_in_every_spelling() {
    let mut headers = parsed("X-User: a\r\nX_User: b\r\nx-user_: c\r\nX_USER: d\r\nUser: e\r\n\r\n");
    headers.remove_alike(HeaderName::from_static("x-user"));
    assert_eq!(pairs(&headers), [("x-user_".to_owned(), b"c".to_vec()), ("user".to_owned(), b"e".to_vec())]);
    headers.remove_alike(HeaderName::from_static("x-user-"));
    assert_eq!(pairs(&headers), [("user".to_owned(), b"e".to_vec())]);
}

#[test]
fn a_kept_buffer_shows_nothing_of_the_message_before() {
    drop(parsed("Authorization: secret\r\n\r\n"));
    let mut headers = Headers::new();
    headers.append(HeaderName::from_static("a"), &HeaderValue::from_static("b"));
    assert_eq!(pairs(&headers), [("a".to_owned(), b"b".to_vec())]);
    assert_eq!(format!("{headers:?}"), "[\"a\"]");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_do_what_they_do_to_a_list(edits in prop::collection::vec((0u8..4, "[a-c]{1,2}", "[ -~]{0,3}"), 0..40)) {
        let mut headers = Headers::new();
        let mut model: Vec<(String, Vec<u8>)> = Vec::new();
        for (edit, name, value) in edits {
            let header = (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap());
            let line = (name.clone(), value.into_bytes());
            match edit {
                0 => {
                    headers.append(&header.0, &header.1);
                    model.push(line);
                }
                1 => {
                    headers.insert(&header.0, &header.1);
                    model.retain(|(known, _)| *known != name);
                    model.push(line);
                }
                2 => {
                    headers.remove(&name);
                    model.retain(|(known, _)| *known != name);
                }
                _ => {
                    headers.retain(|known, _| known < name.as_bytes());
                    model.retain(|(known, _)| *known < name);
                }
            }
            prop_assert_eq!(&pairs(&headers), &model);
            prop_assert_eq!(headers.len(), model.len());
        }
    }
}
