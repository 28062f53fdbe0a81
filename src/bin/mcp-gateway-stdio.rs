//! The `mcp-gateway-stdio` command: a client's stdin and stdout, carried to the gateway that runs
//! for the whole machine, or for its user.

fn main() -> std::process::ExitCode {
    mcp_gateway::bridge::main()
}
