//! A real browser, behind a real MCP server: Debian's Chromium by @playwright/mcp.
//!
//! Needs what tests/setup installs, and chromium-headless-shell; where that is missing, says so.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::chown,
    path::Path,
};

use crate::{
    boxes::installed,
    harness::{World, skipped},
};

const CHROMIUM: &str = "/usr/bin/chromium-headless-shell";
const PAGE: &str = "<html><head><title>A page of its own</title></head><body>x</body></html>";

/// A page on a port of this machine.
fn page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    PAGE.len()
                );
                let _ = (&stream).write_all((head + PAGE).as_bytes());
            });
        }
    });
    format!("http://{address}/")
}

/// Opens the page with a browser in this box; what the tool says.
fn opened(sandbox: &str, chromium: &str, before: &[&str]) -> String {
    let root = format!("{}/npm/node_modules/@playwright/mcp", installed());
    assert!(Path::new(&root).exists(), "no {root}: run `make setup`");
    let world = World::with(&format!(
        "  web: {{command: node, args: [{root}/cli.js, --headless, --isolated, {chromium}, --executable-path, {CHROMIUM}], sandbox: {{{sandbox}, network: host}}}}\n"
    ));
    // For whoever the gateway is to run as.
    let uid = if before.len() > 1 { 61001 } else { 0 };
    for path in [world.folder(), &world.path("traces")] {
        chown(path, Some(uid), Some(uid)).unwrap();
    }
    let arguments = serde_json::json!({"url": page()}).to_string();
    let output = world.run_behind(before, &["call", "web_browser_navigate", &arguments]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    world.assert_empty();
    format!("{told}{}", String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_browser_runs_in_its_box() {
    if !Path::new(CHROMIUM).exists() || !nix::unistd::geteuid().is_root() {
        skipped(&format!("{CHROMIUM} is needed, and root to become a plain user"));
        return;
    }
    // With the browser's own sandbox inside, which it refuses to make for root.
    let user = ["setpriv", "--reuid=61001", "--regid=61001", "--clear-groups", "--"];
    let told = opened("profile: browser", "--sandbox", &user);
    assert!(told.contains("Page Title: A page of its own"), "{told}");
    // That is what the profile is for.
    let told = opened("profile: strict", "--sandbox", &user);
    assert!(!told.contains("Page Title: A page of its own"), "{told}");
    // Without it a browser needs nothing but memory and processes.
    let strict = "profile: strict";
    let told = opened(strict, "--no-sandbox", &["env"]);
    assert!(told.contains("Page Title: A page of its own"), "{told}");
}
