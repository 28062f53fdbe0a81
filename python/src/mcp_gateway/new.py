"""``python -m mcp_gateway.new NAME``: writes a small plugin and its test, which passes.

Writes two files and nothing else, and overwrites none.
"""

from __future__ import annotations

import argparse
import keyword
import sys
from collections.abc import Sequence
from pathlib import Path

# The gateway itself writes the same files, from these.
PLUGIN = "new_plugin.txt"
TEST = "new_checks.txt"


def create(name: str, folder: Path) -> list[Path]:
    """Writes the plugin NAME and its test into ``folder``. Raises ValueError or FileExistsError."""
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or len(name) > 40:
        raise ValueError(
            f'"{name}" cannot be a module: write up to 40 of a-z 0-9 _, beginning with a letter'
        )
    if name in sys.stdlib_module_names or name == "mcp_gateway":
        raise ValueError(f'"{name}" is the name of a module of Python\'s; take another')
    title = "".join(part.capitalize() for part in name.split("_"))
    templates = {f"{name}.py": PLUGIN, f"test_{name}.py": TEST}
    own = Path(__file__)
    files = {folder / file: own.with_name(template) for file, template in templates.items()}
    for path in files:
        if path.exists():
            raise FileExistsError(f"{path} exists already")
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in files.items():
        text = template.read_text(encoding="utf-8")
        with path.open("x", encoding="utf-8") as file:
            file.write(text.replace("@NAME@", name).replace("@TITLE@", title))
    return list(files)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mcp_gateway.new", description="Write a small plugin and its test."
    )
    parser.add_argument("name", metavar="NAME", help="what the module is called")
    parser.add_argument("--dir", type=Path, default=Path(), metavar="FOLDER",
                        help="where to write them (default: here)")
    options = parser.parse_args(argv)
    try:
        plugin, test = create(options.name, options.dir)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"mcp-gateway: {error}\n")
        return 64 if isinstance(error, ValueError) else 73
    sys.stdout.write(
        f"wrote {plugin} and {test}\n"
        f"test it:  cd {plugin.absolute().parent} && python -m unittest {test.stem}\n"
        "load it:  in gateway.yaml, under `plugins:`\n"
        f"  - {{file: {plugin.absolute()}, python: {sys.executable}}}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
