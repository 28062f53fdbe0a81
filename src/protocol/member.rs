//! Single members of a JSON object, found and replaced where they stand.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Span;

/// Where the value of `key` stands in this object; `None` if it is no object or has no such key.
pub fn member(json: &str, key: &str) -> Option<Span> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let raw = Seed(key).deserialize(&mut deserializer).ok()??.get();
    let start = raw.as_ptr().addr() - json.as_ptr().addr();
    Some(start..start + raw.len())
}

/// The text of a string member.
pub fn string_member<'a>(json: &'a str, key: &str) -> Option<Cow<'a, str>> {
    let raw = &json[member(json, key)?];
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// The object with the value of `key` replaced by JSON text; as it was where it has no such key.
pub fn with_member(json: &str, key: &str, value: &str) -> String {
    match member(json, key) {
        Some(span) => format!("{}{value}{}", &json[..span.start], &json[span.end..]),
        None => json.to_owned(),
    }
}

/// The items of an array member as JSON text; `None` if there is no such array.
pub fn array_member<'a>(json: &'a str, key: &str) -> Option<Vec<&'a str>> {
    let items: Vec<&'a RawValue> = serde_json::from_str(&json[member(json, key)?]).ok()?;
    Some(items.into_iter().map(RawValue::get).collect())
}

struct Seed<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_one_member_and_keeps_the_rest() {
        let tool = r#"{"a":{"name":"no"},"name" : "x","big":12345678901234567890123}"#;
        assert_eq!(string_member(tool, "name").unwrap(), "x");
        assert_eq!(
            with_member(tool, "name", "\"s_x\""),
            r#"{"a":{"name":"no"},"name" : "s_x","big":12345678901234567890123}"#
        );
        assert_eq!(with_member(tool, "none", "1"), tool);
        assert_eq!(member("[1]", "a"), None);
        assert_eq!(member("{", "a"), None);
    }

    #[test]
    fn lists_items_as_they_were_written() {
        let result = r#"{"tools":[{"b":1.0,"a":[1, 2]},2],"nextCursor":null}"#;
        assert_eq!(array_member(result, "tools").unwrap(), [r#"{"b":1.0,"a":[1, 2]}"#, "2"]);
        assert!(array_member(result, "nextCursor").is_none());
        assert!(array_member(result, "x").is_none());
    }
}
