"""The films of a study, where somebody has drawn them: their strips on the page, links to strips and animations."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from reports.study_info import StudyInfo

KEY = "metarepro"
"""What a strip calls the text in which it says which run it shows."""
FOLDER = "films"


def films_of(results: Path, stem: str) -> Path:
    """Where the films of a study lie in a results folder, which has the pages in another folder."""
    return results / FOLDER / stem


def facts_of(path: Path) -> dict[str, Any]:
    """What a strip says of itself; {} where there is none that can be read."""
    try:
        with Image.open(path) as image:
            facts = json.loads(image.text[KEY])  # type: ignore[attr-defined]
    except (OSError, SyntaxError, ValueError, LookupError, AttributeError):
        return {}
    return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True)
class Film:
    """A strip, what it says of itself, and the animation beside it; takes: what it shows, a line per episode."""

    path: Path
    setting: str
    method: str
    seed: int
    takes: tuple[str, ...]
    animation: bool


def block(pages: Path, info: StudyInfo, run_ids: Collection[str]) -> dict[str, Any] | None:
    """What the template needs: links to every film of these runs, and the first strip of each setting.

    None for a study that has none and could not have any. Films of other runs are not shown: those of an older version
    are not those of the numbers on the page.
    """
    command = info.commands.get("films")
    folder = films_of(pages.parent, info.stem)
    films = [film for path in sorted(folder.glob("*.png")) if (film := _read(path, run_ids)) is not None]
    if not films and command is None:
        return None
    order = {label: place for place, label in enumerate(info.labels)}
    films.sort(key=lambda film: (order.get(film.method, len(order)), film.seed))
    groups = [(one.describe(), [film for film in films if film.setting == one.name]) for one in info.settings]
    found, base = [group for group in groups if group[1]], f"../{FOLDER}/{info.stem}"
    return {
        "command": command,
        "strips": [{"title": title, "src": _uri(mine[0].path)} | _links(mine[0], base) for title, mine in found],
        "rows": [{"setting": title, "films": [_links(film, base) for film in mine]} for title, mine in found],
    }


def _read(path: Path, run_ids: Collection[str]) -> Film | None:
    """None for what is no strip of one of these runs."""
    facts = facts_of(path)
    if facts.get("run_id") not in run_ids:
        return None
    try:
        setting, method, seed, takes = (facts[name] for name in ("setting", "method", "seed", "takes"))
        return Film(
            path, str(setting), str(method), int(seed), tuple(map(str, takes)), path.with_suffix(".gif").is_file()
        )
    except (ValueError, LookupError, TypeError):
        return None


def _links(film: Film, base: str) -> dict[str, Any]:
    return {
        "name": f"{film.method}, seed {film.seed}",
        "strip": f"{base}/{film.path.name}",
        "animation": f"{base}/{film.path.with_suffix('.gif').name}" if film.animation else None,
        "takes": film.takes,
    }


def _uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
