//! Which arguments of a tool HTTP clients repeat in header fields: `x-mcp-header` in its schema
//! (2026-07-28, streamable HTTP, "Custom Headers from Tool Parameters").

use serde_json::Value;

use crate::protocol::{decode_field, members};

/// An argument that the header field `Mcp-Param-NAME` repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored {
    /// The name as the tool has it; header fields are compared without regard to case.
    pub name: String,
    /// The keys that lead to it in the arguments.
    pub path: Vec<String>,
}

/// Objects within objects that are looked into.
const DEPTH: usize = 16;

/// Reads a tool's definition. Most have none, and are only searched for the word.
pub(super) fn read(definition: &str) -> Vec<Mirrored> {
    let mut found = Vec::new();
    if memchr::memmem::find(definition.as_bytes(), b"x-mcp-header").is_some()
        && let Ok(tool) = serde_json::from_str::<Value>(definition)
    {
        walk(&tool["inputSchema"], &mut Vec::new(), &mut found);
    }
    found
}

/// Only a chain of `properties` leads to a mirrored argument.
fn walk(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Mirrored>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    if path.len() >= DEPTH {
        return;
    }
    for (key, property) in properties {
        path.push(key.clone());
        if let Some(name) = property["x-mcp-header"].as_str() {
            found.push(Mirrored { name: name.to_owned(), path: path.clone() });
        }
        walk(property, path, found);
        path.pop();
    }
}

impl Mirrored {
    /// Compares the argument in `params` (JSON text) with the fields, by the part of their names
    /// that tools choose, as they came.
    pub(crate) fn check(&self, params: &str, fields: &[(String, String)]) -> Result<(), String> {
        let mut said = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(&self.name));
        let field = said.next().map(|(_, value)| value.as_str());
        if said.next().is_some() {
            return Err("comes more than once".to_owned());
        }
        let argument = self.argument(params)?;
        match (argument, field) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err("there is no such argument".to_owned()),
            (Some(_), None) => Err("is missing".to_owned()),
            (Some(argument), Some(field)) => {
                let field = decode_field(field)?;
                let agrees = agrees(&field, &argument);
                agrees.then_some(()).ok_or_else(|| "is not what the argument says".to_owned())
            }
        }
    }

    /// The argument; `None` where there must be no field. A key that comes twice might be read
    /// as either.
    fn argument(&self, params: &str) -> Result<Option<Value>, String> {
        let mut at = params;
        for key in std::iter::once("arguments").chain(self.path.iter().map(String::as_str)) {
            let all = members(at).unwrap_or_default();
            let mut found = all.iter().filter(|(known, _)| known == key).map(|(_, value)| *value);
            let Some(value) = found.next() else { return Ok(None) };
            if found.next().is_some() {
                return Err(format!("the argument \"{key}\" comes more than once"));
            }
            at = value;
        }
        let value = serde_json::from_str(at).ok();
        Ok(value
            .filter(|value| matches!(value, Value::String(_) | Value::Bool(_) | Value::Number(_))))
    }
}

/// Whether a decoded field says what the argument says. Numbers are compared as numbers.
fn agrees(field: &str, argument: &Value) -> bool {
    match argument {
        Value::String(text) => text == field,
        Value::Bool(truth) => field == if *truth { "true" } else { "false" },
        Value::Number(number) => match (number.as_i64(), field.parse::<i64>()) {
            (Some(number), Ok(field)) => number == field,
            _ => {
                let field = field.parse::<f64>().ok().filter(|field| field.is_finite());
                field.is_some() && number.as_f64() == field
            }
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_chains_of_properties_lead_to_a_mirrored_argument() {
        let tool = json!({"name": "t", "inputSchema": {"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "list": {"type": "array", "items": {"properties": {"no": {"x-mcp-header": "No"}}}},
        }, "oneOf": [{"properties": {"no": {"x-mcp-header": "No"}}}]}});
        let found = read(&tool.to_string());
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["Region", "N"]);
        let params = |arguments: &str| format!(r#"{{"name":"t","arguments":{arguments}}}"#);
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (region, number) = (&found[0], &found[1]);
        let both = params(r#"{"region":"eu","deep":{"n":42}}"#);
        assert!(
            region.check(&both, &[field("region", "eu"), field("other", "=?base64?!?=")]).is_ok()
        );
        assert!(region.check(&both, &[field("REGION", "=?base64?ZXU=?=")]).is_ok());
        assert!(number.check(&both, &[field("n", "42")]).is_ok());
        assert!(number.check(&both, &[]).is_err(), "missing");
        assert!(region.check(&both, &[field("region", "us")]).is_err());
        assert!(region.check(&both, &[field("region", "eu"), field("Region", "eu")]).is_err());
        assert!(region.check(&both, &[field("region", "=?base64?!?=")]).is_err());
        assert!(
            region
                .check(&params(r#"{"region":"us","region":"eu"}"#), &[field("region", "eu")])
                .is_err()
        );
        let twice = r#"{"arguments":{"region":"us"},"arguments":{"region":"eu"}}"#;
        assert!(region.check(twice, &[field("region", "eu")]).is_err());
        for nothing in ["{}", r#"{"region":null}"#, "null", r#"{"region":[1]}"#] {
            assert!(region.check(&params(nothing), &[]).is_ok(), "{nothing}");
            assert!(region.check(&params(nothing), &[field("region", "eu")]).is_err(), "{nothing}");
        }
        assert!(region.check("{}", &[]).is_ok());
        assert!(read(r#"{"name":"x-mcp-header"}"#).is_empty());
    }

    #[test]
    fn fields_agree_with_arguments() {
        for (field, argument, agrees) in [
            ("eu", json!("eu"), true),
            ("EU", json!("eu"), false),
            ("42", json!(42), true),
            ("42.0", json!(42), true),
            ("43", json!(42), false),
            ("9007199254740991", json!(9_007_199_254_740_991_i64), true),
            ("9007199254740993", json!(9_007_199_254_740_992_i64), false),
            ("true", json!(true), true),
            ("True", json!(true), false),
            ("", json!(""), true),
            ("null", json!(null), false),
        ] {
            assert_eq!(super::agrees(field, &argument), agrees, "{field} {argument}");
        }
    }
}
