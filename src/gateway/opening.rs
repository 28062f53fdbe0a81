//! What clients say of themselves, in `initialize` or in a request of the modern era; what they
//! and backends hear.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Gateway, Layer, Session,
    catalog::Listing,
    era,
    error::Failure,
    router::{Answer, Request},
};
use crate::{
    backend::{Instance, InstanceKey, Opening, Scope, Speak},
    config::{Server, Share},
    policy::Target,
    protocol::{Era, Version, member, string_member, with_member},
};

/// Instructions of all backends together.
const INSTRUCTIONS: usize = 16 * 1024;

/// What a client said of itself: in `initialize`, or in the one request of a modern session.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The parameters of `initialize` as they came, as JSON text.
    pub raw: String,
    /// The capabilities that a request named, as JSON text.
    said: Option<String>,
    /// Read when somebody asks.
    capabilities: OnceLock<Value>,
    /// What a modern backend is told of it.
    modern: OnceLock<String>,
}

impl Client {
    pub(super) fn new(raw: String) -> Self {
        Client { raw, ..Client::default() }
    }

    pub(super) fn of(capabilities: &str) -> Self {
        Client { said: Some(capabilities.to_owned()), ..Client::default() }
    }

    /// Its capabilities in the modern era's words, as JSON text.
    pub(super) fn modern(&self) -> &str {
        self.modern.get_or_init(|| era::modern_capabilities(self.capabilities()).to_string())
    }

    fn capabilities(&self) -> &Value {
        self.capabilities.get_or_init(|| {
            let raw = match &self.said {
                Some(said) => Some(said.as_str()),
                None => member(&self.raw, "capabilities").map(|span| &self.raw[span]),
            };
            raw.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
        })
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        self.capabilities().get(capability).is_some()
    }

    pub(super) fn extends(&self, extension: &str) -> bool {
        self.capabilities()["extensions"].get(extension).is_some()
    }

    /// Whether it can be asked in this elicitation mode. A bare `elicitation: {}` means forms.
    pub(super) fn elicits(&self, mode: &str) -> bool {
        let Some(elicitation) = self.capabilities().get("elicitation") else { return false };
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
    let client = Client::new(raw);
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
            transparent(session, &server, client, version).await
        }
    }
}

/// The backend's own answer; with `share: session` from a child that heard this client's words.
async fn transparent(
    session: &Arc<Session>,
    server: &Server,
    client: Client,
    version: Version,
) -> Result<Answer, Failure> {
    let gateway = session.gateway();
    let raw = client.raw.clone();
    session.set_client(client);
    let mut met = gateway.introduced(session, server, "initialize").await?;
    if met.era == Some(Era::Modern) && !gateway.knows_only_modern(session, server) {
        // A wire needs no translation where both ends speak the same. Not all who speak both say
        // so: it is tried once.
        let tried = gateway.introduced_at(session, server, Speak::Legacy, "initialize").await?;
        if tried.era == Some(Era::Legacy) {
            session.speak_legacy();
            met = tried;
        }
    }
    session.uses(&server.name.as_str().into());
    let info = match met.era {
        Some(Era::Modern) => era::initialized(&met.info, &server.name, version),
        _ => met.info.to_string(),
    };
    let theirs = string_member(&info, "protocolVersion").and_then(|text| Version::parse(&text));
    let agreed = match theirs {
        // A child of this client's own answered this client's own words.
        Some(theirs) if server.share == Share::Session => theirs,
        Some(theirs) => theirs.min(version),
        None => version,
    };
    let result = match theirs {
        Some(theirs) if theirs == agreed => info,
        _ => with_member(&info, "protocolVersion", &format!("\"{agreed}\"")),
    };
    session.opened(Client::new(raw), agreed);
    Ok(Answer::Result(result))
}

