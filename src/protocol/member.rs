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

/// All members of an object in their order, the values as JSON text; `None` if it is no object.
pub fn members(json: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(All).ok()
}

/// The object without the members in `drop`, and with those in `set` (JSON text), which replace
/// what is there or come last. What is no object becomes one.
pub fn edited(json: &str, drop: &[&str], set: &[(&str, &str)]) -> String {
    let known = members(json).unwrap_or_default();
    let there: Vec<(Cow<'_, str>, &str)> = known
        .into_iter()
        .filter(|(key, _)| !drop.contains(&key.as_ref()))
        .map(|(key, value)| {
            let new = set.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            (key, new.unwrap_or(value))
        })
        .collect();
    let missing = set.iter().filter(|(name, _)| !there.iter().any(|(key, _)| key == name));
    let missing: Vec<(Cow<'_, str>, &str)> =
        missing.map(|(name, value)| (Cow::Borrowed(*name), *value)).collect();
    let mut out = String::with_capacity(json.len() + 64);
    for (key, value) in there.iter().chain(&missing) {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(&serde_json::to_string(key).unwrap_or_default());
        out.push(':');
        out.push_str(value);
    }
    if out.is_empty() {
        out.push('{');
    }
    out.push('}');
    out
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

struct All;

impl<'de> Visitor<'de> for All {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            all.push((key, map.next_value::<&RawValue>()?.get()));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_set_and_left_out_and_the_rest_stays_as_it_was() {
        let json = r#"{ "a":1.0, "b" : [1, 2],"é":12345678901234567890 }"#;
        assert_eq!(
            edited(json, &["a", "x"], &[("b", "null"), ("c", "{}")]),
            r#"{"b":null,"é":12345678901234567890,"c":{}}"#
        );
        assert_eq!(edited("{}", &[], &[]), "{}");
        assert_eq!(edited("[1]", &[], &[("a", "1")]), r#"{"a":1}"#);
        assert_eq!(edited(r#"{"a":1}"#, &["a"], &[]), "{}");
        assert_eq!(members(r#"{"a":1,"b":"x"}"#).unwrap().len(), 2);
        assert!(members("3").is_none());
    }

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
