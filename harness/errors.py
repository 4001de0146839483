"""What a user can get wrong, as opposed to a bug."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Say of every :class:`UserError` inside where the user wrote what led to it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
