//! What `mcp-gateway-stdio` does: a client's stdin and stdout ↔ the gateway's Unix socket.
//!
//! Stands apart: the standard library and libc, and no other room. It copies lines, and knows of
//! them only whose they are ([`books`]), so that the daemon can be restarted, replaced, or gone for
//! want of work, and the client does not notice. It starts nothing, reads no config, and decides
//! nothing: who may do what is the daemon's to say, to whom the kernel tells who we are.
#![forbid(unsafe_code)]

mod books;
#[cfg(test)]
mod books_tests;
mod carry;
mod envelope;
mod find;
mod json;
mod lines;
mod os;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::ExitCode,
};

use carry::Way;
use json::quoted;

const HELP: &str = "\
Serve MCP on stdin and stdout by the gateway that runs for this machine or this user

Usage: mcp-gateway-stdio [OPTIONS] [NAME]

Arguments:
  [NAME]             As --server

Options:
      --server NAME  Be this one server, under its own names, instead of all of them
      --role NAME    Act in this role only, which must be one of yours [env: MCP_GATEWAY_ROLE]
      --socket PATH  The gateway's socket [env: MCP_GATEWAY_SOCKET]
      --standalone   Where no gateway can be used, be one: `mcp-gateway stdio`
  -h, --help         Print help
  -V, --version      Print version

Sockets:
  $XDG_RUNTIME_DIR/mcp-gateway/mcp-gateway.sock, then /run/mcp-gateway/mcp-gateway.sock:
  the first that exists

Environment:
  CLAUDE_PROJECT_DIR  the directory that the client works in (default: the current one)

Exit status:
  0 done  64 usage  69 no gateway  77 not permitted
";

#[derive(Default)]
struct Options {
    server: Option<String>,
    role: Option<String>,
    socket: Option<PathBuf>,
    standalone: bool,
}

pub fn main() -> ExitCode {
    let options = match read(env::args_os().skip(1)) {
        Ok(Asked::Serve(options)) => options,
        Ok(Asked::Text(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("mcp-gateway-stdio: {why}; see mcp-gateway-stdio --help");
            return ExitCode::from(64);
        }
    };
    let places = find::places(options.socket.as_deref());
    match find::connect(&places) {
        Ok(stream) => carry::carry(stream, Way { places, preface: preface(&options) }),
        Err(failure) if options.standalone => {
            eprintln!("mcp-gateway-stdio: {}", failure.to_string().lines().next().unwrap_or(""));
            stand_alone(&options)
        }
        Err(failure) => {
            eprintln!("mcp-gateway-stdio: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

enum Asked {
    Serve(Options),
    Text(String),
}

fn read(args: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut options = Options::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        let text = arg.to_str().ok_or("an argument is not utf-8")?;
        let (flag, mut value) = match text.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Some(OsString::from(value))),
            _ => (text, None),
        };
        let mut needed = || {
            let value = value.take().or_else(|| args.next()).filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("{flag} needs a value"))
        };
        match flag {
            "--server" => options.server = Some(text_of(needed()?)?),
            "--role" => options.role = Some(text_of(needed()?)?),
            "--socket" => options.socket = Some(needed()?.into()),
            "--standalone" => options.standalone = true,
            "-h" | "--help" => return Ok(Asked::Text(HELP.to_owned())),
            "-V" | "--version" => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Asked::Text(format!("mcp-gateway-stdio {version}\n")));
            }
            name if !name.starts_with('-') && options.server.is_none() && !name.is_empty() => {
                options.server = Some(name.to_owned());
            }
            _ => return Err(format!("{text:?} is no option")),
        }
        if value.is_some() {
            return Err(format!("{flag} takes no value"));
        }
    }
    if options.role.is_none() {
        options.role = env::var("MCP_GATEWAY_ROLE").ok().filter(|role| !role.is_empty());
    }
    Ok(Asked::Serve(options))
}

fn text_of(value: OsString) -> Result<String, String> {
    value.into_string().map_err(|_| "a name is not utf-8".to_owned())
}

/// The line that opens the connection.
fn preface(options: &Options) -> Vec<u8> {
    let project = env::var_os("CLAUDE_PROJECT_DIR").map(PathBuf::from);
    let here = project.filter(|dir| dir.is_absolute()).or_else(|| env::current_dir().ok());
    let cwd = here.and_then(|dir| dir.into_os_string().into_string().ok());
    let mut line = "MCP-GATEWAY 1 {\"farewell\":true".to_owned();
    for (key, value) in [("server", &options.server), ("role", &options.role), ("cwd", &cwd)] {
        if let Some(value) = value {
            line.push_str(&format!(",\"{key}\":{}", quoted(value)));
        }
    }
    line.push_str("}\n");
    line.into_bytes()
}

/// Becomes `mcp-gateway stdio`: the one beside us, else the one in `PATH`.
fn stand_alone(options: &Options) -> ExitCode {
    let beside = env::current_exe().ok().map(|path| path.with_file_name("mcp-gateway"));
    let program = beside.filter(|path| path.exists()).map(PathBuf::into_os_string);
    let program = program.unwrap_or_else(|| "mcp-gateway".into());
    let mut args = vec![OsStr::new("stdio")];
    if let Some(server) = &options.server {
        args.extend([OsStr::new("--server"), OsStr::new(server)]);
    }
    if options.role.is_some() && env::var("MCP_GATEWAY_ROLE").ok() != options.role {
        eprintln!("mcp-gateway-stdio: with --standalone a role comes from MCP_GATEWAY_ROLE");
        return ExitCode::from(64);
    }
    let error = os::become_program(&program, &args);
    eprintln!("mcp-gateway-stdio: {}: {error}", program.display());
    ExitCode::from(69)
}
