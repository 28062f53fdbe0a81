"""``python -m mcp_gateway.new NAME``: writes a small plugin and its test, which passes.

Writes two files and nothing else, and overwrites none.
"""

from __future__ import annotations

import argparse
import keyword
import sys
from collections.abc import Sequence
from pathlib import Path

PLUGIN = '''"""Tools of {name}.

Every function with @tool is a tool. Its type hints say what it takes, its docstring what it is for.
"""

from __future__ import annotations

from mcp_gateway import Context, tool


@tool
def {name}_count(text: str, word: str, ignore_case: bool = True) -> int:
    """Count how often a word is in a text.

    Args:
        text: where to look
        word: what to look for
        ignore_case: whether A and a are the same
    """
    if ignore_case:
        text, word = text.lower(), word.lower()
    return text.split().count(word)


@tool(read_only=True)
async def {name}_greet(name: str, ctx: Context) -> str:
    """Greet somebody, by the name that they like to be called.

    Args:
        name: who
    """
    if ctx.can("elicitation"):
        answer = await ctx.elicit(f"What shall I call {{name}}?", str)
        name = answer.data if answer.accepted else name
    return f"Hello, {{name}}!"
'''

TEST = '''"""Tests of {name}. Run them with `python -m unittest` or with pytest."""

import unittest

from mcp_gateway.testing import Refused, call, definition

from {name} import {name}_count, {name}_greet


class {title}(unittest.TestCase):
    def test_count(self) -> None:
        self.assertEqual(call({name}_count, text="a b A", word="a"), 2)
        self.assertEqual(call({name}_count, text="a b A", word="a", ignore_case=False), 1)

    def test_wrong_arguments_are_refused(self) -> None:
        with self.assertRaisesRegex(Refused, "text: expected a string"):
            call({name}_count, text=1, word="a")

    def test_greet_says_what_it_takes(self) -> None:
        self.assertEqual(list(definition({name}_greet)["inputSchema"]["properties"]), ["name"])


if __name__ == "__main__":
    unittest.main()
'''


def create(name: str, folder: Path) -> list[Path]:
    """Writes the plugin NAME and its test into ``folder``. Raises ValueError or FileExistsError."""
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or len(name) > 40:
        raise ValueError(
            f'"{name}" cannot be a module: write up to 40 of a-z 0-9 _, beginning with a letter'
        )
    if name in sys.stdlib_module_names or name == "mcp_gateway":
        raise ValueError(f'"{name}" is the name of a module of Python\'s; take another')
    title = "".join(part.capitalize() for part in name.split("_"))
    files = {folder / f"{name}.py": PLUGIN, folder / f"test_{name}.py": TEST}
    for path in files:
        if path.exists():
            raise FileExistsError(f"{path} exists already")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text.format(name=name, title=title))
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
        "load it:  in gateway.yaml, under `servers:`\n"
        f"  {options.name}: {{command: {sys.executable}, "
        f"args: [-m, mcp_gateway.host, --file, {plugin.absolute()}]}}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
