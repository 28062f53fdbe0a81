//! What holds instances beside their boxes, and looks again whether anything is left of them: cgroups
//! where we have some, and the list of what runs.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::Spawner;
use crate::{
    config::Server,
    launcher::Limits,
    sys::{
        cgroup::{Held, Leaf, Tree},
        leftovers::{self, Ledger},
        spawn::Child,
    },
};

#[derive(Debug, Default)]
pub(super) struct Keeper {
    tree: OnceLock<Result<Tree, String>>,
    ledger: OnceLock<Option<Ledger>>,
    orphans: AtomicU64,
}

impl Spawner {
    /// Ends what a life before this one has left, if anything. To be called once, before the first
    /// start, by whoever will start servers and go on.
    pub fn begin(&self) {
        if let Some(state) = &self.folders.state {
            let folder = state.join("running");
            self.found(leftovers::sweep(&folder));
            let ledger = Ledger::open(&folder)
                .inspect_err(|error| tracing::debug!("no list of what runs: {error}"));
            let _ = self.keeper.ledger.set(ledger.ok());
        }
        let tree = Tree::find();
        match &tree {
            Ok(tree) => self.found(tree.leftovers),
            Err(why) => tracing::debug!("no cgroups, so limits.memory is best effort: {why}"),
        }
        let _ = self.keeper.tree.set(tree);
    }

    fn found(&self, count: u64) {
        if count > 0 {
            tracing::error!("{count} instances outlived the gateway that had started them");
            self.keeper.orphans.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Instances of which something was left that should not have been.
    pub fn orphans_found(&self) -> u64 {
        self.keeper.orphans.load(Ordering::Relaxed)
    }

    /// Why no cgroup holds instances to their limits, if none does.
    pub fn best_effort(&self) -> Option<&str> {
        match self.keeper.tree.get() {
            Some(Ok(_)) => None,
            Some(Err(why)) => Some(why),
            None => Some("it is looked for by a gateway that serves"),
        }
    }

    pub(super) fn leaf(&self, server: &Server, limits: &Limits) -> Option<Leaf> {
        let Some(Ok(tree)) = self.keeper.tree.get() else { return None };
        let held = Held { memory: limits.memory, processes: limits.processes };
        let leaf = tree.leaf(&server.name, held);
        leaf.inspect_err(|error| tracing::warn!(server = server.name, "no cgroup: {error}")).ok()
    }

    pub(super) fn keep(&self, child: &mut Child, leaf: Option<Leaf>) {
        if let Some(Some(ledger)) = self.keeper.ledger.get() {
            ledger.note(child.pid());
        }
        child.hold(leaf);
    }

    /// How a child ended, with what its cgroup has to say of it.
    pub fn ended(&self, server: &Server, child: &Child, how: String) -> String {
        let ended = child.left();
        self.found(u64::from(ended.populated));
        if ended.out_of_memory {
            let most = super::limits(server).memory >> 20;
            return format!("{how}, killed for its memory: limits.memory allows {most} MiB");
        }
        how
    }
}
