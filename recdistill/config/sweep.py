"""A sweep: the sizes that one model is tried in, axis by axis, as a file; or, without one, halves of what the model is.

model: teacher                                     # or a student's name
set: {data.limit: 500000}                          # keys of the whole experiment, as --set gives them
axes:
  history: {history: [5, 10, 25, 50]}              # the first key is the axis; further ones go along, as many values
  each width: {width: [16, 32, 64], options.heads: [1, 2, 4]} kinds: {kind: [din, hstu], options: [{}, {layers: 2}]}
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from recdistill.config.base import Name, Strict, shortened, slug
from recdistill.config.experiment import Experiment
from recdistill.config.load import checked, override, parsed, put, read_text
from recdistill.config.models import ModelConfig
from recdistill.errors import UserError, did_you_mean

__all__ = ["Sized", "Sweep", "default_axes", "load_sweep"]

Axis = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
HALVES = (8, 4, 2, 1)
MAX_SIZE = 1e300
TEACHER_ONLY = ("stale",)
STUDENT_ONLY = ("distill", "domain")
OF_PRESET = ("kind", "width", "history", "batch", "options")


class Sweep(Strict):
    """The whole sweep file; see the module."""

    model: str = "teacher"
    set: dict[str, Any] = {}
    axes: dict[Name, Axis] = {}


class Sized(Strict):
    """One size: the axis it stands on, its number there or None where it has none, and the keys that make it."""

    axis: str
    x: float | None
    changes: dict[str, Any]


def load_sweep(
    config: Path, sweep: Path | None, axes: list[str], assignments: list[str] | None
) -> tuple[Experiment, dict[str, Sized]]:
    """Return (an experiment whose students are the sizes, the sizes by student's name); `axes` names those wanted,
    none: all.

    Raises UserError that names the file and the first wrong key.
    """
    tree = parsed(read_text(config), str(config))
    found = checked(Sweep, parsed(read_text(sweep), str(sweep)) if sweep else {}, str(sweep))
    for key, value in found.set.items():
        put(tree, key, value, f"{sweep}: set")
    for assignment in assignments or []:
        override(tree, assignment)
    whole = checked(Experiment, tree, str(config))
    base = _base(whole, found.model, sweep or config)
    named = found.axes or default_axes(base)
    for axis in axes:
        if axis not in named:
            raise UserError(
                f"--axis {axis}: the sweep has no such axis{did_you_mean(axis, named)}; it has {', '.join(named)}"
            )
    students, sizes = {}, {}
    for axis in axes or named:
        for name, sized in _sizes(axis, named[axis], str(sweep)).items():
            students[name], sizes[name] = _changed(base, sized.changes, f"{sweep or config}: {name}"), sized
    tree |= {
        "name": f"{whole.name}-scale",
        "students": students,
        "teacher": {},
        "teachers": {},
        "candidates": {},
        "teacher_hidden": {},
    }
    return checked(Experiment, tree, f"{config} with {sweep or 'halves of it'}"), sizes


def _base(experiment: Experiment, name: str, where: Path) -> ModelConfig:
    models: dict[str, ModelConfig] = {**experiment.students, "teacher": experiment.teacher}
    if name not in models:
        raise UserError(f"{where}: model: there is no '{name}'{did_you_mean(name, models)}")
    return models[name]


def default_axes(model: ModelConfig) -> dict[str, dict[str, list[Any]]]:
    """Return eighth, quarter, half and whole of a model's history, width and data, and of its dense part where its
    options say how.

    What heads or tokens do not divide is left out; so is an axis on which there is nothing below the whole.
    """
    learned = model.sampling
    axes: dict[str, dict[str, list[Any]]] = {
        "history": {"history": _halves(model.history, 1)},
        "width": {"width": _halves(model.width, 2 * _whole(model, "heads", 1))},
        "data": {
            "sampling": [{"positive": learned.positive / part, "negative": learned.negative / part} for part in HALVES]
        },
    }
    if model.kind == "token-mixer":
        step = _whole(model, "mixer_heads", _whole(model, "tokens", 8))
        axes["dense"] = {"options.mixer_width": _halves(_whole(model, "mixer_width", 64), step)}
    else:
        axes["dense"] = {"options.hidden": _hidden_halves(model.options.get("hidden", [64, 32]))}
    return {name: keys for name, keys in axes.items() if all(len(values) > 1 for values in keys.values())}


def _halves(whole: int, step: int) -> list[int]:
    """Return eighth, quarter and half of `whole`, each a multiple of `step`, and `whole` as it is;
    ascending, each once.
    """
    return sorted({size for part in HALVES if 0 < (size := whole // part // step * step) < whole} | {whole})


def _hidden_halves(hidden: Any) -> list[list[int]]:
    """Return the same of the sizes of hidden layers, none below 4 but those that are; nothing for what is
    no list of sizes.
    """
    if not isinstance(hidden, list) or not all(isinstance(size, int) and size > 0 for size in hidden):
        return []
    found = [[min(size, max(4, size // part)) for size in hidden] for part in HALVES]
    return [sizes for place, sizes in enumerate(found) if sizes not in found[:place]]


def _whole(model: ModelConfig, option: str, default: int) -> int:
    """Return an option that counts something; its default where it is no count: building the model refuses it."""
    value = model.options.get(option, default)
    return value if isinstance(value, int) and value > 0 else default


def _sizes(axis: str, keys: dict[str, list[Any]], where: str) -> dict[str, Sized]:
    """Return the sizes of an axis by name."""
    counts = {len(values) for values in keys.values()}
    if len(counts) > 1:
        raise UserError(
            f"{where}: axes.{axis}: its keys have {' and '.join(map(str, sorted(counts)))} values; give each as many"
        )
    found = {}
    for place, values in enumerate(zip(*keys.values(), strict=True)):
        x = _number(values[0])
        text = f"{x:g}" if x is not None else str(values[0]) if isinstance(values[0], str) else str(place + 1)
        name = shortened(f"{axis}-{slug(text)}")
        name = shortened(f"{name}-{place + 1}") if name in found else name
        found[name] = Sized(axis=axis, x=x, changes=dict(zip(keys, values, strict=True)))
    return found


def _number(value: Any) -> float | None:
    """Return what a value stands for on its axis: a number itself, a sampling its share; None for anything else."""
    value = value.get("negative") if isinstance(value, dict) else value
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_SIZE
        else None
    )


def _changed(base: ModelConfig, changes: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the keys of a student without a teacher: those of `base` with the changes."""
    tree = copy.deepcopy(base.model_dump(mode="json", exclude=set(TEACHER_ONLY + STUDENT_ONLY)))
    if "kind" in changes:
        tree["options"] = {}
    if "preset" in changes:  # whose keys are to win over those of the model
        tree = {key: value for key, value in tree.items() if key not in OF_PRESET}
    for key, value in changes.items():
        if key.partition(".")[0] in STUDENT_ONLY:
            raise UserError(f"{where}: {key}: sizes learn from labels alone, from every sample; leave it out")
        put(tree, key, value, where)
    return {**tree, "distill": {"weight": 0.0, "towers": "single"}}
