"""Where the rows of a stream come from: Delta tables, NATS JetStream or Kafka, all read alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recdistill.config.stream import SourceConfig, StreamConfig
from recdistill.errors import UserError
from recdistill.storage.location import Location, location
from recdistill.stream.event_log import Journal
from recdistill.stream.sources.base import Patience, Source
from recdistill.stream.sources.table import TableSource

__all__ = ["Source", "open_source", "source_tables"]


@contextmanager
def open_source(
    config: StreamConfig, url: str, folder: Location, journal: Journal, reader: int = 0
) -> Iterator[Source]:
    """Give the source that `config` names, closed in the end. url: of its broker; folder: of its tables, for kind
    table.

    reader: which of `source.readers` asks. Raises UserError when the source needs a library that is not installed, no
    url is given, or an option is not in the environment.
    """
    source = _source(config, url, folder, journal, reader)
    try:
        yield source
    finally:
        source.close()


def source_tables(root: Location, config: SourceConfig) -> Location:
    """Return the folder of a source of kind table: the one configured, or the run's own under `root`."""
    return location(config.path) if config.path else root / "source"


def _options(config: SourceConfig) -> dict[str, Any]:
    """Return the client's settings, secrets read from the environment."""
    return {
        key: _secret(key, value[4:]) if isinstance(value, str) and value.startswith("env:") else value
        for key, value in config.options.items()
    }


def _secret(key: str, name: str) -> str:
    if name not in os.environ:
        raise UserError(f"stream.source.options.{key}: there is no variable {name} in the environment")
    return os.environ[name]


def _source(config: StreamConfig, url: str, folder: Location, journal: Journal, reader: int) -> Source:
    kind, stream = config.source.kind, config.source.stream
    if kind == "table":
        return TableSource(folder)
    if not url:
        raise UserError(f"stream.source.url is not set; {kind} needs the address of its server")
    patience = Patience(journal, url, config.patience_s)
    try:
        if kind == "nats":
            from recdistill.stream.sources.nats import NatsSource

            return NatsSource(url, stream, patience, _options(config.source))
        from recdistill.stream.sources.kafka import KafkaSource

        return KafkaSource(url, stream, patience, (reader, config.source.readers), _options(config.source))
    except ModuleNotFoundError:
        raise UserError(
            f"stream.source.kind is {kind}, whose library is not installed; run: pip install 'recdistill[{kind}]'"
        ) from None
