"""Small logs of random schemas: everything that a log may give, in any combination, and requests as rows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from recdistill.serve.request import Past

__all__ = ["Asked", "RandomLog", "random_logs"]

ROWS, USERS, ITEMS, WIDTH, SEEN = 90, 9, 14, 3, 6
START = 1_700_000_000  # seconds
TYPES: dict[str, pl.DataType] = {
    "int64": pl.Int64(),
    "string": pl.String(),
    "float32": pl.Float64(),
    "list<int64>": pl.List(pl.Int64()),
    "list<string>": pl.List(pl.String()),
}
TASKS: dict[str, dict[str, Any]] = {
    "one": {"click": "label"},
    "two": {"click": "label", "like": "other"},
    "values": {"seconds": {"column": "amount", "regression": "log"}},
    "both": {"click": "label", "seconds": {"column": "amount", "regression": "huber"}},
}


@dataclass(frozen=True)
class RandomLog:
    """What a log has. features: types of the columns f0, f1 ...; history: samples, behaviors, given or given with
    times; sequences: of s0, s1 ..., whether with times; vectors: of item, user, row-item, row-user.
    """

    seed: int
    user: bool
    time: bool
    text: tuple[bool, bool]
    features: tuple[str, ...]
    history: str
    sequences: tuple[bool, ...]
    vectors: tuple[str, ...]
    tasks: str
    length: int
    numeric_as: str
    numbers: tuple[str, ...]

    @property
    def given(self) -> dict[str, bool]:
        """Return the sequences that rows bring, the history among them, by name: whether with times."""
        found = {"history": self.history == "given with times"} if self.history.startswith("given") else {}
        return {**found, **{f"s{at}": timed for at, timed in enumerate(self.sequences)}}

    def experiment(self, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the experiment file of a model of that kind, which learns in a few steps."""
        names = {f"f{at}": one for at, one in enumerate(self.features)}
        columns: dict[str, Any] = {
            "tasks": TASKS[self.tasks],
            "user": "user_id" if self.user else None,
            "time": "time" if self.time else None,
            "categorical": [name for name, one in names.items() if one in ("int64", "string")],
            "numeric": [name for name, one in names.items() if one == "float32"],
            "lists": {name: "|" for name, one in names.items() if one.startswith("list")},
            "sequences": {
                name: {"items": name, "times": f"{name}_t"} if timed else {"items": name}
                for name, timed in self.given.items()
            },
        }
        data: dict[str, Any] = {"path": "log.parquet", "columns": columns, "list_length": 2, "vectors": {}}
        if self.history == "behaviors":
            data["behaviors"] = {"path": "behaviors.parquet", "action": "action"}
        for one in self.vectors:
            of = one.removeprefix("row-")
            own = {"column": f"v_{of}"} if one.startswith("row-") else {"path": f"{one}.parquet", "key": "id"}
            data["vectors"][one.replace("-", "_")] = {**own, "of": of}
        network = {"kind": kind, "options": dict(options), "width": 6, "history": self.length, "batch": 30}
        rates = {"table_rate": 0.2, "dense_rate": 0.02, "numeric_as": self.numeric_as, "numbers": list(self.numbers)}
        student = {"kind": "pooled-mlp", "width": 4, "history": 3, "batch": 30}
        run = {"evaluate": {"seeds": [0], "bootstrap": 20}, "checkpoint_rows": 60, "processes": 1}
        return {"name": "random", "data": data, "teacher": network | rates, "students": {"light": student}, **run}

    def write(self, folder: Path) -> None:
        """Write the log and its tables."""
        draw = np.random.default_rng(self.seed)
        self.rows(draw, ROWS, draw.integers(0, USERS, ROWS), START + np.arange(ROWS) * 7, fresh=0).with_columns(
            label=draw.integers(0, 2, ROWS), other=draw.integers(0, 2, ROWS), amount=draw.exponential(5, ROWS)
        ).write_parquet(folder / "log.parquet")
        count = 60
        pl.DataFrame(
            {
                "time": np.sort(START + draw.integers(0, ROWS * 7, count)),
                "user_id": self.ids("user", draw.integers(0, USERS, count)),
                "item_id": self.ids("item", draw.integers(0, ITEMS, count)),
                "action": [("view", "cart", "buy")[k % 3] for k in range(count)],
            }
        ).write_parquet(folder / "behaviors.parquet")
        for side, size in (("item", ITEMS + 4), ("user", USERS + 4)):
            some = np.flatnonzero(draw.random(size) < 0.7)
            vectors = draw.normal(0, 2, (len(some), WIDTH)).tolist()
            pl.DataFrame({"id": self.ids(side, some), "embedding": vectors}).write_parquet(folder / f"{side}.parquet")

    def ids(self, side: str, numbers: np.ndarray) -> pl.Series:
        """Return ids of a side as the log writes them."""
        text = self.text[side == "item"]
        return pl.Series(
            [f"{side}-{k}" if text else int(k) * 10 for k in numbers], dtype=pl.String if text else pl.Int64
        )

    def rows(self, draw: np.random.Generator, n: int, user: np.ndarray, time: np.ndarray, fresh: int) -> pl.DataFrame:
        """Return rows; `fresh` more of each kind of value than the log has, which it never saw."""
        columns: dict[str, Any] = {"time": time, "user_id": self.ids("user", user)}
        columns["item_id"] = self.ids("item", draw.integers(0, ITEMS + fresh, n))
        for at, kind in enumerate(self.features):
            values = [None if draw.random() < 0.15 else self._value(draw, kind, fresh) for _ in range(n)]
            columns[f"f{at}"] = pl.Series(values, dtype=TYPES[kind])
        for name, timed in self.given.items():
            lengths = draw.integers(0, 2 * self.length + 2, n)
            columns[name] = [self.ids("item", draw.integers(0, ITEMS + fresh, k)).to_list() for k in lengths]
            if timed:
                columns[f"{name}_t"] = [
                    np.sort(int(at) - draw.integers(1, 10**6, k)).tolist() for at, k in zip(time, lengths, strict=True)
                ]
        for one in self.vectors:
            if one.startswith("row-"):
                vectors = [None if draw.random() < 0.2 else draw.normal(0, 2, WIDTH).tolist() for _ in range(n)]
                vectors[0] = [1.0, 2.0, 3.0]
                columns[f"v_{one.removeprefix('row-')}"] = pl.Series(vectors, dtype=pl.List(pl.Float64))
        frame = pl.DataFrame({name: values for name, values in columns.items()})
        for name in self.given:  # lists that are all empty have no type of their own
            of = pl.String if self.text[1] else pl.Int64
            frame = frame.with_columns(pl.col(name).cast(pl.List(of)))
        return frame.with_columns(
            pl.col(f"{name}_t").cast(pl.List(pl.Int64)) for name, timed in self.given.items() if timed
        )

    def _value(self, draw: np.random.Generator, kind: str, fresh: int) -> Any:
        if kind == "float32":
            return float(np.float32(draw.normal(0, 10)))
        if kind.startswith("list"):
            inner = kind.removeprefix("list<").removesuffix(">")
            return [self._value(draw, inner, fresh) for _ in range(draw.integers(0, 4))]
        number = int(draw.integers(0, SEEN + fresh))
        return f"w{number}" if kind == "string" else number

    def asked(self, draw: np.random.Generator) -> Asked:
        """Return a request a day after the log, and the same as rows to predict."""
        n, moment = int(draw.integers(1, 7)), START + ROWS * 7 + 86_400
        user = np.full(n, draw.integers(0, USERS + 3))
        rows = self.rows(draw, n, user, np.full(n, moment), fresh=3)
        shared = [*self.given, *(f"{name}_t" for name, timed in self.given.items() if timed)]
        features = {f"f{at}": f"f{at}" for at in range(len(self.features))}
        features |= {one.replace("-", "_"): f"v_{one.removeprefix('row-')}" for one in self.vectors if "-" in one}
        of_user = {name: column for name, column in features.items() if draw.random() < 0.5}
        shared += of_user.values()
        rows = rows.with_columns(pl.lit(rows[name].first(), rows[name].dtype).alias(name) for name in shared)
        asked = Asked(rows, moment, rows["user_id"][0] if self.user else None)
        asked.features |= {name: _plain(rows[column])[0] for name, column in of_user.items()}
        asked.item_features |= {name: _plain(rows[one]) for name, one in features.items() if name not in of_user}
        for name, timed in self.given.items():
            times = _plain(rows[f"{name}_t"])[0] if timed else ()
            asked.past[name] = Past(_plain(rows[name])[0], times)
        return asked


