//! The JSON Schema of the file, for editors.
//!
//! The types here have the shape of the file and nothing else: they are never made, only described.
//! A test holds their keys equal to those that the readers know.

#![expect(dead_code, reason = "the shapes are read by the derive only")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};

/// The schema of `gateway.yaml` as JSON Schema 2020-12.
pub fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12();
    settings.into_generator().into_root_schema_for::<GatewayFile>().into()
}

/// Configuration of mcp-gateway: which MCP servers it starts, and who may call what.
#[derive(JsonSchema)]
#[schemars(transform = all_optional, title = "gateway.yaml", extend(
    "additionalProperties" = own_section(),
    "patternProperties" = marked_section(),
))]
struct GatewayFile {
    /// What the gateway calls itself to clients. Default: mcp-gateway.
    #[schemars(schema_with = "text")]
    name: Option<()>,
    /// The MCP servers, by name. A name is 1 to 64 of A-Z a-z 0-9 _ . -
    servers: Option<BTreeMap<String, ServerEntry>>,
    /// Python code with tools, in order.
    plugins: Option<Vec<PluginEntry>>,
    /// What each role may see and call, by the role's name. Without this key there are no roles,
    /// and everything may be called.
    roles: Option<BTreeMap<String, Option<RoleEntry>>>,
    /// Who has which role: the first rule that fits. Nobody else is served, but for the gateway's
    /// own user where it is no system service.
    access: Option<Vec<AccessEntry>>,
    /// How long a server runs on after its last call; 0 is for ever. A bare number is seconds.
    /// Default: 300s.
    #[schemars(schema_with = "duration")]
    idle_timeout: Option<()>,
    /// Deadlines of the gateway itself.
    timeouts: Option<GatewayTimeouts>,
    /// Accepted and ignored.
    #[schemars(schema_with = "text_or_null")]
    registry: Option<()>,
}

/// Deadlines of the gateway itself.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = all_optional)]
struct GatewayTimeouts {
    /// How long a quiet HTTP session is remembered. Default: 30m.
    #[schemars(schema_with = "duration")]
    session: Option<()>,
    /// How long the gateway may have nothing to do before it exits; 0 is for ever. Default: 60s
    /// where its sockets are held by the init system, which starts it again; else 0.
    #[schemars(schema_with = "duration")]
    exit: Option<()>,
}

