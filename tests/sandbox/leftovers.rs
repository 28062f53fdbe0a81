//! What a life of the gateway that ended badly has left is found by the next, and nothing else.

use std::{
    fs,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use mcp_gateway::sys::leftovers::{Ledger, sweep};

use crate::harness::eventually;

struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & wait"]).process_group(0);
        Sleeper(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// When it began, as the kernel counts.
    fn began(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
    }

    fn child(&self) -> i32 {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        eventually("its child", || fs::read_to_string(&path).ok()?.trim().parse().ok())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_life_that_has_ended_left_is_ended_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let lists = || -> Vec<_> {
        let boots = fs::read_dir(folder.path()).unwrap().flatten();
        let boots: Vec<_> = boots.map(|boot| boot.path()).collect();
        assert_eq!(boots.len(), 1, "{boots:?}");
        fs::read_dir(&boots[0]).unwrap().flatten().map(|entry| entry.path()).collect()
    };
    let (mut left, mut ours, mut other) = (Sleeper::new(), Sleeper::new(), Sleeper::new());
    let ledger = Ledger::open(folder.path()).unwrap();
    ledger.note(ours.pid());
    // A life that has ended, with one that is left, and one whose pid somebody else has by now.
    let text = format!(
        "{}.{}\n{}.{}\nnonsense\n",
        left.pid(),
        left.began(),
        other.pid(),
        other.began() + 1
    );
    fs::write(lists()[0].with_file_name("1.1"), text).unwrap();
    fs::create_dir(folder.path().join("a-boot-before")).unwrap();
    let below = left.child();
    assert_eq!(sweep(folder.path()), 1);
    assert_eq!(left.0.wait().unwrap().signal(), Some(9));
    eventually("what was below it", || {
        let stat = fs::read_to_string(format!("/proc/{below}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z")).then_some(())
    });
    for still in [&mut ours, &mut other] {
        assert!(still.0.try_wait().unwrap().is_none());
    }
    assert_eq!(lists().len(), 1, "our own list");
    assert_eq!(sweep(folder.path()), 0);
    drop(ledger);
    assert_eq!(lists().len(), 0, "a life that ends well leaves none");
}