@dataclass
class Asked:
    """A request, and its candidates as rows; past: by the names of the sequences, history among them."""

    rows: pl.DataFrame
    time: float
    user: Any
    features: dict[str, Any] = field(default_factory=dict)
    item_features: dict[str, Any] = field(default_factory=dict)
    past: dict[str, Past] = field(default_factory=dict)


def _plain(column: pl.Series) -> list[Any]:
    return column.to_list()


@st.composite
def random_logs(draw: st.DrawFn) -> RandomLog:
    """Draw a log."""
    user, time = draw(st.sampled_from([(True, True)] * 5 + [(False, True), (True, False), (False, False)]))
    both = user and time
    histories = ["samples", "given", *(["given with times"] if time else []), *(["behaviors"] if both else [])]
    vectors = ["item", "row-item", "row-user", *(["user"] if user else [])]
    return RandomLog(
        seed=draw(st.integers(0, 2**31)),
        user=user,
        time=time,
        text=draw(st.tuples(st.booleans() if user else st.just(False), st.booleans())),
        features=tuple(draw(st.lists(st.sampled_from(list(TYPES)), max_size=5))),
        history=draw(st.sampled_from(histories)),
        sequences=tuple(draw(st.lists(st.booleans() if time else st.just(False), max_size=2))),
        vectors=tuple(draw(st.lists(st.sampled_from(vectors), unique=True, max_size=3))),
        tasks=draw(st.sampled_from(list(TASKS))),
        length=draw(st.sampled_from([1, 2, 5])),
        numeric_as=draw(st.sampled_from(["both", "values", "buckets"])),
        numbers=tuple(draw(st.lists(st.sampled_from(["counts", "repeats"]), unique=True))),
    )
