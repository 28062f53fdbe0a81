//! `serve` and `stdio`.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;

use super::{ConfigArgs, Exit, complain, load, on_runtime, own_role, read};
use crate::{
    config::Mode,
    daemon::{Daemon, Listen, StdioOptions},
    frontend::activation,
};

#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: String,
    /// The port to listen on; 0 takes a free one and logs it
    #[arg(long, default_value_t = 8765)]
    port: u16,
    /// Listen on this Unix socket too (mode 0600)
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on the Unix socket only
    #[arg(long, requires = "socket")]
    no_tcp: bool,
    /// Serve anyone who reaches a --host that is not loopback, with your rights
    #[arg(long)]
    insecure_no_auth: bool,
    /// Be the machine's service: the config is that of /etc/mcp-gateway, only whom its `access:`
    /// names is served, and what is a warning otherwise is an error
    #[arg(long)]
    system: bool,
}

#[derive(Args)]
pub(super) struct StdioArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Be this one server, under its own names, instead of all of them
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

pub(super) fn serve(args: ServeArgs) -> Exit {
    let handed = match activation::take() {
        Ok(handed) => handed,
        Err(error) => return complain(&error.into(), Exit::Config),
    };
    let (tcp, open) = match tcp(&args) {
        // They are held by the init system, so that ours would be another door.
        _ if !handed.is_empty() => (None, false),
        Ok(tcp) => tcp,
        Err((error, exit)) => return complain(&error, exit),
    };
    let mode = if args.system { Mode::System } else { Mode::Foreground };
    let loaded = match load(&args.config, mode) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if !handed.is_empty() && args.socket.is_some() {
        tracing::warn!("--socket is ignored: the init system holds the sockets");
    }
    let listen = Listen { handed, tcp, socket: args.socket.clone(), anyone: open };
    finish(on_runtime(async {
        let again = Box::new(move || read(&args.config, mode));
        Daemon::new(loaded.config, own_role().as_deref(), mode)?.serve(listen, again).await
    }))
}

type Tcp = Option<(IpAddr, u16)>;

/// The address to bind, and whether it is open to others.
fn tcp(args: &ServeArgs) -> Result<(Tcp, bool), (anyhow::Error, Exit)> {
    if args.no_tcp {
        return Ok((None, false));
    }
    let address = address(&args.host)
        .map_err(|why| (anyhow::anyhow!("--host {}: {why}", args.host), Exit::Usage))?;
    let open = !address.is_loopback();
    if open && !args.insecure_no_auth {
        let error = anyhow::anyhow!(
            "--host {}: everyone who reaches this address could use your servers; use 127.0.0.1, or --socket, or say --insecure-no-auth",
            args.host
        );
        return Err((error, Exit::NotPermitted));
    }
    Ok((Some((address, args.port)), open))
}

pub(super) fn stdio(args: StdioArgs) -> Exit {
    let loaded = match load(&args.config, Mode::Foreground) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let options =
        StdioOptions { server: args.server, role: None, cwd: std::env::current_dir().ok() };
    finish(on_runtime(async {
        Daemon::new(loaded.config, own_role().as_deref(), Mode::Foreground)?.stdio(options).await
    }))
}

fn finish(result: anyhow::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Ok,
        Err(error) => complain(&error, Exit::Unavailable),
    }
}

fn address(host: &str) -> Result<IpAddr, String> {
    match host {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        _ => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map_err(|_| "not an ip address".to_owned()),
    }
}
