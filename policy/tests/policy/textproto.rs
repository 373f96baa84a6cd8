//! A reader for the text form of Protocol Buffers, as far as the conformance cases use it.

/// A field's value.
pub enum Field {
    /// A number, a name or `true`, as written.
    Scalar(String),
    Text(Vec<u8>),
    Message(Message),
}

/// Fields in the order in which they are written.
#[derive(Default)]
pub struct Message(Vec<(String, Field)>);

impl Field {
    pub fn scalar(&self) -> String {
        let Self::Scalar(text) = self else { panic!("not a scalar") };
        text.clone()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let Self::Text(bytes) = self else { panic!("not a text") };
        bytes.clone()
    }

    pub fn string(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    pub fn message(&self) -> &Message {
        let Self::Message(message) = self else { panic!("not a message") };
        message
    }
}

impl Message {
    pub fn first(&self) -> Option<(&str, &Field)> {
        self.0.first().map(|(name, field)| (name.as_str(), field))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, field)| field)
    }

    pub fn text(&self, name: &str) -> String {
        self.get(name).map(Field::string).unwrap_or_default()
    }

    pub fn scalar_of(&self, name: &str) -> Option<String> {
        self.get(name).map(Field::scalar)
    }

    pub fn message(&self, name: &str) -> Option<&Message> {
        self.get(name).map(Field::message)
    }

    pub fn messages<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m Message> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, field)| field.message())
    }
}

/// Parses a whole file.
pub fn parse(text: &str) -> Message {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let message = reader.fields();
    assert_eq!(reader.peek(), None, "what follows byte {} belongs to nothing", reader.at);
    message
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that isn't blank and no comment.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                byte => return Some(*byte),
            }
        }
        None
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> String {
        self.peek();
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.+-/".contains(byte);
        let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        assert!(end > 0, "no word at byte {}", self.at);
        self.at += end;
        String::from_utf8(rest[..end].to_vec()).unwrap()
    }

    fn fields(&mut self) -> Message {
        let mut message = Message::default();
        while let Some(byte) = self.peek() {
            if byte == b'}' {
                break;
            }
            let name = if self.skip(b'[') {
                let name = self.word();
                assert!(self.skip(b']'));
                name
            } else {
                self.word()
            };
            let colon = self.skip(b':');
            if self.skip(b'[') {
                while !self.skip(b']') {
                    let value = self.value(colon);
                    message.0.push((name.clone(), value));
                    self.skip(b',');
                }
            } else {
                let value = self.value(colon);
                message.0.push((name, value));
            }
            let _ = self.skip(b',') || self.skip(b';');
        }
        message
    }

    fn value(&mut self, colon: bool) -> Field {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                let message = self.fields();
                assert!(self.skip(b'}'), "a message isn't closed at byte {}", self.at);
                Field::Message(message)
            }
            Some(b'"' | b'\'') => {
                let mut bytes = Vec::new();
                // Texts that stand side by side are one.
                while let Some(quote @ (b'"' | b'\'')) = self.peek() {
                    self.at += 1;
                    self.quoted(quote, &mut bytes);
                }
                Field::Text(bytes)
            }
            _ => {
                assert!(colon, "a value without a colon at byte {}", self.at);
                Field::Scalar(self.word())
            }
        }
    }

    fn quoted(&mut self, quote: u8, bytes: &mut Vec<u8>) {
        loop {
            let byte = self.text[self.at];
            self.at += 1;
            match byte {
                b'\\' => self.escape(bytes),
                byte if byte == quote => return,
                byte => bytes.push(byte),
            }
        }
    }

    fn number(&mut self, digits_max: usize, radix: u32) -> u32 {
        let rest = &self.text[self.at..];
        let digits = rest.iter().take(digits_max).take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let text = std::str::from_utf8(&rest[..digits]).unwrap();
        self.at += digits;
        u32::from_str_radix(text, radix).unwrap()
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) {
        let byte = self.text[self.at];
        self.at += 1;
        match byte {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'f' => bytes.push(12),
            b'v' => bytes.push(11),
            b'x' => bytes.push(self.number(2, 16) as u8),
            b'0'..=b'7' => {
                self.at -= 1;
                bytes.push(self.number(3, 8) as u8);
            }
            b'u' | b'U' => {
                let code = self.number(if byte == b'u' { 4 } else { 8 }, 16);
                bytes.extend(char::from_u32(code).unwrap().to_string().bytes());
            }
            other => bytes.push(other),
        }
    }
}
