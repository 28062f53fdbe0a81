//! The `mcp-gateway-exec` command: puts a sandbox around a backend and becomes it. As `--probe` it
//! is the backend, and tries to get out.

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args().nth(1).as_deref() == Some("--probe") {
        return mcp_gateway::probe::main(std::env::args().skip(2));
    }
    mcp_gateway::launcher::main()
}
