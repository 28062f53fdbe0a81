//! `fetch`: the packages of `npx` and `uvx` servers, ahead of their start or anew.

use clap::Args;

use super::{ConfigArgs, Exit, chosen, client, complain, load, on_runtime, print_line};
use crate::{config::Mode, spawner::Spawner};

#[derive(Args)]
pub(super) struct FetchArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// This one server only
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

pub(super) fn fetch(args: &FetchArgs) -> Exit {
    let config = match load(&args.config, Mode::Foreground) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    let servers = match chosen(config.servers.iter(), args.server.as_deref()) {
        Ok(servers) => servers,
        Err(error) => return complain(&error, Exit::Usage),
    };
    let spawner = Spawner::new(&config, Mode::Foreground);
    let mut exit = Exit::Ok;
    let work = async {
        for server in servers {
            let spinner = client::spinner();
            let name = &server.name;
            spinner.set_message(format!("{name}: fetching"));
            let mut line = |text: &str| spinner.set_message(format!("{name}: {text}"));
            let fetched = spawner.fetch(server, &mut line).await;
            spinner.finish_and_clear();
            let told = match fetched {
                Ok(Some((spec, it))) => {
                    print_line(&format!("{name}: {spec}: {} {}", it.version, it.integrity))
                }
                // All are gone through; who names one wants to know.
                Ok(None) if args.server.is_some() => {
                    print_line(&format!("{name}: nothing to fetch; it is no package of npx or uvx"))
                }
                Ok(None) => Exit::Ok,
                Err(error) => complain(&anyhow::anyhow!("{name}: {error}"), Exit::Unavailable),
            };
            if told != Exit::Ok {
                exit = told;
            }
        }
        Ok(())
    };
    match on_runtime(work) {
        Ok(()) => exit,
        Err(error) => complain(&error, Exit::Internal),
    }
}
