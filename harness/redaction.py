"""No password and no token in what is printed or recorded: they stand in the addresses of stores and databases."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

HIDDEN = "***"
SPECIAL = "; a port is a number, and in a password / is written as %2F, @ as %40, # as %23"
"""What to say of an address that cannot be read: the parser's own words may hold a part of the password."""

_IN_WEB_ADDRESS = re.compile(r"(?P<before>\bhttps?://)[^\s/?#]*@", re.IGNORECASE)
"""There a name without a password may be a token, and so may the name before one."""
_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.\-]*://[^\s:/]*):\S*@", re.IGNORECASE)
"""Up to the last @: a password may hold one that should have been written as %40."""
_IN_QUERY = re.compile(
    r"(?P<before>[?&;][^\s=&;]*(?:passw|pwd|token|secret|key|sig|auth|cred)[^\s=&;]*=)[^\s&;'\"#)]+", re.IGNORECASE
)


def without_secrets(text: str) -> str:
    """The text with ``***`` for every password in an address, and for every token in the query of one."""
    text = _PASSWORD.sub(rf"\g<before>:{HIDDEN}@", text)
    text = _IN_WEB_ADDRESS.sub(rf"\g<before>{HIDDEN}@", text)
    return _IN_QUERY.sub(rf"\g<before>{HIDDEN}", text)


def command_without_secrets(arguments: Iterable[str]) -> str:
    """A command as a shell takes it. In an argument with an address a space is written as %20: it ends no password."""
    written = (re.sub(r"\s", "%20", one) if "://" in one else one for one in arguments)
    return shlex.join(without_secrets(one) for one in written)
