"""The scored window as a query over the two tables: labels and ids from events, logits from predictions, by
sample id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from recdistill.data.store.id_set import IdSet
from recdistill.data.store.memmap import open_column, read_json, write_json
from recdistill.data.store.vocabulary import distinct_of
from recdistill.errors import RecdistillError
from recdistill.evaluate import metrics, values
from recdistill.evaluate.marks import marked
from recdistill.evaluate.transferability import ScoredSamples
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import feature_column
from recdistill.typing import Array

__all__ = [
    "Frame",
    "Part",
    "codes_of",
    "load_window",
    "logits_of",
    "recorded_logits",
    "requests_of",
    "settled",
    "with_later_labels",
]


NO_USERS = "the log has no users"
LEVELS = ("logloss", "ne", "calibration", "ece")  # what a constant added to the logits changes


@dataclass(frozen=True)
class Frame:
    """The window's rows in log order with what slices need: id, time, user, item, label of each, and when first met.

    groups: int64 codes [N] of each row's `user` and, where the log has one, `request`. levels_why: why the LEVELS are
    unknown, None when they are known; gauc_why: likewise of GAUC.
    """

    rows: pl.DataFrame
    samples: ScoredSamples
    groups: dict[str, Array]
    share: float
    total: int
    levels_why: str | None = None
    gauc_why: str | None = None

    @property
    def ids(self) -> Array:
        """Return int64 [N], the sample ids."""
        return self.rows["sample_id"].to_numpy()

    def save(self, folder: Path) -> None:
        """Write it into a new folder, from where `open` maps it into memory."""
        folder.mkdir(parents=True)
        self.rows.write_ipc(folder / "rows.arrow", compression="uncompressed")
        samples, by = self.samples, {f"by_{name}": codes for name, codes in self.groups.items()}
        arrays = {"label": samples.label, "user": samples.user, "group": samples.group, **by}
        for name, column in (arrays | ({} if samples.weight is None else {"weight": samples.weight})).items():
            np.save(folder / f"{name}.npy", column)
        about = [self.samples.regression, list(self.groups), self.share, self.total, self.levels_why, self.gauc_why]
        write_json(folder / "about.json", about)

    @classmethod
    def open(cls, folder: Path) -> Frame:
        """Return what `save` wrote."""
        regression, groups, share, total, levels_why, gauc_why = read_json(folder / "about.json")
        label, user, group = (open_column(folder, name) for name in ("label", "user", "group"))
        weight = open_column(folder, "weight") if (folder / "weight.npy").exists() else None
        samples = ScoredSamples(label, user, group, weight, bool(regression))
        by = {name: open_column(folder, f"by_{name}") for name in groups}
        return cls(pl.read_ipc(folder / "rows.arrow"), samples, by, share, total, levels_why, gauc_why)

    def of_domain(self, domain: dict[str, int | str]) -> Frame:
        """Return the rows of a domain {feature: value} alone; users and groups keep their codes."""
        inside = pl.all_horizontal(pl.col(feature_column(name)) == value for name, value in domain.items())
        mask = self.rows.select(inside.fill_null(False)).to_series().to_numpy()
        groups = {name: codes[mask] for name, codes in self.groups.items()}
        return replace(self, rows=self.rows.filter(pl.Series(mask)), samples=self.samples.where(mask), groups=groups)

    def where(self, part: slice | Array) -> Part:
        """Return the labels and groups of some rows, a slice or a mask."""
        return Part(self.samples.where(part), self.levels_why, self.gauc_why)


@dataclass(frozen=True)
class Part:
    """Some of the window's rows, to be scored."""

    samples: ScoredSamples
    levels_why: str | None
    gauc_why: str | None = None

    def scores(self, logit: Array, grouped: bool = True) -> metrics.Scores:
        """Return the metrics of one model's logits [rows]; without GAUC when not `grouped`."""
        samples = self.samples
        if samples.regression:
            return values.score(samples.label, logit, samples.weight)
        found = metrics.score(samples.label, logit, samples.group if grouped else None, samples.weight)
        if self.gauc_why is not None:
            found = replace(found, why={**found.why, "gauc": self.gauc_why})
        if self.levels_why is None:
            return found
        hidden = dict.fromkeys(LEVELS, self.levels_why)
        return metrics.Scores(
            {**found.values, **dict.fromkeys(LEVELS)},
            {**found.why, **hidden},
            {name: value for name, value in found.std.items() if name not in hidden},
        )


def codes_of(values: pl.Series) -> Array:
    """Return int64 codes from 0 of a column of ids without gaps, in the order in which they are first met."""
    return distinct_of(values)[1].astype(np.int64)


def requests_of(rows: pl.DataFrame, user: Array) -> Array:
    """Return int64 codes of each row's request; rows: row, their numbers, and request_id.

    A request id stands for one list of one user, so two users with the same id are two groups; a row without an id was
    in no list and is a group of its own.
    """
    alone = pl.concat_str(pl.lit("row "), pl.col("row"))
    request = codes_of(rows.select(pl.coalesce(pl.col("request_id").cast(pl.String), alone)).to_series())
    return np.asarray(np.unique(user * (request.max(initial=0) + 1) + request, return_inverse=True)[1])


