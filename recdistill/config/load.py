"""From YAML to an experiment: a wrong key or value is refused by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recdistill.config.bounded_yaml import MAX_BYTES, MAX_DEPTH, parse_yaml
from recdistill.config.experiment import Experiment
from recdistill.errors import UserError, did_you_mean

__all__ = ["checked", "load_file", "load_text", "override", "parsed", "put", "read_text"]

Model = TypeVar("Model", bound=BaseModel)
NAMED = ("students", "teachers")  # groups whose keys are names of the user's
OF_PYDANTIC = re.compile(r"^(\[key\]|constrained-\w+|(list|dict|literal)\[.*)$")  # no part of a key as it is written
LONG = 100  # characters of a key that are shown


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed next to the one at `location` of a `model`."""
    models = [model]
    for step in location[:-1]:
        nested = [
            m
            for model in models
            if str(step) in model.model_fields
            for m in _models_in(model.model_fields[str(step)].annotation)
        ]
        models = nested or models
    return [key for model in models for key in model.model_fields]


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> UserError:
    first = _nearest(error.errors())
    key = ".".join(str(part)[:LONG] for part in first["loc"] if not OF_PYDANTIC.match(str(part)))
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"])
        return UserError(f"{where}: unknown key '{key}'{did_you_mean(str(first['loc'][-1])[:LONG], known)}")
    problem = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # about several keys, which it names
        return UserError(f"{where}: {key}{': ' if key else ''}{problem}")
    problem = problem[:1].lower() + problem[1:]
    return UserError(f"{where}: '{key}': {problem}; got {str(first['input'])[:60]!r}")


def _nearest(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """Return the first error; where its value may be of several types, that of the type which it comes nearest to."""
    first = errors[0]
    at = next((n for n, part in enumerate(first["loc"]) if OF_PYDANTIC.match(str(part))), len(first["loc"]))
    return max((one for one in errors if one["loc"][:at] == first["loc"][:at]), key=lambda one: len(one["loc"]))


def put(tree: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set `key.path` of a parsed YAML tree in place; UserError when the path runs through something that is
    not a mapping.
    """
    *parents, last = path.split(".")
    if len(parents) >= MAX_DEPTH:
        raise UserError(f"{where}: a key of more than {MAX_DEPTH} parts")
    node: Any = tree
    for part in parents:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UserError(f"{where}: '{part}' is not a group of keys")
    node[last] = value


def _check_named(tree: dict[str, Any], path: str) -> None:
    """Refuse a key of a student or teacher that is not there: it would be a further one, all defaults but that key."""
    group, _, below = path.partition(".")
    name, _, key = below.partition(".")
    known = tree.get(group)
    if key and group in NAMED and isinstance(known, dict) and name not in known:
        raise UserError(f"--set {path}: there is no '{name}' under {group}{did_you_mean(name, known)}")


def override(tree: dict[str, Any], assignment: str) -> None:
    """Apply one `key.path=value` to a parsed YAML tree in place; the value is YAML.

    Raises UserError when there is no '=', no value, the path runs through something that is not a mapping, or into a
    student or teacher that the file does not have, where it has others.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise UserError(f"--set {assignment!r}: write it as key.path=value")
    if not text.strip():
        raise UserError(f"--set {assignment!r}: has no value; write null for none")
    _check_named(tree, path)
    put(tree, path, parse_yaml(text, f"--set {path}"), f"--set {path}")


def parsed(text: str, where: str) -> dict[str, Any]:
    """Return the keys of YAML text; UserError when it holds anything else."""
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict):
        raise UserError(f"{where}: expected keys like 'name:' and 'data:', got {type(tree).__name__}")
    return tree


def checked(model: type[Model], tree: dict[str, Any], where: str) -> Model:
    """Return the `model` of parsed keys; UserError names the first wrong one."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, model, where) from None


def load_text(text: str, assignments: list[str] | None = None, where: str = "config") -> Experiment:
    """Parse an experiment from YAML text with `--set` assignments on top; UserError names the first wrong key."""
    tree = parsed(text, where)
    for assignment in assignments or []:
        override(tree, assignment)
    return checked(Experiment, tree, where)


def read_text(path: Path) -> str:
    """Return the text of an experiment file; UserError when it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES >> 10} KiB; is this the experiment file?")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: cannot read the experiment file: {reason}") from None


def load_file(path: Path, assignments: list[str] | None = None) -> Experiment:
    """Read an experiment file; see `load_text`."""
    return load_text(read_text(path), assignments, str(path))
