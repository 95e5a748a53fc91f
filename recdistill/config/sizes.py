"""Which sizes a student has as it is trained, where that is not always its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from recdistill.config.base import Positive, Strict

__all__ = ["AlternateConfig", "PruneConfig", "PrunedFromConfig"]

Sizes = dict[str, Positive | list[Positive]]
LARGEST = 100_000  # versions over which a student is pruned, each of whose sizes is looked at


class PruneConfig(Strict):
    """Train an enlarged student, prune it in steps to the size that it has, and let it recover (IDEA Prune,
    2503.05920); a step is taken between two checkpoints.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    from_: Sizes = Field(alias="from", min_length=1)  # width and options of the enlarged one
    start: float = Field(default=0.1, ge=0, lt=1)  # share of training, down to a whole checkpoint
    end: float = Field(default=0.5, gt=0, lt=1)  # where it has its own size
    versions: list[Annotated[int, Field(ge=0, le=LARGEST)]] | None = Field(
        default=None, min_length=2, max_length=2
    )  # of a stream, in place of start and end: the last one of full size, the first one of its own
    importance: Literal["taylor", "activation", "magnitude"] = "taylor"
    of: Literal["loss", "labels"] = "loss"  # whose gradient counts: of all it learns, or of the labels' loss alone

    @model_validator(mode="after")
    def _in_order(self) -> PruneConfig:
        if self.start >= self.end:
            raise ValueError(f"start {self.start:g} is not before end {self.end:g}")
        if self.versions is None:
            return self
        if self.versions[0] >= self.versions[1]:
            raise ValueError(f"versions: {self.versions[0]} is not before {self.versions[1]}")
        if any(getattr(self, key) != type(self).model_fields[key].default for key in ("start", "end")):
            raise ValueError("start and end are of a log, versions of a stream; leave one of them out")
        return self


class AlternateConfig(Strict):
    """Cycles of shrunken and full width, which end full (alternate growth and pruning, 2105.01064); widths change
    between two checkpoints, in a stream too.
    """

    to: Sizes = Field(min_length=1)  # width and options of the shrunken one
    every: int = Field(default=4, ge=2)  # checkpoints of a cycle
    shrunken: Positive = 2  # of them, the first ones
    regrow: Literal["zero", "split", "fresh"] = (
        "zero"  # how units grow: unread, as copies, or as a new network has them
    )
    importance: Literal["taylor", "activation", "magnitude"] = "taylor"

    @model_validator(mode="after")
    def _full(self) -> AlternateConfig:
        if self.shrunken >= self.every:
            raise ValueError("shrunken must be less than every, so that a cycle has a full part")
        return self


class PrunedFromConfig(Strict):
    """A student that goes on, from one point of the log, as another, larger one of the experiment, pruned to its own
    size: several sizes come from one enlarged student (IDEA Prune's intermediate checkpoints, 2503.05920).
    """

    student: str  # the larger one
    at: float = Field(default=0.25, gt=0, lt=1)  # share of the log, down to a whole checkpoint
