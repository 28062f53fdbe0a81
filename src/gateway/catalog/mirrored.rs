//! Which arguments of a tool HTTP clients repeat in header fields: `x-mcp-header` in its schema
//! (2026-07-28, streamable HTTP, "Custom Headers from Tool Parameters").

use serde_json::Value;

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
    /// The text that the header field must have; `None` where there must be no field.
    pub(crate) fn expected<'a>(&self, arguments: &'a Value) -> Option<&'a Value> {
        let mut at = arguments;
        for key in &self.path {
            at = at.get(key)?;
        }
        matches!(at, Value::String(_) | Value::Bool(_) | Value::Number(_)).then_some(at)
    }

    /// Whether a decoded field says what the argument says. Numbers are compared as numbers.
    pub(crate) fn agrees(field: &str, argument: &Value) -> bool {
        match argument {
            Value::String(text) => text == field,
            Value::Bool(truth) => field == if *truth { "true" } else { "false" },
            Value::Number(number) => {
                field == number.to_string()
                    || field
                        .parse::<f64>()
                        .is_ok_and(|field| field.is_finite() && number.as_f64() == Some(field))
            }
            _ => false,
        }
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
        let arguments = json!({"region": "eu", "deep": {"n": 42}});
        assert_eq!(found[0].expected(&arguments), Some(&json!("eu")));
        assert_eq!(found[1].expected(&arguments), Some(&json!(42)));
        assert_eq!(found[1].expected(&json!({"deep": 1})), None);
        assert_eq!(found[0].expected(&json!({"region": null})), None);
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
            ("true", json!(true), true),
            ("True", json!(true), false),
            ("", json!(""), true),
            ("null", json!(null), false),
        ] {
            assert_eq!(Mirrored::agrees(field, &argument), agrees, "{field} {argument}");
        }
    }
}
