"""What can happen to a file between whoever wrote it and whoever reads it, and how a test runs through much of it."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.errors import UserError

TIMES = int(os.environ.get("METAREPRO_FUZZ", "1"))
"""So many times the examples, and other ones every time, for a longer search than that of every day."""
DECLARED: Counter[str] = Counter()
"""Test -> its number of examples."""
RAN: Counter[str] = Counter()
"""Test -> how many of them have run in this process."""
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
PATIENCE_S = 20
"""A reader that takes longer hangs; a busy machine is no reason."""


def fuzzed(examples: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test over this many examples, the same ones every time unless ``METAREPRO_FUZZ`` asks for more."""

    def of(check: Callable[..., None]) -> Callable[..., None]:
        name = f"{check.__module__}.{check.__name__}"
        DECLARED[name] = examples * TIMES

        @functools.wraps(check)
        def counted(*arguments: Any, **values: Any) -> None:
            RAN[name] += 1
            check(*arguments, **values)

        bounded = settings(
            max_examples=examples * TIMES, deadline=None, derandomize=TIMES == 1, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        return bounded(given(**strategies)(counted))

    return of


class Hang(BaseException):
    """Not an ``Exception``: nothing that the code under test catches."""


@contextlib.contextmanager
def no_hang(seconds: int = PATIENCE_S) -> Iterator[None]:
    """Raise :class:`Hang` in a block that does not end."""

    def ring(number: int, frame: Any) -> None:
        raise Hang(f"not ended after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_or_refused(read: Callable[[], Any], place: str) -> Any:
    """What ``read`` gives, or None where it refuses in one printable line that names the ``place``."""
    with no_hang():
        try:
            return read()
        except UserError as error:
            message = str(error)
    assert place in message
    assert len(message.splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", message)
    return None


JUNK = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[31m", b"\r\n", b"\n", b"\t", b"\x85", "\u2028".encode(), b"\x07"]
JUNK += [b"{", b"}", b"[", b"]", b":", b": ", b"- ", b"&a ", b"*a ", b"<<: ", b"!!", b"#", b"'", b'"', b"|\n", b"---\n"]
JUNK += [b"%YAML 9.9\n", b"? ", b"9" * 400, b"0x" + b"f" * 5000, b"[" * 600, b"{a: " * 200, b"null", b"1e999", b"\xc3"]


class Damage(NamedTuple):
    """A change that is the same one every time, and falls on any part of what it changes alike."""

    seed: int

    def of_bytes(self, content: bytes, most: int = 3) -> bytes:
        """One to ``most`` changes: bytes flipped, cut off, cut out, doubled, moved, put in."""
        rng = random.Random(self.seed)
        for _ in range(rng.randint(1, most)):
            content = _damaged(content, rng)
        return content

    def of_data(self, data: Any, most: int = 2) -> str:
        """The data as YAML after one to ``most`` changes: values of another kind, keys renamed, left out, put in."""
        rng, words = random.Random(self.seed), list[str]()

        def one_of(texts: list[str]) -> str:  # what no data can hold is a placeholder for one of the words
            words.append(rng.choice(texts))
            return PLACEHOLDER.format(len(words) - 1)

        data = _changed(data, most, rng, lambda: one_of(VALUES), lambda: one_of(KEYS), lambda: one_of(FILES))
        text = yaml.dump(data, Dumper=DUMPER, sort_keys=False, width=10**6, allow_unicode=True)
        for number in reversed(range(len(words))):
            text = text.replace(PLACEHOLDER.format(number), words[number])
        return text

    def of_json(self, data: Any, most: int = 2) -> Any:
        """The data after one to ``most`` changes like those of :meth:`of_data`, to values that JSON can hold."""
        rng = random.Random(self.seed)

        def strange() -> Any:
            return copy.deepcopy(rng.choice(JSON_VALUES))

        return _changed(data, most, rng, strange, lambda: rng.choice(JSON_KEYS), strange)

    def rng(self) -> random.Random:
        """A generator of its own choices."""
        return random.Random(self.seed)


DAMAGES = st.integers(0, 2**32 - 1).map(Damage)


def _damaged(content: bytes, rng: random.Random) -> bytes:
    at, length = rng.randint(0, len(content)), rng.randint(1, 40)
    junk = rng.choice([*JUNK, rng.randbytes(3)])
    before, piece, after = content[:at], content[at : at + length], content[at + length :]
    match rng.choice(["flip", "truncate", "delete", "double", "move", "insert", "line"]):
        case "flip" if piece:
            return before + bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:] + after
        case "truncate":
            return before
        case "delete":
            return before + after
        case "double":
            return before + piece + piece + after
        case "move":
            return before + after + piece
        case "line":
            start = before.rfind(b"\n") + 1
            return content[:start] + junk + b"\n" + content[start + rng.choice([0, length]) :]
        case _:
            return before + junk + piece + after


NUMBERS = ["-1", "0", "1.5", ".nan", "-.inf", "1e999", "1e-320", "9" * 25, "9" * 400, "0x" + "f" * 5000, "1:2:3:4:5:6"]
NUMBERS += ["1_0", "0b1", "007", "2147483648", "1000000000", "-0.0", "!!int ''", "!!float x", "!!int 9", "!!float 1:2"]
WORDS = [
    "''",
    '"\\0"',
    '"\\ud800"',
    '"\\x1b[2J"',
    '"a\\nb"',
    "é",
    "٣",
    "x" * 5000,
    "'<script>alert(1)</script>'",
    "maml",
]
WORDS += [
    '"a\\u2028b"',
    "'../../outside'",
    "../x",
    "/etc/passwd",
    "'maml\n\n'",
    '"maml\\n"',
    "0-99999",
    "٠-٣",
    "'$\\x$'",
]
TYPES = [
    "",
    "~",
    "true",
    "[]",
    "{}",
    "[[[1]]]",
    "{a: {b: {c: 1}}}",
    "2001-01-01",
    "2001-01-01t00:00:00+23:59",
    "!!str 1",
]
TYPES += [
    "!!timestamp x",
    "!!bool x",
    "!!null x",
    "!!binary QQ==",
    "!!binary é",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!x 1",
]
TYPES += ["!!pairs [a: 1]", "!!omap x", "!!set [a]", "!!seq {}", "!!map []", "!!python/name:os.system", "[1, {a: ~}]"]
GRAPHS = ["&a [*a]", "&a {b: *a}", "*nowhere", "{<<: {seed: 1}}", "{<<: 3}", "{<<: [{a: 1}, {b: 2}]}", "{? [a] : 1}"]
GRAPHS += ["{? {a: 1} : 1}", "{1: 2, null: 3, true: 4}", "{a: 1, a: 2}", "{1: a, 0x1: b}", "{2001-01-01: 1}", "{'': 1}"]
GRAPHS += ["[" * 200 + "]" * 200, "{a: " * 90 + "1" + "}" * 90, "[" * 600 + "]" * 600, "{!!binary QQ==: 1}", "{=: 1}"]
LAUGHS = "[&b0 [x, x], " + ", ".join(f"&b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 12)) + "]"
MERGES = "[&m0 {a: 1}, " + ", ".join(f"&m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 9)) + "]"
CODE = "!!python/object/apply:os.system ['touch PROOF']"
FILES = [
    "parent.yaml",
    "circle.yaml",
    "folder.yaml",
    "loop.yaml",
    "pipe.yaml",
    "/dev/zero",
    "/dev/stdin",
    "missing.yaml",
]
FILES += [".", "''", "a" * 300 + ".yaml", "parent.yaml/x", '"\\ud800.yaml"', "a/../parent.yaml", "~root/x.yaml"]
VALUES = [*NUMBERS, *WORDS, *TYPES, *GRAPHS, LAUGHS, MERGES, CODE, *FILES]
"""YAML in one line, each of it wrong somewhere."""
KEYS = ["extends", "study", "seeds", "module", "suite_module", "scales", "grid", "columns", "findings", "changes", "<<"]
KEYS += [
    "1",
    "~",
    "true",
    "2001-01-01",
    "''",
    '"a\\nb"',
    '"\\ud800"',
    "[a]",
    "{a: 1}",
    "!!binary QQ==",
    "x" * 2000,
    "=",
]
PLACEHOLDER = "PLACEHOLDER{}X"


JSON_VALUES: list[Any] = [None, True, -1, 0, 1.5, 10**25, 10**400, math.nan, -math.inf, "", "x" * 5000, "<b>", [], {}]
JSON_VALUES += [[[1]], {"a": {"b": 1}}, "\0", "\ud800", "\n", functools.reduce(lambda inner, _: [inner], range(200), 1)]
JSON_KEYS = ["", "x", "status", "reason", "sha256", "groups", "\0", "\ud800", "../x", "x" * 5000]


def _changed(
    data: Any,
    most: int,
    rng: random.Random,
    value: Callable[[], Any],
    key: Callable[[], str],
    file: Callable[[], Any],
) -> Any:
    """A copy of nested data with one to ``most`` changes."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, most)):
        if not data:
            break
        places = [*_places(data)]
        block, at = rng.choice(places)
        match rng.choice(["value", "value", "key", "delete", "add", "swap", "extends"]):
            case "delete":
                del block[at]
            case "swap":
                further, there = rng.choice(places)
                block[at] = copy.deepcopy(further[there])
            case "extends":
                data["extends"] = file()
            case ("key" | "add") as kind if isinstance(block, dict):
                items, row = list(block.items()), list(block).index(at)
                new = (key(), block[at] if kind == "key" else value())
                items[row : row + (kind == "key")] = [new]
                block.clear()
                block.update(items)
            case _:
                block[at] = value()
    return data


def _places(block: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key of nested data."""
    for key in list(block) if isinstance(block, dict) else range(len(block)) if isinstance(block, list) else ():
        yield block, key
        yield from _places(block[key])
