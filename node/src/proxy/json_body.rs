//! A JSON body as policies see it. A key that stands twice is refused: policy and upstream could read different ones.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, HashSet},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use octelium_policy::{Map, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Parses a JSON object.
///
/// # Errors
/// A sentence, if `bytes` aren't one JSON object, nest deeper than 128, or have a key twice.
pub fn object(bytes: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Any.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    match value {
        Value::Map(_) => Ok(value),
        _ => Err("not a JSON object".to_owned()),
    }
}

/// Checks that [`object`] would accept it, and keeps nothing of it but the hashes of keys of the objects that are open.
///
/// # Errors
/// As there.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return object(bytes).map(drop);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    (&Checked::default()).deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())
}

/// What a JSON value takes once it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Arrays and objects that lie in each other.
    pub depth: usize,
    values: usize,
    objects: usize,
    members: usize,
    text: usize,
}

impl Shape {
    /// About so many bytes as a `serde_json::Value`, rather too many: 32 for each value, in a list that may have room for twice as
    /// many; a node with 11 places for each object, half-filled ones for further members; and all text.
    pub fn bytes(&self) -> usize {
        let kinds = [(self.values, 64), (self.members, 110), (self.objects, 700), (self.text, 1)];
        kinds.iter().fold(0, |sum, (count, bytes)| sum.saturating_add(count.saturating_mul(*bytes)))
    }
}

/// Looks through any JSON value.
///
/// # Errors
/// A sentence, if `bytes` aren't one JSON value, nest deeper than 128, or have a key twice.
pub fn shape(bytes: &[u8]) -> Result<Shape, String> {
    let checked = Checked::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    (&checked).deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    let Checked { deepest, values, objects, members, .. } = checked;
    Ok(Shape {
        depth: deepest.get(),
        values: values.get(),
        objects: objects.get(),
        members: members.get(),
        text: bytes.len(),
    })
}

/// A body's text belongs in no log: a long key is cut.
fn twice<E: Error>(key: &str) -> E {
    let shown: String = key.chars().take(64).collect();
    E::custom(format!("the key {shown:?} stands twice"))
}

#[derive(Default)]
struct Checked {
    hashes: RandomState,
    depth: Cell<usize>,
    deepest: Cell<usize>,
    values: Cell<usize>,
    objects: Cell<usize>,
    members: Cell<usize>,
}

impl Checked {
    fn enter(&self) {
        self.depth.set(self.depth.get() + 1);
        self.deepest.set(self.deepest.get().max(self.depth.get()));
    }

    fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }
}

impl<'de> DeserializeSeed<'de> for &Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.values.set(self.values.get() + 1);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.enter();
        while items.next_element_seed(self)?.is_some() {}
        self.leave();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        // Two keys of one hash are one in 2^64: such a body would be refused.
        let mut seen = HashSet::new();
        self.enter();
        self.objects.set(self.objects.get() + 1);
        while let Some(key) = entries.next_key::<Cow<'de, str>>()? {
            if !seen.insert(self.hashes.hash_one(&*key)) {
                return Err(twice(&key));
            }
            self.members.set(self.members.get() + 1);
            entries.next_value_seed(self)?;
        }
        self.leave();
        Ok(())
    }
}

struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::UInt(value), Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Double(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(Arc::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Any)? {
            list.push(item);
        }
        Ok(Value::list(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Any)?;
            if map.contains_key(&key) {
                return Err(twice(&key));
            }
            map.insert(key, value);
        }
        Ok(Value::Map(Arc::new(map.into_iter().collect::<Map>())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_and_all_else_refused() {
        let value =
            object(br#"{"age": 19, "list": [1, 2.5, null, true, "x"], "o": {"k": "v"}}"#).expect("a JSON object");
        assert_eq!(value.to_json()["list"][1], 2.5);
        for right in ["{}", " {\n}", r#"{"a":1,"b":{"a":[{"a":2},{"a":3}]}}"#, r#"{"\u0061":1,"b":-1.5e3}"#] {
            assert_eq!((object(right.as_bytes()).is_ok(), check(right.as_bytes())), (true, Ok(())), "{right}");
        }
        for wrong in ["", "[]", "1", "{", r#"{"a":1} x"#, r#"{"a":1,"a":2}"#, r#"{"o":{"b":1,"b":1}}"#, "\u{feff}{}"] {
            assert!(object(wrong.as_bytes()).is_err(), "{wrong}");
            assert!(check(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for twice in [r#"{"a":1,"\u0061":2}"#, r#"{"o":[{"b":1,"b":1}]}"#] {
            assert!(check(twice.as_bytes()).is_err(), "{twice}");
        }
        let shape = shape(br#"[{"a": [1, 2]}, {}, "x"]"#).unwrap();
        assert_eq!((shape.depth, shape.values, shape.objects), (3, 7, 2));
        let long = format!(r#"{{"{0}":1,"{0}":2}}"#, "k".repeat(1000));
        assert!(check(long.as_bytes()).unwrap_err().len() < 200);
        let deep = format!("{}{}", r#"{"a":"#.repeat(200), "1".to_owned() + &"}".repeat(200));
        assert!(object(deep.as_bytes()).is_err() && check(deep.as_bytes()).is_err());
    }
}
