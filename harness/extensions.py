"""Suites and methods from outside this project: in a user's own file, or in an installed package.

A study names a file beside what the file declares: ``module`` beside a method's ``algorithm``, ``suite_module`` beside
``suite``. It is read once, and every run of the study executes it as it was read, wherever it runs: who edits the file
meanwhile changes the next invocation, not this one. Its checksum is part of what a run is: a changed file is another
method. A package registers its declarations under :data:`ENTRY_POINTS`; its ``version`` is its own promise, as ours is.

Nothing else is executed, and nothing at all by a study that names neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from harness.api import Declaration, Registries, Settings
from harness.errors import UserError
from harness.spec import Component, PlannedRun, RunSpec, SourceFile
from harness.validation import nearest

Kind = Literal["suite", "algorithm"]
ENTRY_POINTS: dict[Kind, str] = {"suite": "metarepro.suites", "algorithm": "metarepro.algorithms"}
ARGUMENTS: dict[Kind, tuple[str, ...]] = {"suite": ("settings",), "algorithm": ("settings", "suite")}
"""What ``build`` is called with."""


class OwnFiles:
    """The files that one study names, each read once, and who declares what."""

    def __init__(self) -> None:
        self._files: dict[Path, SourceFile] = {}
        self._declared: dict[tuple[Kind, str], tuple[SourceFile, Declaration]] = {}

    def declaration(
        self, kind: Kind, name: str, folder: Path, module: str, registry: Mapping[str, Declaration]
    ) -> Declaration:
        """What ``module``, a path relative to ``folder``, declares as ``name``.

        Errors: a file that cannot be read or executed, or does not declare the name; a name that ``registry`` or
        another file of the study has.
        """
        file = self._read(folder / module, module)
        if name in registry:
            raise _declared_twice(kind, name, file.path, _place(kind, name, registry))
        if (kind, name) not in self._declared:
            self._declared[kind, name] = file, declared_in(file, kind, name)
        other, declaration = self._declared[kind, name]
        if other is not file:
            raise _declared_twice(kind, name, file.path, other.path)
        return declaration

    def of(self, spec: RunSpec) -> tuple[SourceFile, ...]:
        """The files that a run executes."""
        origins = {spec.suite.origin, spec.algorithm.origin}
        return tuple(file for file in self._files.values() if file.origin in origins)

    def _read(self, path: Path, name: str) -> SourceFile:
        try:
            resolved = path.resolve()
            if resolved not in self._files:
                if not path.is_file():
                    raise UserError(f"{path} is not a file; expected a Python file, its path relative to this file")
                text = path.read_bytes().decode("utf-8")
                self._files[resolved] = SourceFile(name=name, path=str(resolved), text=text)
            return self._files[resolved]
        except (OSError, ValueError) as error:  # also a path that no file can have, and text that is not UTF-8
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{str(path)[:200]!r} cannot be read: {reason}") from None


class WithInstalled(Mapping[str, Declaration]):
    """A registry, and what installed packages add to it. A package is imported when one of its names is asked for.

    Errors: asking for a name that is declared twice, or by a package that cannot be imported or holds something else.
    """

    def __init__(self, kind: Kind, own: Mapping[str, Declaration]) -> None:
        self._kind = kind
        self._own = own

    @cached_property
    def _installed(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        found: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS[self._kind]):
            found.setdefault(point.name, []).append(point)
        return found

    def places(self, name: str) -> list[str]:
        """Everyone who declares a name."""
        own = [_place(self._kind, name, self._own)] if name in self._own else []
        return own + [_entry(point) for point in self._installed.get(name, [])]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._installed

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **self._installed})

    def __len__(self) -> int:
        return len({**self._own, **self._installed})

    def __getitem__(self, name: str) -> Declaration:
        if len(places := self.places(name)) > 1:
            raise _declared_twice(self._kind, name, *places[:2])
        if name in self._installed:
            return _imported(self._kind, self._installed[name][0])
        return self._own[name]


def with_installed(own: Registries) -> Registries:
    """The registries, and what installed packages add to them."""
    suites, algorithms = WithInstalled("suite", own.suites), WithInstalled("algorithm", own.algorithms)
    return Registries(suites=suites, algorithms=algorithms, rules=own.rules)


def declaration_of(
    kind: Kind, component: Component, own: Mapping[str, Declaration], files: Sequence[SourceFile]
) -> Declaration:
    """The declaration behind a part of a spec, in whatever process; ``files`` came with the run."""
    if component.origin is None:
        return own[component.name]
    for file in files:
        if file.origin == component.origin:
            return declared_in(file, kind, component.name)
    installed = WithInstalled(kind, {})
    if component.name not in installed:
        raise UserError(f"{kind} {component.name!r} is from package {component.origin}, which is not installed here")
    return installed[component.name]


def manifest_of(planned: PlannedRun) -> dict[str, Any]:
    """What a run's manifest says about code from outside: the text of a file, the version of a package."""
    known: dict[str, Any] = {file.origin: {"file": file.name, "text": file.text} for file in planned.files}
    for component in (planned.spec.suite, planned.spec.algorithm):
        if component.origin is not None and component.origin not in known:
            known[component.origin] = {"version": importlib.metadata.version(component.origin)}
    return {"extensions": known} if known else {}


