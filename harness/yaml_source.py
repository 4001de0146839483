"""YAML with a memory of where everything stood, so that an error can name the file and the line."""

from __future__ import annotations

import stat
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

Location = tuple[str | int, ...]

LARGEST = 2**22
"""Bytes of a file."""
MOST_VALUES = 20_000
"""Values of a file, each counted wherever an alias repeats it: a few lines of aliases can stand for more than fit into
any memory."""
DEEPEST = 50
"""Levels of mappings and lists in one another."""
LONGEST_NUMBER = 50
"""Characters of a whole number."""
NO_TEXT = ("Cc", "Cs")
"""Unicode's control characters and halves of characters: no page, table or store can hold them."""


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

    Errors: a file that cannot be read, is not YAML, has a key twice, or is not a mapping; one that is out of all
    proportion.
    """
    text = _text(path)
    lines: dict[Location, tuple[Path, int]] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _collect(node, (), path, lines)
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deeply") from None
    # A tag that does not fit its value, such as `!!timestamp x`, fails in the constructor, in whatever way.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys at the top level, found {type(data).__name__}")
    return Source(path, data, lines)


def _text(path: Path) -> str:
    """The text of a file: a device or a pipe might never end."""
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{path}: cannot be read: not a file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(f"{path}: cannot be read: more than {LARGEST} bytes")
        return content.decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # or a path that no file can have
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "not the path of a file"
        raise UserError(f"{path}: cannot be read: {reason}") from error


def _collect(node: yaml.Node, location: Location, path: Path, lines: dict[Location, tuple[Path, int]]) -> None:
    lines.setdefault(location, (path, node.start_mark.line + 1))
    if why := _refusal(node, len(location), len(lines)):
        raise UserError(f"{path}:{node.start_mark.line + 1}: {why}")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{path}:{key.start_mark.line + 1}: a key must be plain text")
            if why := _refusal(key, 0, 0):
                raise UserError(f"{path}:{key.start_mark.line + 1}: {why}")
            if key.value in seen:
                raise UserError(f"{path}:{key.start_mark.line + 1}: the key {key.value!r} stands here twice")
            seen.add(key.value)
            lines[(*location, key.value)] = (path, key.start_mark.line + 1)
            _collect(value, (*location, key.value), path, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect(value, (*location, index), path, lines)


def _refusal(node: yaml.Node, depth: int, count: int) -> str:
    """Why a value can be no part of a study, whatever key it is of; empty for all others."""
    if depth > DEEPEST:
        return f"nested too deeply: more than {DEEPEST} levels"
    if count > MOST_VALUES:
        return f"more than {MOST_VALUES} values, those that aliases repeat included"
    if not isinstance(node, yaml.ScalarNode):
        return ""
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > LONGEST_NUMBER:
        return f"a number of more than {LONGEST_NUMBER} digits"
    if strange := next((c for c in node.value if c not in "\n\t" and unicodedata.category(c) in NO_TEXT), ""):
        return f"text with the character {strange!a}, which no page could show"
    return ""


def extend(parent: Source, child: Source) -> Source:
    """``child`` over ``parent``: mappings merge key by key, everything else is replaced."""
    return Source(child.path, merge(parent.data, child.data), parent.lines | child.lines)


def merge(under: Any, over: Any) -> Any:
    """``over`` on top of ``under``: mappings merge key by key, null drops a key, everything else is replaced."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    merged = under | {key: merge(under[key], value) if key in under else value for key, value in over.items()}
    return {key: value for key, value in merged.items() if not (value is None and key in over)}


def compose(under: Any, over: Any) -> Any:
    """The patch that does what ``under`` and then ``over`` do: as :func:`merge`, but a null that finds no key stays.

    What it is to drop then lies in what the patch is for.
    """
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    kept = {key: compose(value, over[key]) if key in over else value for key, value in under.items()}
    kept = {key: value for key, value in kept.items() if not (value is None and key in over)}
    return kept | {key: value for key, value in over.items() if key not in under}
