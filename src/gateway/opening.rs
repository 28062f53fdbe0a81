//! `initialize`: what the client says of itself, what it hears, what backends hear.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Gateway, Layer, Session,
    error::Failure,
    router::{Answer, Request},
};
use crate::{
    backend::{Instance, Opening, Scope},
    config::{Server, Share},
    policy::Target,
    protocol::{Version, string_member, with_member},
};

/// Instructions of all backends together.
const INSTRUCTIONS: usize = 16 * 1024;

/// What a client said in `initialize`.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The parameters as they came, as JSON text.
    pub raw: String,
    pub capabilities: Value,
}

impl Client {
    pub(super) fn has(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }

    /// Whether it can be asked in this elicitation mode. A bare `elicitation: {}` means forms.
    pub(super) fn elicits(&self, mode: &str) -> bool {
        let Some(elicitation) = self.capabilities.get("elicitation") else { return false };
        elicitation.get(mode).is_some()
            || (mode == "form" && elicitation.as_object().is_some_and(Map::is_empty))
    }
}

/// Log levels, the most verbose first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(Value::from(text)).ok()
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}

#[derive(Deserialize, Default)]
struct Params {
    #[serde(rename = "protocolVersion", default)]
    version: Option<String>,
    #[serde(default)]
    capabilities: Value,
}

pub(super) async fn initialize(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    if !session.begin_opening() {
        return Err(Failure::AlreadyInitialized);
    }
    let opened = open(request).await;
    if opened.is_err() {
        // It may try again.
        session.end_opening();
    }
    opened
}

async fn open(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let params: Params = request
        .message
        .params()
        .map_err(|error| Failure::InvalidParams(format!("initialize: {error}")))?;
    let asked = params.version.ok_or_else(|| {
        Failure::InvalidParams("initialize: `protocolVersion` is missing".to_owned())
    })?;
    let raw = request.raw_params().unwrap_or_else(|| "{}".to_owned());
    let client = Client { raw, capabilities: params.capabilities };
    // An unknown version is answered with the latest that we speak; the client decides.
    let version = Version::parse(&asked).unwrap_or(Version::LATEST);
    match session.layer() {
        Layer::Aggregate => {
            let result = aggregate(session, version);
            session.opened(client, version);
            Ok(Answer::Result(result))
        }
        Layer::Server(name) => {
            let server = session.gateway().server(name);
            let server = server.ok_or_else(|| Failure::UnknownMethod("initialize".into()))?;
            transparent(session, server, client, version).await
        }
    }
}

/// The backend's own answer; with `share: session` from a child that heard this client's words.
async fn transparent(
    session: &std::sync::Arc<Session>,
    server: &Server,
    client: Client,
    version: Version,
) -> Result<Answer, Failure> {
    let gateway = session.gateway();
    let key = gateway.key(server, session.holder());
    let known =
        (server.share != Share::Session).then(|| gateway.catalog.get(&key, server)).flatten();
    session.set_client(client);
    let raw = match known {
        Some(listing) => listing.info.to_string(),
        None => {
            let target = Target::Server { server: &server.name };
            let permit = gateway.policy.authorize(session.principal(), target);
            let permit = permit.ok_or_else(|| Failure::UnknownMethod("initialize".into()))?;
            let deadline = Instant::now() + server.timeouts.start;
            let lease = gateway.supervisor.acquire(permit, session.holder(), deadline).await?;
            let info = lease.link().info().map(|info| info.raw.to_string());
            info.ok_or_else(|| Failure::Gone(server.name.clone()))?
        }
    };
    session.uses(&server.name.as_str().into());
    let theirs = string_member(&raw, "protocolVersion").and_then(|text| Version::parse(&text));
    let agreed = match theirs {
        // A child of this client's own answered this client's own words.
        Some(theirs) if server.share == Share::Session => theirs,
        Some(theirs) => theirs.min(version),
        None => version,
    };
    let result = match theirs {
        Some(theirs) if theirs == agreed => raw,
        _ => with_member(&raw, "protocolVersion", &format!("\"{agreed}\"")),
    };
    let client = session.client();
    let client = Client {
        raw: client.as_ref().map(|client| client.raw.clone()).unwrap_or_default(),
        capabilities: client.map(|client| client.capabilities.clone()).unwrap_or_default(),
    };
    session.opened(client, agreed);
    Ok(Answer::Result(result))
}

/// The gateway's own answer: the union of what its backends can do. Those that have not been
/// met may do everything.
fn aggregate(session: &Session, version: Version) -> String {
    let gateway = session.gateway();
    let mut capabilities = json!({"tools": {"listChanged": true}});
    let mut instructions = String::new();
    for server in gateway.servers() {
        let target = Target::Server { server: &server.name };
        if gateway.policy.authorize(session.principal(), target).is_none() {
            continue;
        }
        let key = gateway.key(server, session.holder());
        match gateway.catalog.get(&key, server) {
            Some(listing) => {
                merge(&mut capabilities, &listing.capabilities);
                if let Some(text) = string_member(&listing.info, "instructions")
                    && instructions.len() + text.len() < INSTRUCTIONS
                {
                    instructions.push_str(&format!("## {}\n{}\n\n", server.name, text.trim()));
                }
            }
            None => merge(
                &mut capabilities,
                &json!({"prompts": {}, "resources": {"subscribe": true}, "completions": {}, "logging": {}}),
            ),
        }
    }
    for list in ["prompts", "resources"] {
        if let Some(list) = capabilities.get_mut(list).and_then(Value::as_object_mut) {
            list.insert("listChanged".to_owned(), true.into());
        }
    }
    let mut result = json!({
        "protocolVersion": version.as_str(),
        "capabilities": capabilities,
        "serverInfo": {"name": gateway.config.name, "version": env!("CARGO_PKG_VERSION")},
    });
    if !instructions.is_empty() {
        result["instructions"] = instructions.trim_end().into();
    }
    result.to_string()
}

/// The union of two sets of capabilities. What is no object is no capability: some write `[]`.
fn merge(into: &mut Value, from: &Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else { return };
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Bool(known)), Value::Bool(value)) => *known |= *value,
            (Some(known), value) => merge(known, value),
            (None, Value::Object(_) | Value::Bool(_)) => {
                into.insert(key.clone(), value.clone());
            }
            (None, Value::Array(list)) if list.is_empty() => {
                into.insert(key.clone(), json!({}));
            }
            (None, _) => {}
        }
    }
}

impl Gateway {
    /// What an instance hears of its clients: exactly the client's words where it has one client,
    /// else what the gateway mediates for all of them.
    pub(super) fn opening_for(&self, instance: &Instance) -> Opening {
        if let Scope::Session(id) = &instance.key().scope {
            let session = self.sessions().values().find(|session| session.id() == id).cloned();
            let client = session.and_then(|session| session.client());
            if let Some(client) = client.filter(|client| !client.raw.is_empty()) {
                return Opening { params: client.raw.clone() };
            }
        }
        let mut capabilities = json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}});
        let server = instance.server();
        let project = matches!(instance.key().scope, Scope::Project(..));
        if project || !server.roots.is_empty() {
            capabilities["roots"] = json!({});
        }
        let params = json!({
            "protocolVersion": Version::LATEST.as_str(),
            "capabilities": capabilities,
            "clientInfo": {"name": "mcp-gateway", "version": env!("CARGO_PKG_VERSION")},
        });
        Opening { params: params.to_string() }
    }
}
