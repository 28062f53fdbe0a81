//! Looks into a server's box from inside: the same launcher, the same policy, and the probe in the
//! place of the program. So what is told is what is enforced, and not what was meant.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::{Spawner, StartError};
use crate::{
    config::{Profile, Server},
    launcher::{Layer as Told, Network, Policy},
};

/// The probe waits half a second at most, for one datagram.
const PROBE: Duration = Duration::from_secs(30);

/// The most that the probe has to say.
const SAID: u64 = 64 << 10;

/// What came of one look.
#[derive(Debug)]
pub struct Examined {
    pub layers: Vec<Told>,
    /// Every attack by its name, and the word for what stopped it, or what let it through.
    pub attacks: Vec<(String, Outcome)>,
}

/// What came of one attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Denied(String),
    Reached(Reached),
}

/// An attack that got through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// As is known of such a box, and why.
    Known(&'static str),
    /// As it must not.
    Fault,
}

impl Examined {
    pub fn faults(&self) -> impl Iterator<Item = &str> {
        let fault = Outcome::Reached(Reached::Fault);
        self.attacks.iter().filter(move |(_, came)| *came == fault).map(|(name, _)| name.as_str())
    }

    pub fn known(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.attacks.iter().filter_map(|(name, came)| match came {
            Outcome::Reached(Reached::Known(why)) => Some((name.as_str(), *why)),
            _ => None,
        })
    }
}

impl Spawner {
    /// Runs the probe in the box of `server`; `targets` is what it is told of the outside.
    /// `None`: it has no box.
    pub async fn examine(
        &self,
        server: &Server,
        targets: &[String],
    ) -> Result<Option<Examined>, StartError> {
        if server.sandbox.profile == Profile::Off {
            return Ok(None);
        }
        let mut policy = self.policy(server)?;
        let launcher =
            self.launcher.as_ref().map_err(|file| StartError::NoLauncher(file.clone()))?;
        policy.program = launcher.path().to_owned();
        policy.read.push(policy.program.clone());
        policy.args = vec![policy.program.clone().into(), "--probe".into()];
        policy.args.extend(targets.iter().map(Into::into));
        let (started, policy) = self.launch(server, policy).await?;
        drop(started.pipes.stdin);
        let mut said = String::new();
        let reading = started.pipes.stdout.take(SAID);
        let mut reading = std::pin::pin!(reading);
        let read = tokio::time::timeout(PROBE, reading.read_to_string(&mut said));
        let read =
            read.await.map_err(|_| std::io::ErrorKind::TimedOut.into()).and_then(|read| read);
        read.map_err(StartError::Launcher)?;
        let attacks = said.lines().filter_map(|line| {
            let (name, came) = line.split_once('\t')?;
            let came = match (came, known(&policy, name)) {
                ("REACHED", Some(why)) => Outcome::Reached(Reached::Known(why)),
                ("REACHED", None) => Outcome::Reached(Reached::Fault),
                (stopped, _) => Outcome::Denied(stopped.to_owned()),
            };
            Some((name.to_owned(), came))
        });
        Ok(Some(Examined { layers: started.layers, attacks: attacks.collect() }))
    }
}

/// Why an attack is known to get through in such a box, if it is.
fn known(policy: &Policy, attack: &str) -> Option<&'static str> {
    let (contained, shape) = (policy.layers.namespaces, policy.shape);
    let ports = matches!(policy.network, Network::Ports { .. });
    let host = policy.network == Network::Host;
    match attack {
        "its own death signal" | "its own oom_score_adj, upwards" => Some("touches only itself"),
        "listen without bind" | "bind to a port" if contained && !ports && !host => {
            Some("in a network where nobody else is")
        }
        "listen without bind" if ports => Some("Landlock does not know it"),
        "UDP to a local service" if matches!(policy.network, Network::Ports { udp: true, .. }) => {
            Some("names need UDP")
        }
        "TCP to a local service"
        | "TCP by Fast Open"
        | "TCP by Fast Open, in sendmsg"
        | "TCP by MPTCP"
        | "UDP to a local service"
        | "listen without bind"
        | "bind to a port"
            if host =>
        {
            Some("it has the whole network")
        }
        "unshare of a user namespace" | "clone with a user namespace" if shape.nested => {
            Some("a browser's own sandbox needs it")
        }
        "ptrace TRACEME" if shape.trace => Some("a debugger needs it"),
        "pidfd_open"
        | "see another process of this user"
        | "a Unix socket outside"
        | "shared memory outside"
            if !contained =>
        {
            Some("it has no namespaces")
        }
        _ if !policy.layers.seccomp || !policy.layers.landlock || !policy.layers.scopes => {
            Some("a layer is missing")
        }
        _ => None,
    }
}
