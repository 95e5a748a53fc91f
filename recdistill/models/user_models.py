"""Models that the user brings, named in the experiment file as `package.module:Class`.

Naming one runs its module, with the rights of the user: an experiment file is code. Only importable modules are taken,
from the working directory or installed; nothing is unpickled or evaluated.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from recdistill.defaults import USER_KIND
from recdistill.errors import UserError, did_you_mean

__all__ = ["import_model", "importable", "is_user_model", "kind_of"]


def is_user_model(kind: str) -> bool:
    """Return whether `kind` names a class of a module rather than a model of this package."""
    return USER_KIND.match(kind) is not None


def import_model(kind: str) -> type[nn.Module]:
    """Return the class that `package.module:Class` names.

    Raises UserError, which says where the module was looked for, when there is no such module or class, when importing
    it fails, or when the class is no torch.nn.Module.
    """
    module_name, _, name = kind.partition(":")
    module = _module(kind, module_name)
    found = getattr(module, name, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if _is_network(value)]
        raise UserError(f"model kind {kind!r}: {module_name} has no '{name}'{did_you_mean(name, classes)}")
    if not _is_network(found):
        raise UserError(f"model kind {kind!r}: {name} is no torch.nn.Module class; see docs 'Bring your model'")
    return found  # type: ignore[no-any-return]


def kind_of(network: type[nn.Module]) -> str:
    """Return the text that names a class in an experiment file; UserError for a class inside a function or class."""
    if "." in network.__qualname__:
        raise UserError(f"{network.__qualname__}: define the class at the top level of a module or notebook")
    return f"{network.__module__}:{network.__name__}"


def importable(kind: str) -> bool:
    """Return whether another process can import the class; one that a notebook or a script defines it cannot."""
    if not is_user_model(kind):
        return True
    try:
        found = importlib.util.find_spec(kind.partition(":")[0])
    except (ImportError, ValueError):  # a parent package is missing; a module that was made, not loaded
        return False
    return found is not None and not kind.startswith("__main__:")


def _is_network(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _module(kind: str, name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    here = str(Path.cwd())
    if here not in sys.path:  # a console script's path begins with its own folder
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"model kind {kind!r}: no module '{error.name}' in {here} or among the installed packages"
            ) from None
        raise UserError(f"model kind {kind!r}: importing {name} failed: {error}") from error
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything
        raise UserError(f"model kind {kind!r}: importing {name} failed: {type(error).__name__}: {error}") from error
