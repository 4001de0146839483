"""What a user can get wrong, as opposed to a bug."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterator

LONGEST = 2000
"""Characters of a message: a value that a file has may be of any length."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2. What a file brought into the message can
    neither break the line nor steer a terminal: such characters are shown by their numbers.
    """

    def __init__(self, message: str) -> None:
        shown = message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."
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
