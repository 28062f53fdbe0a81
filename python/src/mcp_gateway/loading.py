"""From modules, files and folders to tools. What fails is told as data, with file and line.

Runs the plugins' own code by importing it, in the process that calls this.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from . import marks
from .function import Function
from .schema import Unsupported
from .toolset import Problem, ToolSet


@dataclass(frozen=True)
class Source:
    """``kind`` is module, file or dir; ``value`` is its name or path."""

    kind: str
    value: str


class Loader:
    """Loads sources into a tool set, and keeps the files that they came from."""

    def __init__(self, tools: ToolSet, search: list[str] | None = None) -> None:
        self.tools = tools
        self._before = set(sys.modules)
        self._files: dict[str, None] = {}
        for folder in reversed(search or []):
            _search_in(Path(folder))

    def load(self, sources: list[Source]) -> None:
        for source in sources:
            for name, module in self._modules(source):
                self._take(name, module)

    @property
    def files(self) -> list[str]:
        """The source files whose change would change the tools: the plugins', and what they
        imported that is neither Python's own nor installed."""
        files = dict(self._files)
        for name in set(sys.modules) - self._before:
            path = getattr(sys.modules[name], "__file__", None)
            if path and _is_own(path):
                files[path] = None
        return sorted(files)

    def _modules(self, source: Source) -> Iterator[tuple[str, ModuleType]]:
        if source.kind == "module":
            found = self._import(source.value, lambda: importlib.import_module(source.value))
            if found:
                yield source.value, found
            return
        path = Path(source.value).absolute()
        paths = [path]
        if source.kind == "dir":
            if not path.is_dir():
                self._problem(source.value, str(path), 0, "there is no such folder")
                return
            paths = [p for p in sorted(path.glob("*.py")) if _is_plugin(p.name)]
        elif not path.is_file():
            self._problem(source.value, str(path), 0, "there is no such file")
            return
        for file in paths:
            self._files[str(file)] = None
            found = self._import(file.stem, functools.partial(_from_file, file))
            if found:
                yield file.stem, found

    def _import(self, name: str, action: Any) -> ModuleType | None:
        try:
            return action()  # type: ignore[no-any-return]
        except BaseException as error:  # SystemExit, and whatever a module raises
            if isinstance(error, KeyboardInterrupt):
                raise
            file, line = _where(error)
            if file and _is_own(file):
                self._files[file] = None
            self._problem(name, file, line, _told(name, error))
            return None

    def _problem(
        self, plugin: str, file: str, line: int, message: str, function: str = ""
    ) -> None:
        self.tools.problems.append(Problem(plugin, function, file, line, message))

    def _take(self, plugin: str, module: ModuleType) -> None:
        if path := getattr(module, "__file__", None):
            self._files[path] = None
        seen: set[int] = set()
        # A copy: a module may load others into itself when its attributes are looked at.
        for attribute, thing in list(vars(module).items()):
            if id(thing) in seen or not marks.is_tool(thing):
                continue
            seen.add(id(thing))
            file, line = _defined(thing, path or "")
            try:
                function = Function(thing, plugin=plugin)
            except Unsupported as error:
                self._problem(plugin, file, line, str(error), marks.default_name(thing))
                continue
            except Exception as error:  # a class with hints of its own kind can raise anything
                said = f"{type(error).__name__}: {error}"
                self._problem(plugin, file, line, said, marks.default_name(thing))
                continue
            if other := self.tools.add(function):
                taken = f'the name "{function.name}" is taken by {other.label}; give it another'
                self._problem(plugin, file, line, taken, attribute)


def _is_plugin(name: str) -> bool:
    return not name.startswith(("_", ".", "test_")) and name != "conftest.py"


def _search_in(folder: Path) -> None:
    path = str(folder.absolute())
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)


def _from_file(path: Path) -> ModuleType:
    """A file as a module under its own name, if that is free; its neighbours can be imported."""
    _search_in(path.parent)
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None or importlib.util.find_spec(name) is None or not _finds(name, path):
        name = f"mcp_gateway_plugin_{path.stem}"
        count = 1
        while name in sys.modules:
            count += 1
            name = f"mcp_gateway_plugin_{path.stem}_{count}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # dataclasses, pickle and type hints look their module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _finds(name: str, path: Path) -> bool:
    """Whether an import of this name would find this file, and not another module."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        return spec is not None and spec.origin == str(path)
    return False


def _is_own(path: str) -> bool:
    parts = Path(path).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    ours = str(Path(__file__).parent)
    return not path.startswith((sys.base_prefix + "/lib/python", ours, "<"))


def _where(error: BaseException) -> tuple[str, int]:
    """The line to look at: of a syntax error its own, else the last one that is not a library's."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_own(f.filename)]
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)


def _told(name: str, error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"calls sys.exit({error.code!r}) when it is imported"
    if isinstance(error, ModuleNotFoundError) and error.name and (
        name == error.name or name.startswith(f"{error.name}.")
    ):
        shown = ", ".join(sys.path[:4]) + (", …" if len(sys.path) > 4 else "")
        return f"there is no module {error.name} (looked in {shown})"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"


def _defined(thing: Any, otherwise: str) -> tuple[str, int]:
    import inspect

    with contextlib.suppress(TypeError, OSError):
        plain: Any = inspect.unwrap(thing)
        code = getattr(plain, "__code__", None)
        if code is not None:
            return code.co_filename, code.co_firstlineno
    return otherwise, 0
