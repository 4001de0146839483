"""What a user can get wrong, as opposed to a bug."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterator

from harness.redaction import without_secrets

LONGEST = 2000
"""Characters of a message: a value that a file has may be of any length."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2. Whatever led to it, no password stands in it,
    and what a file brought into it can neither break the line nor steer a terminal: such characters are shown by their
    numbers.
    """

    def __init__(self, message: str) -> None:
        told = without_secrets(message)
        shown = told if len(told) <= LONGEST else f"{told[:LONGEST]} ..."
        super().__init__("".join(_shown(character) for character in shown))


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Say of every :class:`UserError` inside where the user wrote what led to it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def first_line(error: object) -> str:
    """What an error says first; the kind of an exception that says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
