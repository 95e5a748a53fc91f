"""Features of a request as a student reads them: rows of the vocabulary that all features share, and numbers.

Shapes: C candidates, F context fields, M list slots, W numbers of numeric features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from recdistill.data.buckets import ANY_SCALE, MISSING, bucket_of
from recdistill.data.keys import context_key
from recdistill.data.scales import ANY_VALUE, scaled
from recdistill.defaults import SECOND
from recdistill.errors import UserError, did_you_mean
from recdistill.serve.artefact import Artefact
from recdistill.serve.id_map import IdMap
from recdistill.serve.request import SHOWN, Column, Request
from recdistill.serve.values import id_of, listed, numbers_of_values, shown
from recdistill.typing import Array

__all__ = ["PADDING", "Features", "Placed", "placed"]


PADDING = np.zeros(1, np.int64)
HOUR = 3600 * SECOND
MAX_SEEN = 50_000  # values of a feature whose rows are remembered
PLAIN = {int, str, type(None)}


class Placed(NamedTuple):
    """Indices of a table that are looked up, int64 [U], 0 first, and where each of a request's stands among them."""

    ids: Array
    places: Array


def placed(indices: Array, first: int = 1) -> Array:
    """Return where indices int64 [n] stand that follow one another from place `first` on; 0, the padding, at 0."""
    return np.asarray(np.arange(first, first + len(indices)) * (indices != 0))


class _Values:
    """One feature's values to their indices in the vocabulary that all share; those that were found are remembered.
    kind: of a value, of a list's entries.
    """

    def __init__(self, name: str, kind: str, context: IdMap) -> None:
        self.kind, self.what, self.prefix = kind, f"features.{name}", context_key(name, "")
        self._context = context
        self._seen: dict[Any, int] = {None: context.place(self.prefix)}

    def one(self, value: Any) -> int:
        """Return the index of a value, 0 for one that was never seen. UserError, which names the feature, for none."""
        plain = type(value) in PLAIN  # 1, 1.0 and True are one key of a dict, and not all are an id
        if plain and value in self._seen:
            return self._seen[value]
        found = self._context.place(f"{self.prefix}{id_of(value, self.kind, self.what)}")
        if found and plain and len(self._seen) < MAX_SEEN:
            self._seen[value] = found
        return found

    def many(self, column: Column) -> Array:
        """Return int64 [n], the index of each value."""
        values = listed(column)
        if not PLAIN.issuperset(map(type, values)):
            return np.array([self.one(value) for value in values], np.int64)
        found = [*map(self._seen.get, values)]
        if None in found:
            distinct = {value: self.one(value) for value in dict.fromkeys(values)}
            found = [distinct[value] for value in values]
        return np.array(found, np.int64)


class _Numeric(NamedTuple):
    """A numeric feature. buckets: int64, the index of each bucket in the vocabulary, that of a missing value first."""

    edges: Array
    scale: tuple[float, float, float]
    buckets: Array

    def read(self, values: Array) -> tuple[Array, Array]:
        """Return (int64 [n], indices of the values' buckets; float32 [n, 2], `scaled`)."""
        return self.buckets.take(bucket_of(values, self.edges) - MISSING), scaled(values, self.scale)


class Features:
    """What an artefact reads of a request's features; made once of each."""

    def __init__(self, artefact: Artefact) -> None:
        schema, about = artefact.schema, artefact.manifest
        self.kinds, self.length, self.numeric_as = schema.features, schema.list_length, about.numeric_as
        self.names = {*schema.features, *schema.row_vectors}
        self.fields, self.slots, self._context = about.fields, about.slots, artefact.context
        self.hours = self._index_of("", range(24))
        self.values = {name: _Values(name, _inner(kind), self._context) for name, kind in self.kinds.items()}
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
        return self.numeric[name].read(numbers_of_values(values, self.values[name].what))

    def _scalars(self, request: Request, now: int, numeric: Mapping[str, tuple[Array, Array]]) -> Placed:
        """Return the hour's and each scalar feature's row: one for all candidates, or one for each."""
        n, scalars = len(request.items), [name for name, kind in self.kinds.items() if not kind.startswith("list")]
        indices = [self.hours[now // HOUR % len(self.hours), None]]
        for name in scalars:
            if name in numeric:
                indices.append(numeric[name][0])
            elif name in request.item_features:
                indices.append(self.values[name].many(request.item_features[name]))
            else:
                indices.append(np.array([self.values[name].one(request.features.get(name))]))
        ids = np.concatenate((PADDING, *indices))
        places, found, at = placed(ids, 0), np.empty((n, self.fields), np.int64), 1
        for field, of_field in enumerate(indices):
            found[:, field] = places[at : at + len(of_field)]
            at += len(of_field)
        return Placed(ids, found)

    def _lists(self, request: Request) -> Placed:
        n, at, ids = len(request.items), 0, [PADDING]
        found, first = np.zeros((n, self.slots), np.int64), 1
        for name, kind in self.kinds.items():
            if kind.startswith("list"):
                values = request.item_features.get(name)
                given = [request.features.get(name)] if values is None else listed(values)
                lists = [self._newest(name, one) for one in given]
                entries = self.values[name].many([*chain.from_iterable(lists)])
                filled = np.arange(self.length) < np.array([*map(len, lists)])[:, None]
                places = np.zeros(filled.shape, np.int64)
                places[filled] = placed(entries, first)
                found[:, at : at + self.length] = places
                ids.append(entries)
                at, first = at + self.length, first + len(entries)
        return Placed(np.concatenate(ids), found)

    def _newest(self, name: str, value: Any) -> list[Any]:
        """Return a list's newest entries; as in a log, those that are empty do not count."""
        if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise UserError(f"features.{name}: a list was expected; got {shown(value)}")
        return [one for one in value or () if one is not None and one != ""][-self.length :]


def _inner(kind: str) -> str:
    """Return the kind of a value, of a list's entries."""
    return kind.removeprefix("list<").removesuffix(">")
