//! The `mcp-gateway-exec` command: puts a sandbox around a backend and becomes it. As `--probe` it
//! is the backend, and tries to get out.

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    #[cfg(target_os = "linux")]
    if args.next().as_deref() == Some("--probe") {
        return mcp_gateway::probe::main(args);
    }
    mcp_gateway::launcher::main()
}
