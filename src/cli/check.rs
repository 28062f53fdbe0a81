//! `check`: every problem of the config at once.

use clap::Args;

use super::{ConfigArgs, Exit, complain, own_role, plugins, print_line, read};
use crate::{
    config::{self, Config, Mode},
    policy::Policy,
    spawner::Spawner,
    sys::peer,
};

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the config in force, every default filled in and secrets left out
    #[arg(long)]
    print: bool,
    /// Check it as the machine's service will read it: from /etc/mcp-gateway, and strictly
    #[arg(long)]
    system: bool,
    /// Print problems as a JSON array
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

/// What each server is given on this machine.
fn grants(config: &Config, mode: Mode, out: &mut String) {
    let spawner = Spawner::new(config, mode);
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let hosts = spawner.plugin_hosts(config);
    for server in hosts.iter().chain(&config.servers).filter(|server| server.enabled) {
        let grants = spawner.grants(server);
        line(format!("  {}: {}", server.name, grants.summary(server)));
        for grant in &grants.given {
            let what = if grant.write { "writes" } else { "reads" };
            line(format!("    {what} {} ({})", grant.path.display(), grant.why));
        }
        for (path, why) in grants.refused.iter().chain(&grants.missing) {
            line(format!("    is not given {}, which {why}", path.display()));
        }
        match spawner.package(server) {
            Some((spec, Some(it))) => {
                line(format!("    is {spec}: {} {}", it.version, it.integrity));
            }
            Some((spec, None)) => line(format!("    is {spec}, fetched before its first start")),
            None => {}
        }
        if let Some(why) = &grants.program {
            line(format!("    cannot start: {why}"));
        }
    }
}

/// What is wrong with the plugins' code.
fn code_problems(config: &Config) -> Vec<String> {
    match plugins::look(config) {
        Ok(plugins) => plugins.problems,
        Err(error) => vec![format!("plugins: {error:#}")],
    }
}

pub(super) fn check(args: &CheckArgs) -> Exit {
    let mode = if args.system { Mode::System } else { Mode::Foreground };
    let (config, problems) = match read(&args.config, mode) {
        Ok(loaded) => (Some(loaded.config), loaded.warnings),
        Err(problems) => (None, problems.0),
    };
    let own_code = match &config {
        Some(config) if !args.print => code_problems(config),
        _ => Vec::new(),
    };
    if args.json {
        let mut problems: Vec<serde_json::Value> = problems
            .iter()
            .map(|problem| {
                serde_json::json!({
                    "path": problem.path,
                    "line": problem.line,
                    "column": problem.column,
                    "where": problem.place,
                    "severity": if problem.is_error() { "error" } else { "warning" },
                    "what": problem.what,
                })
            })
            .collect();
        let told = own_code
            .iter()
            .map(|what| serde_json::json!({"where": "plugins", "severity": "error", "what": what}));
        problems.extend(told);
        print_line(&serde_json::to_string_pretty(&problems).unwrap_or_default());
    } else {
        for problem in &problems {
            eprintln!("{problem}");
        }
        for problem in &own_code {
            eprintln!("{problem}");
        }
    }
    let Some(config) = config else { return Exit::Config };
    if let Err(denied) = Policy::new(&config, peer::own_uid(), own_role().as_deref()) {
        return complain(&anyhow::anyhow!("MCP_GATEWAY_ROLE: {denied}"), Exit::NotPermitted);
    }
    if args.print {
        return print_line(config::write_yaml(&config).trim_end());
    }
    if !args.json && own_code.is_empty() {
        let enabled = config.servers.iter().filter(|server| server.enabled).count();
        let file = config.path.as_ref().map(|path| path.display().to_string());
        let file = file.unwrap_or_else(|| "no config file".to_owned());
        let plugins = match config.plugins.len() {
            0 => String::new(),
            n => format!(", {n} plugins loaded"),
        };
        let servers = config.servers.len();
        let mut text = format!("{file}: ok, {enabled} of {servers} servers enabled{plugins}\n");
        grants(&config, mode, &mut text);
        return print_line(text.trim_end());
    }
    if own_code.is_empty() { Exit::Ok } else { Exit::Config }
}
