"""What a function can return besides data: images, sound, files, and a result that is an error.

Each becomes one content block of MCP. A path is read when the result is written, not before.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from .schema import Budget

Block = dict[str, Any]


class ToolError(Exception):
    """An error of the tool's own, told to the caller as it is: without a traceback in the log."""


class Content:
    """Something that becomes a content block."""

    def block(self, budget: Budget) -> Block:
        raise NotImplementedError


class _Data(Content):
    """Bytes, given or in a file, and what they are."""

    _default = "application/octet-stream"

    def __init__(
        self,
        data: bytes | bytearray | memoryview | str | Path | None = None,
        *,
        path: str | Path | None = None,
        mime_type: str | None = None,
        format: str | None = None,
    ) -> None:
        if isinstance(data, (str, Path)):
            # The first argument may be a path, as in FastMCP.
            data, path = None, data
        if (data is None) == (path is None):
            raise ValueError("give either data or a path")
        self.data = None if data is None else bytes(data)
        self.path = None if path is None else Path(path)
        self._mime_type = mime_type
        self._format = format

    @property
    def mime_type(self) -> str:
        if self._mime_type:
            return self._mime_type
        if self._format:
            return f"{self._default.split('/')[0]}/{self._format.lower()}"
        return (_guessed(self.path.name) if self.path else None) or self._default

    def _bytes(self, budget: Budget) -> bytes:
        if self.path is None:
            budget.spend(len(self.data or b""))
            return self.data or b""
        # The size first: a file may be larger than memory.
        budget.spend(self.path.stat().st_size)
        return self.path.read_bytes()

    def _base64(self, budget: Budget) -> str:
        data = self._bytes(budget)
        budget.spend(len(data) // 3)
        return base64.b64encode(data).decode()


def _guessed(name: str) -> str | None:
    import mimetypes

    return mimetypes.guess_type(name)[0]


class Image(_Data):
    """An image: ``Image(data=png_bytes, format="png")`` or ``Image(path="chart.png")``."""

    _default = "image/png"

    def block(self, budget: Budget) -> Block:
        return {"type": "image", "data": self._base64(budget), "mimeType": self.mime_type}


class Audio(_Data):
    """Sound: ``Audio(data=wav_bytes, format="wav")`` or ``Audio(path="word.mp3")``."""

    _default = "audio/wav"

    def block(self, budget: Budget) -> Block:
        return {"type": "audio", "data": self._base64(budget), "mimeType": self.mime_type}


class File(_Data):
    """A file: its text or bytes, or with ``link=True`` only where it is."""

    def __init__(
        self,
        data: bytes | bytearray | memoryview | str | Path | None = None,
        *,
        path: str | Path | None = None,
        name: str | None = None,
        mime_type: str | None = None,
        format: str | None = None,
        link: bool = False,
    ) -> None:
        super().__init__(data, path=path, mime_type=mime_type, format=format)
        if self.path is None and not name:
            raise ValueError("a file that is given as data needs a name")
        if link and self.path is None:
            raise ValueError("only a file that is given by its path can be linked")
        self.name = name or (self.path.name if self.path else "")
        self._link = link
        if self._mime_type is None and self.path is None:
            self._mime_type = _guessed(self.name)

    @property
    def uri(self) -> str:
        if self.path is not None:
            return self.path.absolute().as_uri()
        from urllib.parse import quote

        return f"attachment:///{quote(self.name)}"

    def block(self, budget: Budget) -> Block:
        if self._link:
            return {
                "type": "resource_link", "uri": self.uri, "name": self.name,
                "mimeType": self.mime_type,
            }
        resource: Block = {"uri": self.uri, "mimeType": self.mime_type}
        text = self.mime_type.startswith("text/") or self.mime_type == "application/json"
        if text:
            data = self._bytes(budget)
            try:
                return {"type": "resource", "resource": {**resource, "text": data.decode()}}
            except UnicodeDecodeError:
                budget.spend(len(data) // 3)
                blob = base64.b64encode(data).decode()
                return {"type": "resource", "resource": {**resource, "blob": blob}}
        return {"type": "resource", "resource": {**resource, "blob": self._base64(budget)}}


class Text(Content):
    """A text beside images: what a plain string in a list is taken for."""

    def __init__(self, text: str) -> None:
        self.text = text

    def block(self, budget: Budget) -> Block:
        budget.spend(len(self.text))
        return {"type": "text", "text": self.text}
