"""From a schema's complaint to one line that says what is wrong, where, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.errors import UserError
from harness.yaml_source import Location, Source


def holds(block: Any, path: Location) -> bool:
    """Whether nested mappings and lists have something at ``path``."""
    for key in path:
        inside = key in block if isinstance(block, dict) else isinstance(block, list) and key in range(len(block))
        if not inside:
            return False
        block = block[key]
    return True


def nearest(name: Any, known: Iterable[str]) -> str:
    """A hint: the nearest valid name, or all of them."""
    options = sorted(str(option) for option in known)
    if not options:
        return "; there are none"
    close = difflib.get_close_matches(str(name), options, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(options)}"


def validated(
    schema: type[BaseModel],
    data: Any,
    source: Source,
    locate: Any,
    context: dict[str, Any] | None = None,
) -> Any:
    """Check ``data`` against a schema; an error becomes one line with file, line, key, and the nearest valid name.

    ``locate`` turns the key's path into the place in the file that brought it; ``context`` reaches the validators.
    """
    try:
        return schema.model_validate(data, context=context)
    except ValidationError as error:
        # A misspelt key is also a missing one: the misspelling is the better message.
        first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
        path: Location = tuple(part for part in first["loc"] if part != "[key]")
        key = ".".join(map(str, path))
        if first["type"] == "extra_forbidden":
            model = _model_at(schema, path[:-1])
            hint = nearest(path[-1], model.model_fields) if model else ""
            message = f"unknown key {key!r}{hint}"
        elif first["type"] == "missing":
            message = f"missing key {key!r}"
        else:
            reason = first["msg"].removeprefix("Value error, ")
            message = f"{key}: {reason[:1].lower()}{reason[1:]}, found {str(first['input'])[:80]!r}" if key else reason
        if not path:  # a complaint about several keys at once: where the first that it names stands
            path = next(((word,) for word in re.findall(r"\w+", message) if word in schema.model_fields), ())
        raise UserError(f"{source.where(locate(path))}: {message}") from None


def _model_at(schema: type[BaseModel], path: Location) -> type[BaseModel] | None:
    """The settings class at ``path`` below ``schema``, stepping through mappings of settings."""
    model: Any = schema
    for key in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            if key not in model.model_fields:
                return None
            model = model.model_fields[str(key)].annotation
        else:  # a mapping or a list of settings, and the name or the place of one of them
            inner = [a for a in getattr(model, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
            model = inner[0] if inner else None
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None
