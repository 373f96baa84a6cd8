//! Writes JSON straight into a buffer: a record for each request must not cost what a general serializer costs.

use octelium_api::meta::ObjectReference;

use super::timestamp::Timestamp;
use crate::proxy::{exchange::Id, hex};

/// The end of a buffer. What is written must add up to JSON; only values are taken care of here.
pub struct Json<'a>(pub &'a mut Vec<u8>);

impl Json<'_> {
    /// As it stands.
    pub fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A string, quoted and escaped.
    pub fn text(&mut self, text: &str) {
        if needs_escape(text.as_bytes()) {
            self.escaped(text);
        } else {
            self.0.push(b'"');
            self.raw(text);
            self.0.push(b'"');
        }
    }

    #[cold]
    fn escaped(&mut self, text: &str) {
        use serde_json::Value;
        self.raw(&Value::from(text).to_string());
    }

    /// Text that may not be UTF-8.
    pub fn bytes(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(text),
            Err(_) => self.text(&String::from_utf8_lossy(bytes)),
        }
    }

    /// A number.
    pub fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// An id, in hexadecimal.
    pub fn id(&mut self, id: Id) {
        self.0.push(b'"');
        self.0.extend_from_slice(&hex::digits(id.0));
        self.0.extend_from_slice(&hex::digits(id.1));
        self.0.push(b'"');
    }

    /// 64 bits, in hexadecimal.
    pub fn hex(&mut self, number: u64) {
        self.0.push(b'"');
        self.0.extend_from_slice(&hex::digits(number));
        self.0.push(b'"');
    }

    /// A time.
    pub fn time(&mut self, time: Timestamp) {
        self.0.push(b'"');
        time.write(self.0);
        self.0.push(b'"');
    }

    /// A reference to a resource.
    pub fn reference(&mut self, reference: &ObjectReference) {
        self.raw("{\"apiVersion\":");
        self.text(&reference.api_version);
        self.raw(",\"kind\":");
        self.text(&reference.kind);
        self.raw(",\"uid\":");
        self.text(&reference.uid);
        self.raw(",\"name\":");
        self.text(&reference.name);
        self.raw("}");
    }
}

/// Whether there is a control byte, a quote or a backslash. Looks at eight bytes at a time.
fn needs_escape(text: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // For bytes below 0x80: the high bit of each that is less than `bound`, maybe also of those above such a byte.
    let less = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS;
    let equals = |word: u64, byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let special = |word: u64| (less(word, b' ') | equals(word, b'"') | equals(word, b'\\') | equals(word, 0x7f)) != 0;
    let (words, rest) = text.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain(std::iter::once(&last)).any(|word| special(u64::from_le_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl Fn(&mut Json<'_>)) -> serde_json::Value {
        let mut buffer = Vec::new();
        write(&mut Json(&mut buffer));
        serde_json::from_slice(&buffer).expect("JSON")
    }

    #[test]
    fn ids_have_all_their_digits() {
        let id = Id(0x0123_4567_89ab_cdef, 1);
        assert_eq!(written(|json| json.id(id)), id.to_string());
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_were(text in any::<String>(), number in any::<u64>(), bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(written(|json| json.text(&text)), text.clone());
            let special = text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\' | 0x7f));
            prop_assert_eq!(needs_escape(text.as_bytes()), special);
            prop_assert_eq!(written(|json| json.number(number)), number);
            prop_assert_eq!(written(|json| json.bytes(&bytes)), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
