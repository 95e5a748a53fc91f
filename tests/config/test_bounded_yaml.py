"""Experiment files that were made to hurt are refused at once, in one line; what people write passes."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from recdistill.cli import app as cli
from recdistill.config.bounded_yaml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_yaml
from recdistill.config.load import load_text, parsed
from recdistill.errors import UserError

GOOD = "name: x\ndata: {path: a.parquet}\n"


def bomb(levels: int = 9, width: int = 9) -> str:
    """Return levels of lists, each of them `width` times the one before."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * width)}]" for k in range(1, levels)]
    return "\n".join(lines) + "\n"


MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}], k{k}: 1}}\n" for k in range(1, 10)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}]\n" for k in range(1, 2000))
BAD: dict[str, tuple[str, str]] = {
    "nine levels of nine": (bomb(), "line 5: more than 50,000 values"),
    "thirty levels of two": (bomb(30, 2), "more than 50,000 values"),
    "merges": (MERGES, "more than 50,000 values"),
    "a chain of aliases": (CHAIN, f"nested more than {MAX_DEPTH} levels deep"),
    "deep lists": ("a: " + "[" * 100_000, f"line 1: nested more than {MAX_DEPTH} levels deep"),
    "deep groups": ("a: " + "{b: " * 50_000, f"nested more than {MAX_DEPTH} levels deep"),
    "deep dashes": ("a:\n  " + "- " * 50_000, f"nested more than {MAX_DEPTH} levels deep"),
    "deep questions": ("? " * 50_000, f"nested more than {MAX_DEPTH} levels deep"),
    "an alias in itself": ("a: &a [*a]\n", "line 1: an alias stands inside of what it stands for"),
    "a group in itself": ("a: &a {b: *a}\n", "an alias stands inside of what it stands for"),
    "an alias of nothing": ("a: *b\n", "is not YAML: found undefined alias"),
    "large": (GOOD + "# " + "x" * MAX_BYTES, "larger than 256 KiB"),
    "a key twice": (GOOD + "teacher: {width: 8}\nteacher: {width: 16}\n", "line 4: the key 'teacher' stands twice"),
    "an inner key twice": (GOOD + 'teacher: {width: 8, "width": 16}\n', "line 3: the key 'width' stands twice"),
    "a date of no calendar": ("name: 2024-13-45\n", "a value that cannot be"),
    "many digits": (f"teacher: {{width: {'9' * 5000}}}\n", "a value that cannot be"),
    "many hex digits": (f"teacher: {{width: 0x{'f' * 5000}}}\n", "a whole number of more than 63 bits"),
    "a null byte": ('data: {path: "a\\0b"}\n', "no name or path may have"),
    "half a character": ('data: {path: "\\uD800"}\n', "no name or path may have"),
    "an object": ("a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
    "a list as a key": ("? [a]\n: b\n", "is not YAML"),
    "two documents": ("a: 1\n---\nb: 1\n", "is not YAML"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_what_was_made_to_hurt_is_refused_in_little_memory(text: str, message: str) -> None:
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        parsed(text, "mine.yaml")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).startswith("mine.yaml:") and message in str(caught.value) and "\n" not in str(caught.value)
    assert peak < 8 << 20


@pytest.mark.parametrize("value", [bomb(), "[" * 100_000, "{a: 1, a: 2}", "2024-13-45", "&a [*a]", "'\0'"])
def test_a_value_of_set_has_the_same_bounds(value: str) -> None:
    with pytest.raises(UserError, match=r"^--set teacher\.options"):
        load_text(GOOD, [f"teacher.options={value}"])


def test_a_key_of_set_is_not_endless() -> None:
    with pytest.raises(UserError, match="a key of more than 32 parts"):
        load_text(GOOD, [f"{'a.' * 5000}b=1"])


@pytest.mark.parametrize("verb", ["ingest", "run", "plan", "stream", "ablate", "scale"])
def test_every_verb_refuses_a_bomb(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb.yaml").write_text(bomb(), encoding="utf-8")
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    words: dict[str, list[str]] = {
        "ablate": ["good.yaml", "--grid", "bomb.yaml"],
        "scale": ["good.yaml", "--sweep", "bomb.yaml"],
    }
    monkeypatch.setattr(sys, "argv", ["recdistill", verb, *words.get(verb, ["bomb.yaml"])])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    printed = capsys.readouterr().err
    assert caught.value.code == 2 and printed.startswith("recdistill: bomb.yaml: line ") and printed.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.yaml", "good.yaml"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("a: &x {b: 1}\nc: &y {d: 2}\ne: {<<: [*x, *y]}\n", {"a": {"b": 1}, "c": {"d": 2}, "e": {"b": 1, "d": 2}}),
        ("a: &x [1, 2]\nb: *x\nc: *x\n", {"a": [1, 2], "b": [1, 2], "c": [1, 2]}),
        ("[1.5, null, true, 'a', 2001-01-01T00:00:00Z]", None),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
        ("", None),
    ],
)
def test_what_people_write_passes(text: str, value: Any) -> None:
    found = parse_yaml(text, "x")
    assert found == value or value is None


def test_the_bounds_are_wide(tmp_path: Path) -> None:
    deep = "a: " + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2)
    assert parse_yaml(deep, "x") and len(parse_yaml(f"[{'0,' * (MAX_VALUES - 2)}0]", "x")) == MAX_VALUES - 1
    with pytest.raises(UserError, match="nested"):
        parse_yaml(deep.replace("[]", "[[]]").replace("[[]]", "[[[]]]"), "x")


def test_numbers_without_bounds_are_refused() -> None:
    for value in (".inf", "-.inf", ".nan", "1.0e+999"):
        with pytest.raises(UserError, match=r"stream\.wait_s"):
            load_text(GOOD, [f"stream.wait_s={value}"])
