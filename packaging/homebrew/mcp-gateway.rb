# Builds from source; `brew services start mcp-gateway` runs the user's gateway by the launchd plist
# that is installed here, because the service block knows no Unix sockets.
class McpGateway < Formula
  desc "One MCP daemon for the whole machine"
  homepage "https://github.com/mcp-gateway/mcp-gateway"
  url "https://github.com/mcp-gateway/mcp-gateway/archive/refs/tags/v0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "MIT"
  head "https://github.com/mcp-gateway/mcp-gateway.git", branch: "main"

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args
    man1.install Dir["man/*.1"]
    man5.install Dir["man/*.5"]
    man8.install Dir["man/*.8"]
    pkgshare.install "packaging/gateway.schema.json", "examples/gateway.yaml"
    generate_completions_from_executable(bin/"mcp-gateway", "completions")
    plist = (buildpath/"launchd/io.github.mcp-gateway.agent.plist").read
    plist.gsub!("/usr/local/bin/", "#{opt_bin}/")
    plist.gsub!("io.github.mcp-gateway.agent", "homebrew.mxcl.mcp-gateway")
    (prefix/"homebrew.mxcl.mcp-gateway.plist").write plist
  end

  service do
    name macos: "homebrew.mxcl.mcp-gateway"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/mcp-gateway --version")
    request = <<~JSON
      {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"brew","version":"1"}}}
    JSON
    assert_match "serverInfo", pipe_output("#{bin}/mcp-gateway stdio", request, 0)
  end
end
