"""A draft of an experiment file: what was guessed, and its YAML with a reason and a doubt as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from recdistill.config.base import MAX_NAME, NAME, slug
from recdistill.errors import printable

__all__ = ["Draft", "Feature", "Guess", "Task", "name_of", "yaml_of"]

SHOWN = 200  # features, and columns left out; further ones are counted
KEYS = ("sample_id", "time", "time_unit", "user", "item", "request")  # in the order of the file
MODELS = """teacher: {kind: target-attention, width: 64, history: 100}
students:
  light: {kind: din, width: 16, history: 20, distill: {weight: 1.0}}
"""


@dataclass(frozen=True)
class Guess:
    """value: of a key; reason: why; doubt: what may be wrong about it."""

    value: Any
    reason: str
    doubt: str = ""


@dataclass(frozen=True)
class Task:
    """spec: a column, a mapping with at_least or equals, or 1; column: the one that it is made of, '' for none."""

    name: str
    column: str
    spec: Any
    reason: str
    doubt: str = ""


@dataclass(frozen=True)
class Feature:
    """kind: categorical, numeric or lists; separator: of a list that is text."""

    name: str
    kind: str
    reason: str
    doubt: str = ""
    separator: str = ","


@dataclass(frozen=True)
class Draft:
    """path: of the log; looked: which rows were looked at; ids: by key of `columns`; label_times: by task; settings:
    other keys, by their path; left_out: (column, why); hints: what to think about; missing: what could not be guessed.
    """

    path: str
    looked: str
    ids: dict[str, Guess] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    label_times: dict[str, Guess] = field(default_factory=dict)
    features: tuple[Feature, ...] = ()
    settings: dict[str, Guess] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    hints: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def text(self, tried: str = "") -> str:
        """Return the file; `tried`: what reading the rows by it gave."""
        out = [
            f"# A draft, made by recdistill peek of {_plain(self.path)}: every line is a guess.",
            f"# Looked at: {self.looked}.",
        ]
        out += ["# A comment says why; '?' marks a doubt. Settle the doubts before you trust a figure."]
        out += [f"# {_plain(line)}" for line in (tried, *(f"missing: {line}" for line in self.missing)) if line]
        out += [f"# hint: {_plain(line)}" for line in self.hints]
        out += [f"name: {yaml_of(name_of(self.path))}", "data:"]
        out += [f"  path: {yaml_of(self.path)}"]
        for key in ("header", "separator", "sort", "drop_missing"):
            out += _keyed(key, self.settings.get(f"data.{key}"), "  ")
        out += ["  columns:", *self._columns()]
        out += _keyed("vectors", self.settings.get("data.vectors"), "  ")
        out += _left_out(self.left_out)
        for key in ("labels.window_s", "evaluate.group"):
            group, _, name = key.partition(".")
            if found := self.settings.get(key):
                out += [f"{group}:", *_keyed(name, found, "  ")]
        return "\n".join(out) + "\n" + MODELS

    def _columns(self) -> Iterator[str]:
        for key in KEYS:
            yield from _keyed(key, self.ids.get(key), "    ")
        yield "    tasks:"
        for task in self.tasks:
            yield from _lines(task, "      ")
            yield f"      {yaml_of(task.name)}: {yaml_of(task.spec)}"
        if self.label_times:
            yield "    label_times:"
            for name, found in self.label_times.items():
                yield from _keyed(yaml_of(name), found, "      ")
        for kind in ("categorical", "numeric", "lists"):
            yield from _features([one for one in self.features if one.kind == kind], kind)
        for key in ("sequences", "dtypes"):
            yield from _keyed(key, self.settings.get(f"data.columns.{key}"), "    ")


def name_of(path: str) -> str:
    """Return a name for the experiment, of the log's path."""
    last = next((part for part in reversed(re.split(r"[/\\]", path)) if part.strip(".")), "")
    name = slug(re.split(r"\.", last.lstrip("."))[0]).strip("_.-")[:MAX_NAME]
    return name if NAME.fullmatch(name) else "my-log"


class _Dumper(yaml.SafeDumper):
    """Quotes text so that it stays on one line."""


def _one_line(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _one_line)


def yaml_of(value: Any) -> str:
    """Return a value as YAML on one line, as it may stand inside of brackets."""
    text = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=1 << 30, sort_keys=False
    )
    return text.strip()[1:-1]


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))


def _lines(found: Guess | Task, indent: str) -> list[str]:
    """Return a reason and a doubt as comments."""
    doubt = [f"{indent}# ? {_plain(found.doubt)}"] if found.doubt else []
    return [f"{indent}# {_plain(found.reason)}", *doubt]


def _keyed(key: str, found: Guess | None, indent: str) -> list[str]:
    return [] if found is None else [*_lines(found, indent), f"{indent}{key}: {yaml_of(found.value)}"]


def _features(features: Sequence[Feature], kind: str) -> Iterator[str]:
    if features:
        yield f"    {kind}:"
    for one in features[:SHOWN]:
        doubt = f" ? {_plain(one.doubt)}" if one.doubt else ""
        entry = f"{yaml_of(one.name)}: {yaml_of(one.separator)}" if kind == "lists" else f"- {yaml_of(one.name)}"
        yield f"      {entry}  # {_plain(one.reason)}{';' if doubt else ''}{doubt}"
    if len(features) > SHOWN:
        yield f"      # ? {len(features) - SHOWN:,} further columns look {kind}; add those that matter"


def _left_out(columns: Sequence[tuple[str, str]]) -> list[str]:
    out = ["  # Columns that are not used:"] if columns else []
    out += [f"  #   {_plain(name)}: {_plain(why)}" for name, why in columns[:SHOWN]]
    return out + ([f"  #   and {len(columns) - SHOWN:,} others"] if len(columns) > SHOWN else [])
