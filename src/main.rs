//! The `mcp-gateway` command.

fn main() -> std::process::ExitCode {
    mcp_gateway::cli::main()
}