def _marked(
    events: EventLog, version: int, task: str, start: float, features: Sequence[str]
) -> tuple[pl.DataFrame, int]:
    """Return (the rows after the first `start` share of the log, marked by what was met before; the log's rows)."""
    columns = ["sample_id", "time", "user_id", "item_id", f"label_{task}", *map(feature_column, features)]
    columns += ["request_id"] if events.schema.has_request else []
    columns += ["weight"] if events.schema.has_weight else []
    total = events.rows(version)
    rows = marked(events.batches(version=version, columns=columns), int(total * start))
    return rows.rename({f"label_{task}": "label"}), total


def _with_outcomes(window: pl.DataFrame, outcomes: OutcomeLog, task: str) -> pl.DataFrame:
    """Return the window, its missing labels filled from the outcomes that became known later; memory O(window)."""
    missing = IdSet()
    missing.add(window.filter(pl.col("label").is_null())["sample_id"].to_numpy())
    known = pl.concat(
        [
            rows.filter((pl.col("task") == task) & pl.Series(missing.holds(rows["sample_id"].to_numpy())))
            for rows in outcomes.batches(columns=["sample_id", "task", "label"])
        ]
    )
    return with_later_labels(window, known.select("sample_id", "label"))


def with_later_labels(rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return rows, in their order, whose missing `label` is that of their outcomes, (sample_id, label) each: a positive
    if any is one, a negative without one.
    """
    later = outcomes.group_by("sample_id").agg(later=pl.col("label").max())
    labelled = rows.join(later, on="sample_id", how="left", maintain_order="left")
    return labelled.with_columns(label=pl.coalesce("label", "later", pl.lit(0.0, pl.Float32))).drop("later")


def settled(time: pl.Series, window_s: float | None) -> pl.Series:
    """Return bool [N], which samples' outcome cannot change any more: those older, by `window_s`, than the newest; all
    where labels have no window.
    """
    if window_s is None or not len(time):
        return pl.repeat(True, len(time), eager=True)
    return time <= time.max() - timedelta(seconds=window_s)  # type: ignore[operator]


def load_window(
    events: EventLog, version: int, task: str, start: float, group: str, features: Sequence[str] = ()
) -> Frame:
    """Return the rows after the first `start` share of the log whose label of `task` is known, and whose weight is not
    0; memory O(these rows + the log's distinct ids).

    Where there is a table of outcomes beside the events, a sample without a label has that of its outcomes, a positive
    if any is one, and is a negative if it has none: outcomes of the newest samples that are still to come are not known
    yet. features: to read too, as columns of the events. Also notes whether user and item were met before the
    window, and how many rows the user had before each row. Raises UserError when rows are to be grouped by request and
    the log has none.
    """
    events.schema.check_group(group)
    window, total = _marked(events, version, task, start, features)
    outcomes = events.path.parent / "outcomes"
    if outcomes.exists():
        window = _with_outcomes(window, OutcomeLog.open(outcomes), task)
    counted = pl.col("weight") > 0 if events.schema.has_weight else pl.lit(True)
    known = window.filter(pl.col("label").is_not_null() & counted)
    user = codes_of(known["user_id"])
    groups = {"user": user} | ({"request": requests_of(known, user)} if events.schema.has_request else {})
    samples = ScoredSamples(known["label"].to_numpy().astype(np.float64), user, groups[group], _weights(known))
    samples = replace(samples, regression=task in events.schema.regression)
    return Frame(known, samples, groups, start, total, gauc_why=None if events.schema.has_user else NO_USERS)


def _weights(rows: pl.DataFrame) -> Array | None:
    """Return float64 [N], what each row counts; None where all count alike."""
    weight = rows["weight"].to_numpy().astype(np.float64) if "weight" in rows.columns else np.ones(1)
    return None if (weight == 1).all() else weight


def recorded_logits(predictions: PredictionLog, version: int, model: str, task: str, ids: Array) -> Array:
    """Return float32 [N], the recorded logits of `model` for `ids`, NaN where it has none; memory O(N)."""
    order = np.argsort(ids)
    ordered, out = ids[order], np.full(len(ids), np.nan, np.float32)
    for batch in predictions.of(model, version, ["sample_id", f"logit_{task}"]):
        rows = batch.sort("sample_id")  # a search in ascending order finds what it needs in the cache
        sample = rows["sample_id"].to_numpy()
        at = np.searchsorted(ordered, sample)
        hit = at < len(ids)
        hit[hit] = ordered[at[hit]] == sample[hit]
        out[order[at[hit]]] = rows[f"logit_{task}"].to_numpy()[hit]
    return out


def logits_of(
    predictions: PredictionLog, version: int, model: str, task: str, ids: Array, log_odds_offset: float
) -> Array:
    """Return float32 [N], the recorded logits of `model` for `ids` with `log_odds_offset` subtracted.

    Raises RecdistillError when some of them have no prediction.
    """
    out = recorded_logits(predictions, version, model, task, ids)
    missing = int(np.isnan(out).sum())
    if missing:
        rising = np.sort(ids)
        twice = rising[1:][rising[1:] == rising[:-1]]
        why = f"sample id {twice[0]} is that of two samples" if len(twice) else "train it to the end first"
        raise RecdistillError(f"{model}: {missing:,} of {len(ids):,} scored samples have no prediction; {why}")
    return out - np.float32(log_odds_offset)
