"""YAML with a memory of where everything stood, so that an error can name the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

Location = tuple[str | int, ...]


class Source:
    """A parsed YAML file: its data, and the line of every key."""

    def __init__(self, path: Path, data: Any, lines: dict[Location, tuple[Path, int]]) -> None:
        self.path = path
        self.data = data
        self.lines = lines

    def where(self, location: Location) -> str:
        """``file:line`` of a key, or of its nearest parent that has one."""
        path, line = self._found(location)
        return f"{path}:{line}" if line else str(path)

    def folder(self, location: Location) -> Path:
        """The folder of the file in which a key stands: what a relative path under it starts from."""
        return self._found(location)[0].parent

    def _found(self, location: Location) -> tuple[Path, int]:
        for length in range(len(location), -1, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return self.path, 0


def read_yaml(path: Path) -> Source:
    """Parse one YAML file safely.

    Errors: a file that cannot be read, is not YAML, has a key twice, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Location, tuple[Path, int]] = {}
        if node is not None:
            _collect(node, (), path, lines)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys at the top level, found {type(data).__name__}")
    return Source(path, data, lines)


def _collect(node: yaml.Node, location: Location, path: Path, lines: dict[Location, tuple[Path, int]]) -> None:
    lines.setdefault(location, (path, node.start_mark.line + 1))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{path}:{key.start_mark.line + 1}: a key must be plain text")
            if key.value in seen:
                raise UserError(f"{path}:{key.start_mark.line + 1}: the key {key.value!r} stands here twice")
            seen.add(key.value)
            lines[(*location, key.value)] = (path, key.start_mark.line + 1)
            _collect(value, (*location, key.value), path, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect(value, (*location, index), path, lines)


def extend(parent: Source, child: Source) -> Source:
    """``child`` over ``parent``: mappings merge key by key, everything else is replaced."""
    return Source(child.path, merge(parent.data, child.data), parent.lines | child.lines)


def merge(under: Any, over: Any) -> Any:
    """``over`` on top of ``under``: mappings merge key by key, null drops a key, everything else is replaced."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    merged = under | {key: merge(under[key], value) if key in under else value for key, value in over.items()}
    return {key: value for key, value in merged.items() if not (value is None and key in over)}
