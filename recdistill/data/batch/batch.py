"""What a model sees: one batch of samples, ids deduplicated, histories jagged and shared by the samples of a request.

Shapes: B samples, K tasks, F context fields, M list slots, R distinct histories, T history events in all, U distinct
ids, X numbers per sample, W values of its numeric features, V numbers per vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from recdistill.data.batch.ages import age_bucket
from recdistill.data.batch.moved import moved

__all__ = ["Batch", "History", "Lookup", "Vectors"]

NOTHING = torch.zeros(0)


@dataclass(frozen=True)
class Lookup:
    """Ids of one column, each distinct one once.

    unique: int64 [U], vocabulary indices, `unique[0] == 0` (padding: its embedding row is zero for ever).
    inverse: int64, any shape; `unique[inverse]` gives the column back.
    """

    unique: Tensor
    inverse: Tensor

    def ids(self) -> Tensor:
        """Return the column itself: int64, the shape of `inverse`."""
        return self.unique[self.inverse]

    def to(self, device: torch.device) -> Lookup:
        """Return the lookup with `inverse` on a device; `unique` stays with the host, like the tables it is
        looked up in.
        """
        return replace(self, inverse=moved(self.inverse, device))


@dataclass(frozen=True)
class History:
    """R jagged histories, oldest event first, each strictly before its samples.

    unique: int64 [U], item vocabulary indices, `unique[0] == 0`.
    index: int64 [T] into `unique`; ago: int64 [T], us from the event to its samples, whose time is one.
    action: int64 [T], index of the event's action type, 0 when there is but one.
    offsets: int64 [R + 1]; of: int64 [B], the history of each sample.
    """

    unique: Tensor
    index: Tensor
    ago: Tensor
    action: Tensor
    offsets: Tensor
    of: Tensor

    @property
    def lengths(self) -> Tensor:
        """Return int64 [R], events per history."""
        return self.offsets.diff()

    @property
    def age(self) -> Tensor:
        """Return int64 [T], the log2 bucket of each event's age in seconds, 0..AGES-1; see `age_bucket`."""
        return age_bucket(self.ago)

    def dense(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (index, age, action, mask), each [R, L], L the longest here (at least 1).

        Left-aligned, oldest first; padding is index 0 with mask False.
        """
        lengths = self.lengths
        longest = max(int(lengths.max()) if len(lengths) else 0, 1)
        mask = torch.arange(longest) < lengths[:, None]
        index, age, action = (torch.zeros(mask.shape, dtype=torch.int64) for _ in range(3))
        index[mask], age[mask], action[mask] = self.index, self.age, self.action
        return index, age, action, mask


@dataclass(frozen=True)
class Vectors:
    """Pre-trained vectors of a column of ids, each distinct one once.

    values: float32 [U, V]; inverse: int64 [B]; `values[inverse]` are those of the samples.
    """

    values: Tensor
    inverse: Tensor

    def to(self, device: torch.device) -> Vectors:
        """Return the vectors on a device."""
        return Vectors(moved(self.values, device), moved(self.inverse, device))


@dataclass(frozen=True)
class Batch:
    """B samples ready for a model; everything a backbone may read.

    numbers: float32 [B, X], finite, read as they are; see `numbers_of`. values: float32 [B, W], finite: of each numeric
    feature its value, normalised, and whether it is missing; see data/scales.py.
    labels: float32 [B, K], NaN where not known; signals: float32 [B, K], teacher logits, NaN where missing.
    sequences: those that the rows bring, in the order of the file, as histories of action 0; see `Extras`.
    draw_offset: float32 [B, 1], what the draw of sampled negatives adds to every logit of a row, empty where models are
    not corrected for it.
    rows_per_sample: the sample itself, then its candidates, which nobody was shown and which have no labels.
    weight: float32 [B], what each counts in the loss, of candidates what their sample does; empty: all alike.
    teacher_hidden: float32 [R, J, D], the teacher's hidden states of the user's last samples strictly before, oldest
    first, left-aligned; teacher_hidden_counts: int64 [R], how many there are; both empty where no model reads them.
    vectors: by side (item, user, row: its own), the pre-trained vectors of the samples; empty where the log has none.
    there: what a network reads of it, on the device already; None where nothing was sent ahead.
    """

    sample_id: Tensor
    item: Lookup
    user: Lookup
    context: Lookup
    lists: Lookup
    history: History
    numbers: Tensor
    labels: Tensor
    signals: Tensor
    values: Tensor = NOTHING
    sequences: tuple[History, ...] = ()
    draw_offset: Tensor = NOTHING
    rows_per_sample: int = 1
    weight: Tensor = NOTHING
    teacher_hidden: Tensor = NOTHING
    teacher_hidden_counts: Tensor = NOTHING
    vectors: dict[str, Vectors] = field(default_factory=dict)
    there: Batch | None = None

    def __len__(self) -> int:
        """Return B."""
        return len(self.sample_id)

    def columns(self) -> list[Tensor]:
        """Return the distinct ids of each column and history, int64 [U] each: what tables may be asked for."""
        columns = self.item, self.user, self.context, self.lists
        return [*(one.unique for one in columns), *(one.unique for one in (self.history, *self.sequences))]

    def as_drawn(self, logits: Tensor) -> Tensor:
        """Return a network's logits [B, K] as those of the rows' labels, among the negatives that were drawn."""
        return logits + self.draw_offset if self.draw_offset.numel() else logits

    def to(self, device: torch.device) -> Batch:
        """Return the batch with what a network reads of it on a device; the history follows when it is laid out
        (`lay_out`), and sample ids, labels and signals stay with the host, where the losses are made.
        """
        if device.type == "cpu":
            return self
        if self.there is not None:
            return self.there
        there: dict[str, Any] = {name: getattr(self, name).to(device) for name in ("item", "user", "context", "lists")}
        read = "numbers", "values", "teacher_hidden", "teacher_hidden_counts"
        there |= {name: moved(getattr(self, name), device) for name in read}
        return replace(self, **there, vectors={side: found.to(device) for side, found in self.vectors.items()})