def declared_in(file: SourceFile, kind: Kind, name: str) -> Declaration:
    """The declaration called ``name`` at the top level of a file, checked."""
    found = {id(value): value for value in vars(_executed(file)).values() if isinstance(value, Declaration)}
    named = [declaration for declaration in found.values() if declaration.name == name]
    if not found:
        raise UserError(f"{file.path} holds no harness.api.Declaration at its top level")
    if not named:
        known = nearest(name, (str(declaration.name) for declaration in found.values()))
        raise UserError(f"{file.path} holds no Declaration named {name!r}{known}")
    if len(named) > 1:
        raise UserError(f"{file.path} holds two Declarations named {name!r}")
    _check(named[0], file.path)
    with users_code(file.path):
        _check_arguments(named[0].load(), kind, f"{file.path}: {kind} {name!r}")
    return replace(named[0], origin=file.origin)


@contextlib.contextmanager
def users_code(path: str) -> Iterator[None]:
    """Whatever the code in a user's file raises becomes one line that says where in the file."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        if isinstance(error, SyntaxError) and error.filename == path:
            lines = [error.lineno]
        where = f"{path}:{lines[-1]}" if lines and lines[-1] else path
        raise UserError(f"{where}: {_one_line(error)}{_beside(path, error)}") from error


def guarding(declaration: Declaration) -> contextlib.AbstractContextManager[None]:
    """For the use of its settings, whose validators are a user's code where the declaration is from outside."""
    ours = declaration.origin is None
    return contextlib.nullcontext() if ours else users_code(inspect.getfile(declaration.settings))


def _executed(file: SourceFile) -> ModuleType:
    """The file's module, under a name that says which text it was made from."""
    name = f"metarepro_file_{hashlib.sha256(repr((file.path, file.text)).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        module = sys.modules[name] = ModuleType(name)
        module.__file__ = file.path
        try:
            with users_code(file.path):
                exec(compile(file.text.encode(), file.path, "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _imported(kind: Kind, point: importlib.metadata.EntryPoint) -> Declaration:
    """The declaration that an entry point names, checked."""
    place = _entry(point)
    try:
        declaration = point.load()
    except (Exception, SystemExit) as error:
        raise UserError(f"{kind} {point.name!r} of {place} cannot be imported: {_one_line(error)}") from error
    if not isinstance(declaration, Declaration) or declaration.name != point.name:
        raise UserError(f"{place} must be a harness.api.Declaration named {point.name!r}")
    _check(declaration, place)
    return replace(declaration, origin=_distribution(point))


def _check(declaration: Declaration, place: str) -> None:
    """The types that a dataclass does not hold anyone to."""
    sets = (declaration.provides, declaration.requires)
    demands = {
        "name must be lower-case letters, digits and _": re.fullmatch("[a-z0-9][a-z0-9_]*", str(declaration.name)),
        "version must be a whole number from 1": type(declaration.version) is int and declaration.version >= 1,
        "settings must be a class derived from harness.api.Settings": (
            isinstance(declaration.settings, type) and issubclass(declaration.settings, Settings)
        ),
        "build must be a function, or 'module:function' of an installed module": (
            callable(declaration.build) or isinstance(declaration.build, str)
        ),
        "provides and requires must be sets of words": (
            all(isinstance(words, set | frozenset) and all(isinstance(word, str) for word in words) for words in sets)
        ),
    }
    for demand, met in demands.items():
        if not met:
            raise UserError(f"{place}: Declaration {declaration.name!r}: {demand}")


def _check_arguments(factory: Any, kind: Kind, who: str) -> None:
    arguments = ARGUMENTS[kind]
    if not callable(factory):
        raise UserError(f"{who}: build must be a function")
    with contextlib.suppress(ValueError):  # a callable that does not say what it takes
        signature = inspect.signature(factory)
        try:
            signature.bind(*arguments)
        except TypeError:
            needed = ", ".join(arguments)
            raise UserError(f"{who}: build must take ({needed}), and is {signature}"[:400]) from None


def _declared_twice(kind: Kind, name: str, place: str, other: str) -> UserError:
    return UserError(f"{kind} {name!r} is declared by {place} and by {other}; give one of them another name")


def _place(kind: Kind, name: str, registry: Mapping[str, Declaration]) -> str:
    if isinstance(registry, WithInstalled):
        return registry.places(name)[0]
    return f"this project ({registry[name].build})"


def _entry(point: importlib.metadata.EntryPoint) -> str:
    return f"package {_distribution(point)} ({point.value})"


def _distribution(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.module


def _one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())[:300]


def _beside(path: str, error: BaseException) -> str:
    """A hint for who wants to import the file beside: a checksum of one file would not cover it."""
    wanted = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if wanted and any((Path(path).parent / inside).exists() for inside in (f"{wanted}.py", wanted)):
        return "; a module of a study is one file: put both into it, or install them as a package"
    return ""
