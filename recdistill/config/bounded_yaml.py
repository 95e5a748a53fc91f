"""YAML with bounds: what a person writes passes, what was made to exhaust memory or time is refused at once.

A file of nine levels of nine aliases is some hundred bytes and stands for 387 million values: what counts is what an
alias stands for, so every alias is counted as the whole that it repeats.
"""

from __future__ import annotations

from typing import Any

import yaml

from recdistill.errors import UserError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "parse_yaml"]

MAX_BYTES = 1 << 18  # of a file
MAX_DEPTH = 32  # levels of nesting, aliases followed
MAX_VALUES = 50_000  # keys and values, aliases followed
MERGE = "tag:yaml.org,2002:merge"


class _Refused(Exception):
    """What the bounds do not let through, and the line where it stands, None for the whole text."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(problem)
        self.line = mark.line + 1 if mark else None


def parse_yaml(text: str, where: str) -> Any:
    """Return what YAML text holds, as `yaml.safe_load` would; `where` is for messages.

    Raises UserError for what is no YAML, is larger or deeper than the bounds of this module, has an alias inside of
    what it stands for, names a key twice in one group, or holds a character that no name or path may have.
    """
    try:
        if len(text.encode(errors="replace")) > MAX_BYTES:
            raise _Refused(f"larger than {MAX_BYTES >> 10} KiB")
        return _loaded(text)
    except _Refused as error:
        raise UserError(f"{where}:{f' line {error.line}:' if error.line else ''} {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{where}:{line} is not YAML: {getattr(error, 'problem', None) or 'cannot be parsed'}"
        ) from None
    except (ValueError, OverflowError) as error:  # a date of no calendar, a number of 5,000 digits
        raise UserError(f"{where}: a value that cannot be: {error}") from None


def _loaded(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Composes at most MAX_DEPTH levels, and looks over the whole before anything is made of it."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.depth >= MAX_DEPTH:
            raise _too_deep(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _measured(node, {})
        return node


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    value = int(loader.construct_yaml_int(node))
    if abs(value) >= 1 << 63:
        raise _Refused("a whole number of more than 63 bits", node.start_mark)
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
Sizes = dict[int, tuple[int, int] | None]  # id of a node -> (values, levels) that it stands for; None: being measured


def _measured(node: yaml.Node, known: Sizes) -> tuple[int, int]:
    """Return (values, levels) of a node, everything that aliases repeat counted again; raises as `parse_yaml`."""
    if id(node) in known:
        if (size := known[id(node)]) is None:
            raise _Refused("an alias stands inside of what it stands for", node.start_mark)
        return size
    known[id(node)] = None
    _check(node)
    sizes = [_measured(part, known) for part in _parts(node)]
    values, depth = 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
    if values > MAX_VALUES:
        raise _Refused(f"more than {MAX_VALUES:,} values, those counted that aliases repeat", node.start_mark)
    if depth > MAX_DEPTH:
        raise _too_deep(node.start_mark)
    known[id(node)] = values, depth
    return values, depth


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check(node: yaml.Node) -> None:
    """Refuse a key that stands twice in a mapping, and text that no path, name or terminal takes."""
    if isinstance(node, yaml.MappingNode):
        met = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE):
            if (key.tag, key.value) in met:
                raise _Refused(f"the key {key.value[:60]!r} stands twice in one group", key.start_mark)
            met.add((key.tag, key.value))
    elif isinstance(node, yaml.ScalarNode) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in node.value):
        raise _Refused("text with a character that no name or path may have", node.start_mark)


def _too_deep(mark: yaml.Mark) -> _Refused:
    return _Refused(f"nested more than {MAX_DEPTH} levels deep", mark)
