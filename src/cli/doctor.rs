//! `doctor`: what is enforced around each server, seen from inside.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    path::PathBuf,
    thread,
};

#[cfg(target_os = "linux")]
use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};

use clap::Args;
use serde_json::{Value, json};

use super::{ConfigArgs, Exit, chosen, complain, load, on_runtime, print_line};
use crate::{
    config::{Config, Folders, Mode, Profile, Server},
    spawner::{Examined, Outcome, Reached, Spawner, StartError},
};

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Try every attack, those on things outside of the box too, and print each
    #[arg(long)]
    attack: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// This one server only
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

type Look = Result<Option<Examined>, StartError>;

pub(super) fn doctor(args: &DoctorArgs) -> Exit {
    let config = match load(&args.config, Mode::Foreground) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    let hosts = Spawner::new(&config, Mode::Foreground).plugin_hosts(&config);
    let all = hosts.iter().chain(&config.servers);
    let servers = match chosen(all, args.server.as_deref()) {
        Ok(servers) => servers,
        Err(error) => return complain(&error, Exit::Usage),
    };
    let looks = match look(&config, &servers, args.attack) {
        Ok(looks) => looks,
        Err(error) => return complain(&error, Exit::Internal),
    };
    let all: Vec<(&Server, Look)> = servers.into_iter().zip(looks).collect();
    let text = if args.json { as_json(&all) } else { as_text(&all, args.attack) };
    let printed = print_line(text.trim_end());
    if all.iter().any(|(_, look)| matches!(look, Ok(Some(seen)) if seen.faults().next().is_some()))
    {
        Exit::Failed
    } else if all.iter().any(|(_, look)| look.is_err()) {
        Exit::Unavailable
    } else {
        printed
    }
}

fn look(config: &Config, servers: &[&Server], attack: bool) -> anyhow::Result<Vec<Look>> {
    let spawner = Spawner::new(config, Mode::Foreground);
    let outside = if attack { Some(Outside::new()?) } else { None };
    on_runtime(async {
        let mut looks = Vec::new();
        for server in servers {
            let targets = match &outside {
                Some(outside) => outside.targets(&spawner, server)?,
                None => Vec::new(),
            };
            looks.push(spawner.examine(server, &targets).await);
            if let Some(folder) = spawner.home_of(server) {
                let _ = fs::remove_dir_all(folder.join(ALLOWED));
            }
        }
        Ok(looks)
    })
}

/// A folder in a server's home in which the probe may do as it likes.
const ALLOWED: &str = ".probe";

/// What our abstract socket is called.
fn abstract_name() -> String {
    format!("mcp-gateway-doctor-{}", std::process::id())
}

/// Things outside that an attacker would like to reach, all of them our own.
struct Outside {
    folder: PathBuf,
    tcp: TcpListener,
    udp: UdpSocket,
    _socket: UnixListener,
    #[cfg(target_os = "linux")]
    _abstract: UnixListener,
}

impl Outside {
    fn new() -> anyhow::Result<Self> {
        let folders = Folders::find(&|name| std::env::var(name).ok());
        let cache = folders.cache.unwrap_or_else(std::env::temp_dir);
        let folder = cache.join(format!("doctor-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("secret"), "secret\n")?;
        let socket = UnixListener::bind(folder.join("socket"))?;
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        let echo = udp.try_clone()?;
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((len, from)) = echo.recv_from(&mut buffer) {
                let _ = echo.send_to(&buffer[..len], from);
            }
        });
        Ok(Outside {
            tcp,
            udp,
            _socket: socket,
            #[cfg(target_os = "linux")]
            _abstract: UnixListener::bind_addr(&SocketAddr::from_abstract_name(abstract_name())?)?,
            folder,
        })
    }

