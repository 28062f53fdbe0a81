//! Words in, exit code out: one file a verb.
#![forbid(unsafe_code)]

mod call;
mod check;
mod client;
mod doctor;
mod fetch;
mod list;
mod new_plugin;
mod plugins;
mod serve;
mod socket;
mod status;
mod whoami;

use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode};

use clap::{
    Args, CommandFactory, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};

use crate::{
    config::{self, Loaded, Mode, Problems, Server},
    daemon::logging::{self, Format},
    policy::Denied,
};

/// sysexits(3), as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// A tool that was called has failed.
    Failed = 1,
    Usage = 64,
    Unavailable = 69,
    Internal = 70,
    NotPermitted = 77,
    Config = 78,
    /// Ended by a signal, as shells count it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// One MCP gateway for all your clients: starts the configured MCP servers when they are called,
/// shares them, and stops them when they are idle.
#[derive(Parser)]
#[command(
    name = "mcp-gateway",
    version,
    infer_long_args = true,
    max_term_width = 100,
    after_help = "Files:
  ./gateway.yaml, ./mcp-gateway.yaml, $XDG_CONFIG_HOME/mcp-gateway/gateway.yaml,
  /etc/mcp-gateway/gateway.yaml: the config, the first that exists

Environment:
  MCP_GATEWAY_ROLE   the role of `roles:` that this gateway acts in
  MCP_GATEWAY_LOG    what is logged, as --log
  MCP_GATEWAY_SOCKET the socket of a running gateway, for status, reload and whoami
  MCP_GATEWAY_CACHE  where backends' lists are remembered (default ~/.cache/mcp-gateway)
  CREDENTIALS_DIRECTORY  its request-state.key seals what clients carry for several gateways

Exit status:
  0 done  1 the called tool failed  64 usage  69 a backend is unavailable
  70 a bug  77 not permitted  78 the config has errors  130 interrupted

Try:
  mcp-gateway check                          is the config right, and what does it mean
  mcp-gateway list --tools                   every tool under the name that clients see
  mcp-gateway call time_get_current_time '{\"timezone\":\"UTC\"}'
  claude mcp add gateway -- mcp-gateway stdio"
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What to log on stderr: a level (error, warn, info, debug, trace) or a list such as
    /// `info,audit=off`
    #[arg(long, global = true, env = "MCP_GATEWAY_LOG", value_name = "LEVEL")]
    log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
}

