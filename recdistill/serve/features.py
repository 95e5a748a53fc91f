"""Features of a request as a student reads them: rows of the vocabulary that all features share, and numbers.

Shapes: C candidates, F context fields, M list slots, W numbers of numeric features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recdistill.data.buckets import ANY_SCALE, MISSING, bucket_of
from recdistill.data.keys import context_key
from recdistill.data.scales import ANY_VALUE, scaled
from recdistill.defaults import SECOND
from recdistill.errors import UserError, did_you_mean
from recdistill.serve.artefact import Artefact
from recdistill.serve.request import SHOWN, Request
from recdistill.serve.values import id_of, numbers_of_values, shown
from recdistill.typing import Array

__all__ = ["Features", "Placed", "placed"]


HOUR = 3600 * SECOND
MAX_SEEN = 50_000  # values of a feature whose rows are remembered
PLAIN = (int, str)


class Placed(NamedTuple):
    """Indices of a table that are looked up, int64 [U], 0 first, and where each of a request's stands among them."""

    ids: Array
    places: Array


def placed(indices: Array, first: int) -> Array:
    """Return where indices int64 [n] stand that follow one another from place `first` on; 0, the padding, at 0."""
    return np.arange(first, first + len(indices)) * np.not_equal(indices, 0)


class _Rows:
    """The indices that one request looks up, in the order in which they were met."""

    def __init__(self) -> None:
        self.ids = [0]

    def one(self, index: int) -> int:
        """Return the place of an index."""
        if not index:
            return 0
        self.ids.append(index)
        return len(self.ids) - 1

    def many(self, indices: Array) -> Array:
        """Return the places of indices int64 [n]."""
        first = len(self.ids)
        self.ids += indices.tolist()
        return placed(indices, first)


class _Numeric(NamedTuple):
    """A numeric feature. buckets: int64, the index of each bucket in the vocabulary, that of a missing value first."""

    edges: Array
    scale: tuple[float, float, float]
    buckets: Array

    def read(self, values: Array) -> tuple[Array, Array]:
        """Return (int64 [n], indices of the values' buckets; float32 [n, 2], `scaled`)."""
        return self.buckets[bucket_of(values, self.edges) - MISSING], scaled(values, self.scale)


