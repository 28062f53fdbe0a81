//! `server/discover`, and what a backend said of itself in the other era's words.

use serde_json::{Value, json};

use super::TASKS_EXTENSION;
use crate::{
    gateway::{
        Layer,
        error::Failure,
        router::{Answer, Backend, Request},
    },
    protocol::{Era, Version, edited, member},
};

const SERVER: &str = "io.modelcontextprotocol/serverInfo";

pub(in crate::gateway) async fn discover(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    let versions = json!(Version::names()).to_string();
    let Layer::Server(name) = session.layer() else {
        let (mut capabilities, instructions) = gateway.offer(session);
        without_tasks(&mut capabilities);
        let mut result =
            json!({"supportedVersions": Version::names(), "capabilities": capabilities});
        if !instructions.is_empty() {
            result["instructions"] = instructions.into();
        }
        return Ok(Answer::Result(result.to_string()));
    };
    let server = gateway.server(name).ok_or_else(|| request.unknown_method())?;
    let met = gateway.introduced(session, &server, "server/discover");
    let met = request.while_starting(Backend(name), met).await?;
    session.uses(&name.as_str().into());
    let info = match met.era {
        Some(Era::Modern) => met.info.to_string(),
        _ => discovered(&met.info),
    };
    // A session of any era can be had here, whatever the backend speaks.
    Ok(Answer::Result(edited(&info, &[], &[("supportedVersions", &versions)])))
}

/// A legacy backend's answer to `initialize` as one to `server/discover`.
fn discovered(info: &str) -> String {
    let part = |key: &str| member(info, key).map(|span| &info[span]);
    let mut capabilities: Value =
        part("capabilities").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    without_tasks(&mut capabilities);
    let capabilities = capabilities.to_string();
    let meta =
        edited(part("_meta").unwrap_or("{}"), &[], &[(SERVER, part("serverInfo").unwrap_or("{}"))]);
    edited(
        info,
        &["protocolVersion", "serverInfo"],
        &[("capabilities", capabilities.as_str()), ("_meta", meta.as_str())],
    )
}

/// A modern backend's answer to `server/discover` as one to `initialize`.
pub(in crate::gateway) fn initialized(info: &str, name: &str, version: Version) -> String {
    let part = |key: &str| member(info, key).map(|span| &info[span]);
    let mut capabilities: Value =
        part("capabilities").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    without_tasks_extension(&mut capabilities);
    let (capabilities, version) = (capabilities.to_string(), format!("\"{version}\""));
    let meta = part("_meta").unwrap_or("{}");
    let unnamed = json!({"name": name, "version": ""}).to_string();
    let server = member(meta, SERVER).map_or(unnamed.as_str(), |span| &meta[span]);
    edited(
        info,
        &["resultType", "ttlMs", "cacheScope", "supportedVersions"],
        &[
            ("protocolVersion", version.as_str()),
            ("capabilities", capabilities.as_str()),
            ("serverInfo", server),
        ],
    )
}

/// Tasks of 2025-11-25 cannot be had in the modern era.
fn without_tasks(capabilities: &mut Value) {
    if let Some(capabilities) = capabilities.as_object_mut() {
        capabilities.remove("tasks");
    }
}

/// Tasks of the modern era cannot be had in the legacy one.
pub(in crate::gateway) fn without_tasks_extension(capabilities: &mut Value) {
    let Some(capabilities) = capabilities.as_object_mut() else { return };
    let extensions = capabilities.get_mut("extensions").and_then(Value::as_object_mut);
    if extensions.is_some_and(|all| all.remove(TASKS_EXTENSION).is_some() && all.is_empty()) {
        capabilities.remove("extensions");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_introduces_itself_in_either_eras_words() {
        let legacy = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"tasks":{},"x":1.0},"serverInfo":{"name":"s","version":"1"},"instructions":"be","new":2}"#;
        assert_eq!(
            discovered(legacy),
            r#"{"capabilities":{"tools":{},"x":1.0},"instructions":"be","new":2,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#
        );
        let modern = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}},"ttlMs":1,"cacheScope":"public","instructions":"be"}"#;
        let value: Value =
            serde_json::from_str(&initialized(modern, "n", Version::V2025_11_25)).unwrap();
        assert_eq!(
            value,
            json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "instructions": "be",
                "serverInfo": {"name": "s"},
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s"}},
            })
        );
        let bare: Value =
            serde_json::from_str(&initialized("{}", "n", Version::V2024_11_05)).unwrap();
        assert_eq!(bare["serverInfo"]["name"], "n");
    }
}