    fn targets(&self, spawner: &Spawner, server: &Server) -> anyhow::Result<Vec<String>> {
        let mut targets = vec![
            format!("secret={}", self.folder.join("secret").display()),
            format!("shared={}", self.folder.display()),
            format!("socket={}", self.folder.join("socket").display()),
            format!("victim={}", std::process::id()),
            format!("tcp={}", self.tcp.local_addr()?.port()),
            format!("udp={}", self.udp.local_addr()?.port()),
            // Root's, on every system.
            "other=/etc/shadow".to_owned(),
            format!("abstract={}", abstract_name()),
        ];
        if let Some(home) = spawner.home_of(server) {
            let allowed = home.join(ALLOWED);
            fs::create_dir_all(&allowed)?;
            targets.push(format!("allowed={}", allowed.display()));
        }
        Ok(targets)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn as_text(all: &[(&Server, Look)], attack: bool) -> String {
    let mut out = String::new();
    for (server, look) in all {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}: {}", server.name, server.sandbox.profile.word());
        match look {
            Err(error) => {
                let _ = writeln!(out, "  does not start: {error}");
            }
            Ok(None) => {
                let _ = writeln!(out, "  no sandbox: it may do whatever you may");
            }
            Ok(Some(seen)) => examined(&mut out, server, seen),
        }
    }
    if attack {
        matrix(&mut out, all);
    }
    out
}

fn examined(out: &mut String, server: &Server, seen: &Examined) {
    for layer in &seen.layers {
        let state = if layer.on { "on " } else { "OFF" };
        let _ = writeln!(out, "  {:<11} {state} {}", layer.name, layer.evidence);
    }
    for layer in &server.sandbox.require {
        if !seen.layers.iter().any(|told| told.name == layer.word()) {
            let _ = writeln!(out, "  {:<11} OFF and nothing said so: a bug", layer.word());
        }
    }
    let (known, faults) = (seen.known().count(), seen.faults().count());
    let denied = seen.attacks.len() - known - faults;
    let _ = writeln!(out, "  {:<11} {denied} of {} attacks denied", "probe", seen.attacks.len());
    for (name, why) in seen.known() {
        let _ = writeln!(out, "              known to get through: {name} ({why})");
    }
    for name in seen.faults() {
        let _ = writeln!(out, "              GOT THROUGH: {name}");
    }
}

/// Every attack in a line, every server in a column.
fn matrix(out: &mut String, all: &[(&Server, Look)]) {
    const WIDEST: usize = 18;
    let seen = all.iter().filter_map(|(server, look)| match look {
        Ok(Some(seen)) => Some((server.name.as_str(), seen)),
        _ => None,
    });
    let columns: Vec<(&str, &Examined)> = seen.collect();
    let short = |text: &str| text.chars().take(WIDEST).collect::<String>();
    let mut line = |first: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = cells.map(|cell| format!("  {:<WIDEST$}", short(cell))).collect();
        let _ = writeln!(out, "{first:<50}{}", cells.trim_end());
    };
    line("\nattack", &mut columns.iter().map(|(name, _)| *name));
    let rows: BTreeSet<&str> =
        columns.iter().flat_map(|(_, seen)| &seen.attacks).map(|(name, _)| name.as_str()).collect();
    for row in rows {
        let cells = columns.iter().map(|(_, seen)| {
            match seen.attacks.iter().find(|(name, _)| name == row).map(|(_, came)| came) {
                Some(Outcome::Denied(stopped)) => stopped.as_str(),
                Some(Outcome::Reached(Reached::Known(_))) => "reached, as known",
                Some(Outcome::Reached(Reached::Fault)) => "REACHED",
                None => "-",
            }
        });
        line(row, &mut cells.into_iter());
    }
}

fn as_json(all: &[(&Server, Look)]) -> String {
    let servers: Vec<Value> = all
        .iter()
        .map(|(server, look)| {
            let mut value = json!({
                "server": server.name,
                "profile": server.sandbox.profile.word(),
                "contained": server.sandbox.profile != Profile::Off && look.is_ok(),
            });
            match look {
                Err(error) => value["error"] = error.to_string().into(),
                Ok(None) => {}
                Ok(Some(seen)) => {
                    let layers = seen.layers.iter().map(|layer| {
                        json!({"name": layer.name, "on": layer.on, "evidence": layer.evidence})
                    });
                    value["layers"] = layers.collect();
                    let attacks = seen.attacks.iter().map(|(name, came)| match came {
                        Outcome::Denied(by) => {
                            json!({"attack": name, "outcome": "denied", "by": by})
                        }
                        Outcome::Reached(Reached::Known(why)) => {
                            json!({"attack": name, "outcome": "known", "why": why})
                        }
                        Outcome::Reached(Reached::Fault) => {
                            json!({"attack": name, "outcome": "reached"})
                        }
                    });
                    value["attacks"] = attacks.collect();
                }
            }
            value
        })
        .collect();
    serde_json::to_string_pretty(&servers).unwrap_or_default()
}