/// The gateway's own answer.
fn aggregate(session: &Session, version: Version) -> String {
    let (mut capabilities, instructions) = session.gateway().offer(session);
    era::without_tasks_extension(&mut capabilities);
    let mut result = json!({
        "protocolVersion": version.as_str(),
        "capabilities": capabilities,
        "serverInfo": {"name": session.gateway().now().config.name, "version": env!("CARGO_PKG_VERSION")},
    });
    if !instructions.is_empty() {
        result["instructions"] = instructions.into();
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
    /// The union of what the backends can do, and their instructions. Those that have not been
    /// met may do everything.
    pub(super) fn offer(&self, session: &Session) -> (Value, String) {
        let mut capabilities = json!({"tools": {"listChanged": true}});
        let mut instructions = String::new();
        for server in self.servers().iter() {
            let target = Target::Server { server: &server.name };
            if self.now().policy.authorize(&session.principal(), target).is_none() {
                continue;
            }
            match self.catalog.get(&self.key(server, session), server) {
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
        (capabilities, instructions.trim_end().to_owned())
    }

    /// Whether the backend was opened with `initialize` before, for this session's holder, and
    /// spoke the modern era all the same.
    fn knows_only_modern(&self, session: &Session, server: &Server) -> bool {
        let key = InstanceKey { speak: Speak::Legacy, ..self.key(server, session) };
        let listing = self.catalog.get(&key, server);
        listing.is_some_and(|listing| listing.era == Some(Era::Modern))
    }

    /// What a backend said of itself; it is started if it has not said it yet, or has to say it
    /// to this session alone. `method` is what a refusal is about.
    pub(super) async fn introduced(
        &self,
        session: &Session,
        server: &Server,
        method: &str,
    ) -> Result<Arc<Listing>, Failure> {
        self.introduced_at(session, server, session.speak(), method).await
    }

    async fn introduced_at(
        &self,
        session: &Session,
        server: &Server,
        speak: Speak,
        method: &str,
    ) -> Result<Arc<Listing>, Failure> {
        let key = InstanceKey { speak, ..self.key(server, session) };
        let known = self.catalog.get(&key, server);
        if let Some(listing) = known.filter(|_| server.share != Share::Session) {
            return Ok(listing);
        }
        let target = Target::Server { server: &server.name };
        let permit = self.now().policy.authorize(&session.principal(), target);
        let permit = permit.ok_or_else(|| Failure::UnknownMethod(method.to_owned()))?;
        let deadline = Instant::now() + server.timeouts.start;
        let lease = self.supervisor.acquire(permit, session.holder(), speak, deadline).await?;
        let info = lease.link().info().ok_or_else(|| Failure::Gone(server.name.clone()))?;
        Ok(Arc::new(Listing::of(info)))
    }

    /// What an instance hears of its clients: exactly the client's words where it has one client,
    /// else what the gateway mediates for all of them.
    pub(super) fn opening_for(&self, instance: &Instance) -> Opening {
        let key = instance.key();
        // What it was before. Where the older era is wanted, there is nothing to find out.
        let known = match key.speak {
            Speak::Legacy => Some(Era::Legacy),
            Speak::Best if self.doubts.has(key) => None,
            Speak::Best => self.catalog.era(key, instance.server()),
        };
        if let Scope::Session(id) = &key.scope {
            let client = self.conversation(id).and_then(|session| session.client());
            if let Some(client) = client.filter(|client| !client.raw.is_empty()) {
                return Opening { params: client.raw.clone(), known };
            }
        }
        let ui = json!({"mimeTypes": ["text/html;profile=mcp-app"]});
        let mut capabilities = json!({
            "sampling": {},
            "elicitation": {"form": {}, "url": {}},
            // Needs nothing of the gateway; what clients cannot show they leave out.
            "extensions": {"io.modelcontextprotocol/ui": ui},
        });
        let server = instance.server();
        // Roots are known where all of its clients have the same.
        let alone = matches!(key.scope, Scope::Project(..) | Scope::Session(_));
        if alone || !server.roots.is_empty() {
            capabilities["roots"] = json!({});
        }
        let params = json!({
            "protocolVersion": Version::LATEST.as_str(),
            "capabilities": capabilities,
            "clientInfo": {"name": "mcp-gateway", "version": env!("CARGO_PKG_VERSION")},
        });
        Opening { params: params.to_string(), known }
    }
}
