#!/usr/bin/env python3
"""The real backends of the tests: how each is started, and the files it works on.

    backends.py reset DIR           put the files under DIR back to how every run finds them
    backends.py endpoint NAME DIR   the backend itself, as an endpoint for a driver
    backends.py config DIR          a gateway.yaml with all of them (JSON, which is YAML)
    backends.py names               the names

The files are made in place and with fixed dates and contents, so a backend that is running stays
happy and two runs see the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FIXED_TIME = 1_767_268_800  # 2026-01-01T12:00:00Z
FIXED_DATE = f"{FIXED_TIME} +0000"  # a form that git and GitPython both read


def cache_dir() -> Path:
    """The cache directory of tests/setup/setup.sh, by the same rule."""
    if given := os.environ.get("MCP_GATEWAY_TEST_CACHE"):
        return Path(given)
    shared = Path("/var/cache/mcp-gateway-tests")
    if (shared / "python").exists() or os.access(shared, os.W_OK) or os.access("/var/cache", os.W_OK):
        return shared
    return Path.home() / ".cache/mcp-gateway-tests"


def servers(work: Path) -> dict[str, dict]:
    """Each backend as a gateway's config has it. Never through npx or uvx: half the memory, no wait."""
    node = shutil.which("node") or sys.exit("backends: node is not installed")
    npm = cache_dir() / "npm/node_modules/@modelcontextprotocol"
    bin_ = cache_dir() / "python/bin"

    def javascript(name: str, *args: str) -> dict:
        return {"command": node, "args": [str(npm / name / "dist/index.js"), *args]}

    git_env = {
        "GIT_AUTHOR_DATE": FIXED_DATE,
        "GIT_COMMITTER_DATE": FIXED_DATE,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }
    return {
        "everything": javascript("server-everything", "stdio"),
        "filesystem": javascript("server-filesystem", str(work / "files")),
        "memory": javascript("server-memory")
        | {"env": {"MEMORY_FILE_PATH": str(work / "memory.jsonl")}, "sandbox": {"write": [str(work)]}},
        "sequential-thinking": javascript("server-sequential-thinking"),
        "time": {"command": str(bin_ / "mcp-server-time"), "args": ["--local-timezone", "UTC"]},
        "git": {
            "command": str(bin_ / "mcp-server-git"),
            "args": ["--repository", str(work / "repo")],
            "env": git_env,
        },
    }


def endpoint(name: str, work: Path) -> dict:
    server = servers(work)[name]
    return {"stdio": [server["command"], *server["args"]], "env": server.get("env", {})}


def config(work: Path) -> dict:
    """`share: session` because the everything server is told of each client's own abilities."""
    return {"servers": {name: server | {"share": "session"} for name, server in servers(work).items()}}


def reset(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    (work / "memory.jsonl").unlink(missing_ok=True)
    files = empty(work / "files")
    (files / "hello.txt").write_text("hello\nworld\n")
    (files / "sub").mkdir()
    (files / "sub/data.json").write_text('{"one": 1, "text": "grüße ☃"}\n')
    (files / "pixel.png").write_bytes(bytes.fromhex(PIXEL))
    for path in sorted(files.rglob("*"), reverse=True):
        os.utime(path, (FIXED_TIME, FIXED_TIME))
    repo = empty(work / "repo")
    git(repo, "init", "--quiet", "--initial-branch=main")
    git(repo, "config", "user.name", "Ada")
    git(repo, "config", "user.email", "ada@example.com")
    (repo / "README.md").write_text("# A repository\n")
    git(repo, "add", "README.md")
    git(repo, "commit", "--quiet", "--message=First commit")
    (repo / "notes.txt").write_text("one\ntwo\n")
    git(repo, "add", "notes.txt")
    git(repo, "commit", "--quiet", "--message=Add notes")
    (repo / "notes.txt").write_text("one\ntwo\nthree\n")


PIXEL = (
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


def empty(directory: Path) -> Path:
    """The directory itself stays: a backend may hold it open."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return directory


def git(repo: Path, *args: str) -> None:
    clean = {"PATH": os.environ["PATH"], "HOME": str(repo)}
    environment = clean | servers(repo.parent)["git"]["env"]
    subprocess.run(["git", "-C", str(repo), *args], env=environment, check=True)


def main(words: list[str]) -> int:
    match words:
        case ["reset", work]:
            reset(Path(work).resolve())
        case ["endpoint", name, work]:
            print(json.dumps(endpoint(name, Path(work).resolve())))
        case ["config", work]:
            print(json.dumps(config(Path(work).resolve()), indent=2))
        case ["names"]:
            print("\n".join(servers(Path("/"))))
        case _:
            print(__doc__, file=sys.stderr)
            return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
