# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Import some packages at their first use instead of with the module that names them.

This is what ``python -X lazy_imports`` does from Python 3.15 on (PEP 810), for named packages and
for a block of code. Nothing in another package is changed: a module that is imported in the block
gets stand-ins for what it imports from these packages. A stand-in imports the real object when it
is called, inherited from, or asked for an attribute.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class Later:
    """Stands for a function, class or module ``name`` of the module ``module``.

    Args:
        resolve: Returns the real object.
    """

    def __init__(self, resolve: Callable[[], Any]) -> None:
        self.resolve = resolve

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the real object."""
        return self.resolve()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):  # asked by tools that look at any object, such as pickle
            raise AttributeError(name)
        return getattr(self.resolve(), name)

    def __mro_entries__(self, bases: tuple) -> tuple:
        return (self.resolve(),)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.resolve())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self.resolve())

    def __or__(self, other: Any) -> Any:
        return self.resolve() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.resolve()


class LaterModule(ModuleType):
    """Stands for a module of a deferred package."""

    _finder: _Finder

    def __getattr__(self, name: str) -> Any:
        if name in ('__version__', '__all__', '__pyx_capi__'):  # Cython's links to other modules
            return getattr(self.load_real(), name)
        if name.startswith('__'):
            raise AttributeError(name)
        # Perhaps `from module import name`.
        if self._finder.serves(sys._getframe(1).f_globals.get('__name__')):
            return Later(lambda: _attribute(self.load_real(), name))
        return _attribute(self.load_real(), name)

    def load_real(self) -> ModuleType:
        """Import the module. Inside the block this ends it: no stand-in may get in there."""
        if self._finder.active:
            self._finder.stop()
        return importlib.import_module(self.__name__)


def _attribute(module: ModuleType, name: str) -> Any:
    """Return an attribute or a sub-module, as ``from module import name`` does."""
    if not hasattr(module, name) and hasattr(module, '__path__'):
        return importlib.import_module(f'{module.__name__}.{name}')
    return getattr(module, name)


class _Finder(MetaPathFinder, Loader):
    """Finds stand-ins for the modules of some packages while it is active."""

    def __init__(self, packages: Sequence[str], importers: Sequence[str] | None) -> None:
        # A package that is missing must stay missing: modules ask for it with try and except.
        self.packages = {
            name for name in packages if name not in sys.modules and PathFinder.find_spec(name)
        }
        self.importers = importers
        self.active = True

    def serves(self, module: object) -> bool:
        """Return whether a module gets stand-ins for what it takes from the packages."""
        package = str(module).partition('.')[0]
        # importlib only asks whether there is such an attribute.
        own = package in ('importlib', '_frozen_importlib')
        return self.active and (self.importers is None or own or package in self.importers)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if self.active and fullname.partition('.')[0] in self.packages:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = LaterModule(spec.name)
        module._finder = self
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass

    def stop(self) -> None:
        """Let all imports from now on be real ones."""
        self.active = False
        for name, module in list(sys.modules.items()):
            if isinstance(module, LaterModule) and module._finder is self:
                del sys.modules[name]


@contextmanager
def deferred_imports(*packages: str, importers: Sequence[str] | None = None) -> Iterator[None]:
    """Replace these packages by stand-ins in the modules that are imported in this block.

    Afterwards no stand-in is left in ``sys.modules``, so other code imports the real packages. If
    a module uses a stand-in at once (inherits from it, calls it), the packages are imported from
    then on.

    Args:
        packages: Names of top-level packages. Those that are missing or already imported are not
            deferred.
        importers: Names of the top-level packages whose modules get stand-ins for functions and
            classes. Default: all, also those that other threads import.
    """
    finder = _Finder(packages, importers)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.stop()
        sys.meta_path.remove(finder)
