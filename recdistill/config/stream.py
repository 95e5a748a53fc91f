"""The streaming phase."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recdistill.config.base import MAX_NAME, Positive, Strict

__all__ = ["HealthConfig", "SourceConfig", "StreamConfig"]


class SourceConfig(Strict):
    """What carries the rows to `ingest`, in order: a broker, or Delta tables (no server)."""

    kind: Literal["table", "nats", "kafka"] = "table"
    url: str | None = (
        None  # nats://HOST:4222, or HOST:9092 of Kafka; null with nats: a nats-server of its own is started
    )
    stream: str = Field(
        default="recdistill", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=MAX_NAME
    )  # JetStream stream; Kafka topics STREAM.events ...
    path: str = ""  # kind table: a folder with Delta tables events, behaviors, outcomes; empty: RUN/source
    message_rows: Positive = 100  # rows of a message that the replay publishes
    readers: int = Field(
        default=1, ge=1, le=1024
    )  # kind kafka: processes ingest-0, ingest-1 ... that split the partitions between them
    options: dict[
        str, str | int | float | bool
    ] = {}  # further settings of the broker's client; env:NAME is read from there

    @model_validator(mode="after")
    def _fits(self) -> SourceConfig:
        if self.readers > 1 and self.kind != "kafka":
            raise ValueError(f"readers split the partitions of kind kafka; {self.kind} has none")
        return self


class HealthConfig(Strict):
    """When a teacher's version is quarantined; every bound must be broken beyond doubt (`sigmas`)."""

    rows: Positive = 1000  # rows checked at a time; no student learns from them before
    reference_rows: Positive = 50_000  # approved rows of the past that they are compared with
    shift: float = Field(default=1.0, gt=0)  # mean logit, in the reference's standard deviations
    spread: float = Field(default=2.0, gt=1)  # ratio of standard deviations
    calibration: float = Field(default=2.0, gt=1)  # ratio of predicted and observed rates, beyond the reference's own
    ne: float = Field(default=0.2, gt=0)  # NE above the reference's
    coverage: float = Field(default=0.75, ge=0, le=1)  # least share of the samples that it predicts
    sigmas: float = Field(default=5.0, gt=0)


class StreamConfig(Strict):
    """The streaming phase (docs/streaming.md)."""

    batch_rows: int = Field(default=100_000, ge=0)  # of a log that is replayed: the first rows, learned in batch
    replay: bool = True  # publish the rest of the log into the source; false: producers of yours fill it
    speed: float | None = Field(default=None, gt=0)  # of a replay: event seconds per second; null: as fast as can be
    source: SourceConfig = SourceConfig()
    wait_s: float = Field(
        default=86_400.0, gt=0
    )  # event seconds that a sample waits for its signal, and a signal for its sample
    late_s: float = Field(
        default=86_400.0, gt=0
    )  # event seconds behind the newest; older samples are dropped and counted
    commit_rows: Positive = (
        2000  # rows that make a commit of predictions due, 4 a second at most; after a second what there is
    )
    checkpoint_rows: Positive = 20_000  # rows per checkpoint, and per version of a teacher
    undo_hours: float = Field(
        default=168.0, gt=0
    )  # wall hours that a model can be set back: so long files and commits are kept
    retain_days: int | None = Field(
        default=None, ge=1, le=36_500
    )  # days of the tables that are kept, counted back from the newest; null: all
    health: HealthConfig = HealthConfig()
    patience_s: float = Field(default=600.0, ge=0)  # seconds to wait for a broker that is down