#[derive(Args, Clone, Debug, Default)]
struct ConfigArgs {
    /// The config file (default: the first of those below that exists; none is an empty gateway)
    // An empty name is none, as with the seed; clap's own parser for paths refuses it.
    #[arg(short, long, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve MCP over HTTP, and on a Unix socket with --socket, until a signal
    ///
    /// POST/GET/DELETE /mcp is every server under qualified names, /mcp/NAME one server under its
    /// own; GET /sse with POST /messages/ is the older transport; GET /health tells the state.
    /// On a loopback address only processes of your own uid are served.
    Serve(serve::ServeArgs),
    /// Serve MCP on stdin and stdout, until the end of the input
    Stdio(serve::StdioArgs),
    /// List servers and plugins; with --tools, every tool under the name that clients see
    List(list::ListArgs),
    /// Check the config: every problem at once, exit 0 or 78
    Check(check::CheckArgs),
    /// Show what is enforced around each server, by a look from inside its sandbox
    ///
    /// Every server's sandbox is put on as for a start, and in it a probe tries to get out. Exit 0;
    /// 1 if something got through that must not; 69 if a server's sandbox cannot be had.
    Doctor(doctor::DoctorArgs),
    /// Show what a running gateway does: its instances, their state and sandbox, and what failed
    Status(status::StatusArgs),
    /// Have a running gateway read its config again, and wait until it has
    ///
    /// Servers whose entries did not change go on, and so do the sessions of clients. A file with
    /// errors changes nothing: every problem is printed, and the exit is 78.
    Reload(status::ReloadArgs),
    /// Show what a running gateway sees of you: user, groups, role, and what is visible in it
    ///
    /// Exit 77 if no rule of `access:` gives you a role.
    Whoami(whoami::WhoamiArgs),
    /// Fetch the packages of `npx` and `uvx` servers, which then start without a network
    ///
    /// Each in a sandbox with a network and the server's own home, and nothing else of the machine.
    /// A server's first start does it by itself; this does it ahead, or again for what is newer.
    /// Prints version and hash of each. Exit 0; 69 if one cannot be fetched.
    Fetch(fetch::FetchArgs),
    /// Call one tool and print its result
    ///
    /// Text is printed as it is, everything else as JSON. Exit 1 when the tool reports an error,
    /// 69 when its server cannot be used.
    Call(call::CallArgs),
    /// Write a small Python plugin and its test
    NewPlugin(new_plugin::NewPluginArgs),
    /// Print the JSON Schema of the config file, for editors
    Schema,
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let Some(verb) = cli.verb else {
        let _ = Cli::command().print_help();
        return Exit::Ok;
    };
    // Short-lived verbs keep quiet unless asked: their own messages say what matters.
    let quiet = !matches!(verb, Verb::Serve(_) | Verb::Stdio(_));
    let level = cli.log.as_deref().unwrap_or(if quiet { "error" } else { "info" });
    let _log = match logging::start(cli.log_format, level) {
        Ok(log) => log,
        Err(error) => return complain(&error, Exit::Usage),
    };
    match verb {
        Verb::Serve(args) => serve::serve(args),
        Verb::Stdio(args) => serve::stdio(args),
        Verb::List(args) => list::list(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Fetch(args) => fetch::fetch(&args),
        Verb::Call(args) => call::call(args),
        Verb::Status(args) => status::status(&args),
        Verb::Reload(args) => status::reload(&args),
        Verb::Whoami(args) => whoami::whoami(&args),
        Verb::NewPlugin(args) => new_plugin::new_plugin(&args),
        Verb::Schema => {
            let text = serde_json::to_string_pretty(&config::schema()).unwrap_or_default();
            print_line(&text)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mcp-gateway", &mut script);
            print_line(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

/// Prints to stdout; a reader that has gone is no error of ours.
fn print_line(text: &str) -> Exit {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&anyhow::Error::from(error), Exit::Internal)
        }
        _ => Exit::Ok,
    }
}

fn complain(error: &anyhow::Error, exit: Exit) -> Exit {
    let exit = if error.is::<Denied>() {
        Exit::NotPermitted
    } else if error.is::<client::Interrupted>() {
        Exit::Interrupted
    } else {
        exit
    };
    eprintln!("mcp-gateway: {error:#}");
    exit
}

/// The config that a verb goes by. Problems are printed, warnings too.
fn load(args: &ConfigArgs, mode: Mode) -> Result<Loaded, Exit> {
    let loaded = read(args, mode).map_err(|problems| {
        eprintln!("{problems}");
        Exit::Config
    })?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    Ok(loaded)
}

fn read(args: &ConfigArgs, mode: Mode) -> Result<Loaded, Problems> {
    let path = config::discover(args.config.as_deref(), mode)?;
    config::load(path.as_deref(), &|name| std::env::var(name).ok(), mode)
}

/// The role of our own processes.
/// The servers that are enabled, or the one of this name.
fn chosen<'s>(
    servers: impl Iterator<Item = &'s Server>,
    name: Option<&str>,
) -> anyhow::Result<Vec<&'s Server>> {
    let wanted = |server: &&Server| server.enabled && name.is_none_or(|name| name == server.name);
    let found: Vec<&Server> = servers.filter(wanted).collect();
    match name {
        Some(name) if found.is_empty() => anyhow::bail!("no server \"{name}\" that is enabled"),
        _ => Ok(found),
    }
}

fn own_role() -> Option<String> {
    std::env::var("MCP_GATEWAY_ROLE").ok().filter(|role| !role.is_empty())
}

/// One thread: every hand-over between threads would cost more than it gains.
fn on_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // Reading stdin cannot be interrupted; it must not keep us.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    result
}