class Features:
    """What an artefact reads of a request's features; made once of each."""

    def __init__(self, artefact: Artefact) -> None:
        schema, about = artefact.schema, artefact.manifest
        self.kinds, self.length, self.numeric_as = schema.features, schema.list_length, about.numeric_as
        self.names = {*schema.features, *schema.row_vectors}
        self.fields, self.slots, self._context = about.fields, about.slots, artefact.context
        self.hours = self._index_of("", range(24))
        self.prefix = {name: context_key(name, "") for name in self.kinds}
        self.empty = {name: self._context.place(key) for name, key in self.prefix.items()}
        self._seen: dict[str, dict[int | str, int]] = {name: {} for name in self.kinds}
        self.numeric = {name: self._numeric(artefact, name) for name, kind in self.kinds.items() if kind == "float32"}
        self.missing = {name: of.read(np.array([np.nan])) for name, of in self.numeric.items()}

    def _index_of(self, name: str, values: Sequence[object]) -> Array:
        return self._context.places([context_key(name, value) for value in values])

    def _numeric(self, artefact: Artefact, name: str) -> _Numeric:
        edges = np.asarray(artefact.schema.edges.get(name, ANY_SCALE), np.float64)
        buckets = self._index_of(name, range(MISSING, len(edges) + 1))
        unread = self.numeric_as == "values"  # the padding stands where the model does not read a bucket
        return _Numeric(
            edges, artefact.schema.scales.get(name, ANY_VALUE), np.zeros_like(buckets) if unread else buckets
        )

    def read(self, request: Request, now: int) -> tuple[Placed, Placed, Array]:
        """Return (context [C, F], the first the hour of `now`, in us; entries of lists [C, M]; numbers float32 [C, W],
        zeros where the model reads but their buckets). Raises UserError, which names the feature.
        """
        self._check_names(request)
        numeric = {name: self._number(name, request) for name in self.numeric}
        values = np.zeros((len(request.items), 2 * len(numeric)), np.float32)
        if self.numeric_as != "buckets":
            for at, (_, value) in enumerate(numeric.values()):
                values[:, 2 * at : 2 * at + 2] = value
        return self._scalars(request, now, numeric), self._lists(request), values

    def _check_names(self, request: Request) -> None:
        for group, given in (("features", request.features), ("item_features", request.item_features)):
            for name in given:
                if name not in self.names:
                    raise UserError(
                        f"{group}: there is no feature {shown(name)}{did_you_mean(name[:SHOWN], self.names)}"
                    )

    def _number(self, name: str, request: Request) -> tuple[Array, Array]:
        """Return a feature's (indices of buckets, `scaled`) of all candidates, or one for all of them."""
        values = request.item_features.get(name)
        if values is None:
            given = request.features.get(name)
            if given is None:
                return self.missing[name]
            values = [given]
        return self.numeric[name].read(numbers_of_values(values, f"features.{name}"))

    def _scalars(self, request: Request, now: int, numeric: Mapping[str, tuple[Array, Array]]) -> Placed:
        rows, hour = _Rows(), now // HOUR % len(self.hours)
        found = np.empty((len(request.items), self.fields), np.int64)
        found[:, 0] = rows.one(int(self.hours[hour]))
        scalars = [(name, kind) for name, kind in self.kinds.items() if not kind.startswith("list")]
        for at, (name, kind) in enumerate(scalars, 1):
            if name in numeric:
                found[:, at] = rows.many(numeric[name][0])
            elif name in request.item_features:
                found[:, at] = self._each(name, kind, rows, request.item_features[name])
            else:
                found[:, at] = self._one(name, kind, rows, request.features.get(name))
        return Placed(np.array(rows.ids), found)

    def _one(self, name: str, kind: str, rows: _Rows, value: Any) -> int:
        """Return the place of one value."""
        return rows.one(self._index(name, kind, value))

    def _index(self, name: str, kind: str, value: Any) -> int:
        """Return the index of one value in the vocabulary; those that were found are remembered."""
        if value is None:
            return self.empty[name]
        seen = self._seen[name]
        if type(value) in PLAIN and value in seen:  # 1, 1.0 and True are one key of a dict, and not all are an id
            return seen[value]
        found = self._context.place(f"{self.prefix[name]}{id_of(value, kind, f'features.{name}')}")
        if found and type(value) in PLAIN and len(seen) < MAX_SEEN:
            seen[value] = found
        return found

    def _each(self, name: str, kind: str, rows: _Rows, values: Sequence[Any]) -> list[int]:
        """Return the place of each value; where all are whole numbers or all text, distinct ones are read once."""
        if set(map(type, values)) - {type(None)} not in ({int}, {str}):
            return [self._one(name, kind, rows, value) for value in values]
        seen, one = self._seen[name], rows.one
        distinct = {value: one(seen.get(value) or self._index(name, kind, value)) for value in dict.fromkeys(values)}
        return [distinct[value] for value in values]

    def _lists(self, request: Request) -> Placed:
        rows, n, at = _Rows(), len(request.items), 0
        found = np.zeros((n, self.slots), np.int64)
        for name, kind in self.kinds.items():
            if kind.startswith("list"):
                values = request.item_features.get(name)
                of_all = (found, request.features.get(name))
                for into, value in [of_all] if values is None else zip(found, values, strict=True):
                    entries = self._entries(name, kind, rows, value)
                    into[..., at : at + len(entries)] = entries
                at += self.length
        return Placed(np.array(rows.ids), found)

    def _entries(self, name: str, kind: str, rows: _Rows, value: Any) -> list[int]:
        """Return the places of a list's newest entries."""
        if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise UserError(f"features.{name}: a list was expected; got {shown(value)}")
        newest = [one for one in value or () if one is not None][-self.length :]
        return self._each(name, kind.removeprefix("list<").removesuffix(">"), rows, newest)
