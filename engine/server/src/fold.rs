//! JSON into structures as Go reads it: the names of fields in any case. Keys of maps stay as they are.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// Reads a structure.
///
/// # Errors
/// As serde tells them.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Folded(value))
}

/// The object with those of its keys that are `names` but for their case under these names. Of several the exact
/// one stands.
pub fn fold<'a>(
    object: Map<String, Value>,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Map<String, Value> {
    let (exact, others): (Vec<_>, Vec<_>) =
        object.into_iter().partition(|(key, _)| names.clone().any(|name| name == key));
    let mut folded: Map<String, Value> = exact.into_iter().collect();
    for (key, value) in others {
        let name = names.clone().find(|name| name.eq_ignore_ascii_case(&key)).map_or(key, str::to_owned);
        folded.entry(name).or_insert(value);
    }
    folded
}

struct Folded(Value);

impl<'de> IntoDeserializer<'de, Error> for Folded {
    type Deserializer = Folded;

    fn into_deserializer(self) -> Folded {
        self
    }
}

impl<'de> Deserializer<'de> for Folded {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) => {
                let fields = object.into_iter().map(|(key, value)| (key, Folded(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
            Value::Array(list) => {
                let mut items = SeqDeserializer::new(list.into_iter().map(Folded));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) => {
                Folded(Value::Object(fold(object, fields.iter().copied()))).deserialize_any(visitor)
            }
            // The plain value has the better words for what it is not.
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        number: i64,
        words: Option<Vec<String>>,
        inner: Vec<Inner>,
        labels: BTreeMap<String, String>,
        pair: (u16, u16),
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        is_on: bool,
    }

    #[test]
    fn names_of_fields_are_read_in_any_case() {
        let value = json!({
            "NUMBER": -3, "words": ["a"], "inner": [{ "ison": true }], "Labels": { "isOn": "x" }, "Pair": [1, 2],
            "other": { "Number": 1 },
        });
        let expected = Outer {
            number: -3,
            words: Some(vec!["a".to_owned()]),
            inner: vec![Inner { is_on: true }],
            labels: BTreeMap::from([("isOn".to_owned(), "x".to_owned())]),
            pair: (1, 2),
        };
        assert_eq!(from_value::<Outer>(value).unwrap(), expected);
    }

    #[test]
    fn the_exact_name_stands() {
        let value = json!({ "NUMBER": 1, "Number": 2, "number": 3 });
        assert_eq!(from_value::<Outer>(value).unwrap().number, 2);
    }

    #[test]
    fn errors_are_serdes() {
        let error = |value: Value| from_value::<Outer>(value).unwrap_err().to_string();
        assert_eq!(error(json!(3)), "invalid type: integer `3`, expected struct Outer");
        assert!(error(json!({ "Words": "x" })).contains("expected a sequence"));
        assert!(error(json!({ "Pair": [1, 2, 3] })).contains("invalid length 3"));
    }
}
