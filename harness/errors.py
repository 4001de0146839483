"""What a user can get wrong, as opposed to a bug."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.redaction import without_secrets


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2. Whatever led to it, no password stands in it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(without_secrets(text))


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Say of every :class:`UserError` inside where the user wrote what led to it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
