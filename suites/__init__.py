"""The task families. The registry names them; nothing here imports torch."""

from harness.api import Declaration
from suites import navigation

SUITES: dict[str, Declaration] = {declaration.name: declaration for declaration in (navigation.SUITE,)}