/// One MCP server: a command that talks over its stdin and stdout.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = all_optional)]
struct ServerEntry {
    /// The program, by its path or to be found in PATH. Nothing is expanded. Needed unless the
    /// server is disabled.
    #[schemars(schema_with = "text_or_null")]
    command: Option<()>,
    /// Its arguments, each as written. Nothing is expanded.
    #[schemars(schema_with = "texts")]
    args: Option<()>,
    /// Variables on top of HOME, LOGNAME, PATH, SHELL, TERM and USER. Values are taken as written;
    /// `$VAR`, `${VAR}` and `${VAR:-default}` are replaced by the gateway's own variables.
    #[schemars(schema_with = "variables")]
    env: Option<()>,
    /// Its working directory: absolute, `~/…`, or relative to this file. Default: the gateway's.
    cwd: Option<String>,
    /// Whether it is there at all. Default: true.
    #[schemars(schema_with = "switch")]
    enabled: Option<()>,
    /// `true` starts it with the first call, `false` with the gateway. Default: true.
    #[schemars(schema_with = "switch")]
    lazy: Option<()>,
    /// In front of its tools' names, instead of the server's name and `_`; "" for bare names.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{0,32}$"))]
    prefix: Option<String>,
    /// How its tools are found out before it has run. Default: auto.
    discover: Option<DiscoverWord>,
    /// Which clients share one instance of it. Default: user.
    share: Option<ShareWord>,
    /// Directories that it is told of as MCP roots. Default: those of the client, where one
    /// instance has one client.
    roots: Option<Vec<RootEntry>>,
    /// Its deadlines. A bare number is seconds.
    timeouts: Option<ServerTimeouts>,
    /// What it may take.
    limits: Option<ServerLimits>,
    /// What of the machine it gets. Default: all layers, and what the README calls the defaults.
    sandbox: Option<SandboxEntry>,
    /// Which of its tools exist, whoever asks.
    tools: Option<Globs>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum DiscoverWord {
    /// It is started once, and what it said is kept.
    Auto,
    /// A tool `_<name>_connect` stands in until a client calls it.
    Placeholder,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum ShareWord {
    /// One instance for each user.
    User,
    /// One for each client session.
    Session,
    /// One for each directory that sessions are opened in.
    Project,
    /// One for everybody.
    All,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum RootEntry {
    /// An absolute path, `~/…`, or a `file:///` URI.
    Path(String),
    Named(NamedRoot),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct NamedRoot {
    /// An absolute path, `~/…`, or a `file:///` URI.
    uri: String,
    /// What it is called to the server.
    name: Option<String>,
}

/// Deadlines of a server. A bare number is seconds.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = all_optional)]
struct ServerTimeouts {
    /// From its start until it answers. Default: 60s.
    #[schemars(schema_with = "duration")]
    start: Option<()>,
    /// For one call without progress. At most max_call. Default: 60s.
    #[schemars(schema_with = "duration")]
    call: Option<()>,
    /// For one call however much progress it makes. Default: 600s.
    #[schemars(schema_with = "duration")]
    max_call: Option<()>,
    /// How long it runs on after its last call; 0 is for ever. Default: the file's idle_timeout.
    #[schemars(schema_with = "duration")]
    idle: Option<()>,
    /// From the wish that it ends until it is killed. Default: 5s.
    #[schemars(schema_with = "duration")]
    stop: Option<()>,
    /// For fetching its package before the first start, if it is one of npx or uvx. Default: 300s.
    #[schemars(schema_with = "duration")]
    fetch: Option<()>,
}

/// What a server may take.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = all_optional)]
struct ServerLimits {
    /// Calls in flight in one instance. Default: 32.
    #[schemars(range(min = 1, max = 10000))]
    calls: Option<u32>,
    /// The longest line that it may write, in bytes or as 8M or 512K: 64 KiB to 1 GiB.
    /// Default: 8M.
    #[schemars(schema_with = "size")]
    line: Option<()>,
    /// Memory of all its processes together, checked every few seconds; and twice as much of each
    /// one's data, held by the kernel. From 16M. Default: by the profile, 1G for strict.
    #[schemars(schema_with = "bytes")]
    memory: Option<()>,
    /// Processes and threads at a time. Default: by the profile, 64 for strict.
    #[schemars(range(min = 1, max = 100000))]
    processes: Option<u32>,
    /// Open files of each process. Default: by the profile, 1024 for strict.
    #[schemars(range(min = 64, max = 1048576))]
    open_files: Option<u32>,
    /// Its private /tmp, which is memory. From 1M. Default: by the profile, 64M for strict.
    #[schemars(schema_with = "bytes")]
    tmp: Option<()>,
}

/// What of the machine a server gets.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = all_optional)]
struct SandboxEntry {
    /// Default: strict.
    profile: Option<ProfileWord>,
    /// true says that `profile: off` is meant.
    #[schemars(schema_with = "switch")]
    uncontained: Option<()>,
    /// Files and folders that it may read: absolute, `~/…`, or relative to this file. With this
    /// key or `write` it is given nothing that stands in its args.
    #[schemars(schema_with = "paths")]
    read: Option<()>,
    /// The same for reading and writing.
    #[schemars(schema_with = "paths")]
    write: Option<()>,
    /// Default: web; none in a system service.
    network: Option<NetworkEntry>,
    /// Layers without which it is not started. Default: all of them.
    require: Option<Vec<LayerWord>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum ProfileWord {
    /// Nothing but what is given.
    Strict,
    /// A browser's own sandbox inside, fonts, more memory and processes.
    Browser,
    /// Its working directory for writing, debuggers among its own processes, no limit of memory.
    Dev,
    /// No sandbox. Needs `uncontained: true`.
    Off,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum NetworkEntry {
    Word(NetworkWord),
    /// TCP to these ports; names only if 53 is one of them.
    Ports(#[schemars(inner(range(min = 1, max = 65535)))] Vec<u16>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum NetworkWord {
    /// None but a loopback of its own.
    None,
    /// TCP to 443 and 80, and names. Reduces, does not contain.
    Web,
    /// Everything that the machine reaches.
    Host,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum LayerWord {
    /// User, mount, pid, IPC, UTS, cgroup and network namespaces, and the private root.
    Namespaces,
    /// Landlock's rules for files and ports.
    Landlock,
    /// Landlock's scopes for signals and abstract sockets.
    Scopes,
    /// The filter of system calls.
    Seccomp,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum PluginEntry {
    /// The module's name.
    Name(String),
    Map(Box<PluginMap>),
}

/// Python code with tools: one of module, file and dir. Entries that agree in everything else share
/// a process.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = all_optional)]
struct PluginMap {
    /// A module's name, such as my_tools.text. It is looked for in `path`, this file's folder, the
    /// folder that the gateway was started in, and PYTHONPATH.
    module: Option<String>,
    /// A file with tools: absolute, `~/…`, or relative to this file.
    file: Option<String>,
    /// A folder: each of its *.py is a plugin, but for _*, test_* and conftest.py.
    dir: Option<String>,
    /// The folder in which `module` is looked for first.
    path: Option<String>,
    /// The Python that runs it, such as .venv/bin/python, with the packages that it has. Default:
    /// python3, from PATH.
    #[schemars(schema_with = "text_or_null")]
    python: Option<()>,
    /// Whether a change of its files counts at once; else it counts when it next starts. Default:
    /// false.
    #[schemars(schema_with = "switch")]
    watch: Option<()>,
    /// In front of its tools' names. Default: nothing.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{0,32}$"))]
    prefix: Option<String>,
    /// Variables of its process, as a server's.
    #[schemars(schema_with = "variables")]
    env: Option<()>,
    /// Which clients share its process. Default: user.
    share: Option<ShareWord>,
    /// Its deadlines. A bare number is seconds.
    timeouts: Option<ServerTimeouts>,
    /// What its process may take.
    limits: Option<ServerLimits>,
    /// What of the machine its process gets; its own code in any case.
    sandbox: Option<SandboxEntry>,
    /// Which of its tools exist, whoever asks.
    tools: Option<Globs>,
}

/// Whom the kernel names at the other end of the Unix socket, and the role that it has.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = role_required)]
struct AccessEntry {
    /// A user, by name or number.
    #[schemars(schema_with = "name_or_number")]
    user: Option<()>,
    /// A group, by name or number.
    #[schemars(schema_with = "name_or_number")]
    group: Option<()>,
    /// One of `roles`.
    role: String,
}

/// null is everything.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum RoleEntry {
    /// Globs of what is allowed; [] is nothing.
    Allow(Vec<String>),
    Globs(Globs),
}

/// Globs over names, with `*`, `?` and `[…]`. `deny` wins.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = all_optional)]
struct Globs {
    /// What is allowed; [] is nothing. Default: everything.
    #[schemars(schema_with = "globs")]
    allow: Option<()>,
    /// What is not. Default: nothing.
    deny: Option<Vec<String>>,
}

/// The derive takes a key with a schema of its own for a required one.
fn all_optional(schema: &mut Schema) {
    schema.remove("required");
}

fn role_required(schema: &mut Schema) {
    schema.insert("required".to_owned(), serde_json::json!(["role"]));
}

/// Sections for anchors. Whether one of them has its anchor is beyond a schema; a plain value
/// under an unknown key is most likely a slip.
fn own_section() -> serde_json::Value {
    serde_json::json!({ "type": ["object", "array"] })
}

/// `x-…` marks a section of the user's own.
fn marked_section() -> serde_json::Value {
    serde_json::json!({ "^x-": true })
}

fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

fn name_or_number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer"] })
}

fn text_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean", "null"] })
}

fn texts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "items": { "type": ["string", "number", "boolean"] },
    })
}

fn paths(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["array", "null"], "items": { "type": "string" } })
}

/// A size of any magnitude.
fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["integer", "string"],
        "minimum": 1_048_576,
        "pattern": r"^[0-9_]+ *(B|k|K|KiB|M|MiB|G|GiB)?$",
    })
}

fn globs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string" } })
}

fn variables(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
    })
}

/// Editors read YAML 1.2, where `no` and `off` are texts.
fn switch(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "enum": [true, false, null, 0, 1, "yes", "no", "on", "off", "Yes", "No", "On", "Off"],
    })
}

fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["number", "string"],
        "minimum": 0,
        "pattern": r"^[0-9.:_]+ *(ms|s|m|h|d)?$",
    })
}

fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["integer", "string"],
        "minimum": 65536,
        "maximum": 1_073_741_824,
        "pattern": r"^[0-9_]+ *(B|k|K|KiB|M|MiB|G|GiB)?$",
    })
}
