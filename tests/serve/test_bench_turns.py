"""Work by turns: everyone's requests in each turn, the first turn not counted."""

from __future__ import annotations

from recdistill.serve.bench_turns import by_turns


def test_every_name_takes_its_turn() -> None:
    calls: list[tuple[str, int]] = []
    work = {name: (lambda one, name=name: calls.append((name, one)), [1, 2]) for name in ("a", "b")}
    seconds = by_turns(work, 2)
    assert calls == [("a", 1), ("a", 2), ("b", 1), ("b", 2)] * 3
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 4, "b": 4}
    assert all((taken >= 0).all() for taken in seconds.values())
