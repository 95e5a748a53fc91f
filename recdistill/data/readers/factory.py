"""Readers: from tables as their publishers or users have them to the log's own columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from recdistill.config.data import ColumnsConfig, DataConfig, SamplingConfig
from recdistill.data.readers.amazon_reviews import read_amazon_reviews
from recdistill.data.readers.avazu import read_avazu, read_avazu_x4
from recdistill.data.readers.base import Log
from recdistill.data.readers.criteo import read_criteo, read_criteo_x4
from recdistill.data.readers.down_sampling import down_sampled
from recdistill.data.readers.eb_nerd import read_eb_nerd
from recdistill.data.readers.files import reading
from recdistill.data.readers.first_rows import head_of
from recdistill.data.readers.globo import read_globo
from recdistill.data.readers.kuairand import read_kuairand
from recdistill.data.readers.kuairec import read_kuairec
from recdistill.data.readers.kuaivideo import read_kuaivideo
from recdistill.data.readers.mind import read_mind
from recdistill.data.readers.movielens import read_movielens
from recdistill.data.readers.negatives import with_negatives
from recdistill.data.readers.open_bandit import read_open_bandit
from recdistill.data.readers.options import read_options
from recdistill.data.readers.published import PublishedFolder
from recdistill.data.readers.side_tables import with_side_tables
from recdistill.data.readers.simulator import SIMULATED, Simulator, SimulatorConfig
from recdistill.data.readers.tabular import read_table
from recdistill.data.readers.taobao import read_taobao
from recdistill.data.readers.taobao_ads import read_taobao_ads
from recdistill.data.readers.tenrec import read_tenrec
from recdistill.data.readers.trivago import read_trivago
from recdistill.data.readers.vector_tables import with_vectors
from recdistill.data.readers.yambda import read_yambda
from recdistill.errors import UserError, did_you_mean

__all__ = ["READERS", "Log", "open_log", "source_rows"]

Reader = Callable[[DataConfig, Path], Log]


def open_log(config: DataConfig, data: Path | None) -> Log:
    """Return the log that `config` describes, with negatives and down-sampling as it asks for.

    Paths are relative to `data`. Raises UserError for what the reader does not know or cannot read.
    """
    log = _read(config, data)
    for task in config.keep_rates:
        if task not in log.schema.tasks:
            raise UserError(f"data.keep_rates: no task '{task}'{did_you_mean(task, log.schema.tasks)}")
    log = replace(log, schema=replace(log.schema, keep_rates=dict(config.keep_rates), list_length=config.list_length))
    log = with_negatives(log, config.negatives) if config.negatives else log
    log = log if config.sampling == SamplingConfig() else down_sampled(log, config.sampling)
    log = with_vectors(log, config, data or Path())
    return with_side_tables(log, config, data or Path())  # after negatives, which have the features of their own items


def source_rows(config: DataConfig, data: Path | None) -> int:
    """Return how many rows the log has before negatives and down-sampling, of which `limit` takes the first."""
    return sum(map(len, _read(config, data).batches()))


def _read(config: DataConfig, data: Path | None) -> Log:
    """Return the log as its reader has it, the first `limit` rows where that is given."""
    _refuse_unused(config)
    log = READERS[config.reader](config, data or Path())
    return _head(log, config.limit) if config.limit else log


def _refuse_unused(config: DataConfig) -> None:
    """Raise UserError for a setting that the reader would not look at."""
    table = {
        "columns": config.columns != ColumnsConfig(),
        "behaviors": config.behaviors is not None,
        "sort": config.sort,
        "drop_missing": config.drop_missing,
        "header": bool(config.header),
        "separator": config.separator is not None,
    }
    table |= {f"vectors.{name}": one.path is None for name, one in config.vectors.items()}
    for name, given in table.items():
        if given and config.reader != "table":
            raise UserError(f"data.{name}: belongs to reader: table; reader {config.reader} knows its files")


def _head(log: Log, limit: int) -> Log:
    return replace(log, batches=lambda: head_of(log.batches(), limit))


def _simulated(config: DataConfig, folder: Path) -> Log:
    simulated = read_options(config, SimulatorConfig)

    def batches() -> Iterator[pl.DataFrame]:
        for chunk in Simulator(simulated).chunks():
            yield chunk.select(list(SIMULATED.columns()))

    return Log(SIMULATED, batches, None, "simulator")


def _published(read: Callable[[DataConfig, PublishedFolder], Log], config: DataConfig, folder: Path) -> Log:
    """Return a published log, with the files that were looked at as its source."""
    files = PublishedFolder(config.reader, folder / config.path)
    with reading(files.path):
        log = read(config, files)
    return replace(log, sources=(files.source,))


BY_NAME = {
    "movielens": read_movielens,
    "kuairand": read_kuairand,
    "mind": read_mind,
    "globo": read_globo,
    "trivago": read_trivago,
    "taobao": read_taobao,
    "amazon-reviews": read_amazon_reviews,
    "kuairec": read_kuairec,
    "criteo": read_criteo,
    "criteo-x4": read_criteo_x4,
    "avazu": read_avazu,
    "avazu-x4": read_avazu_x4,
    "taobao-ads": read_taobao_ads,
    "kuaivideo": read_kuaivideo,
    "tenrec": read_tenrec,
    "yambda": read_yambda,
    "eb-nerd": read_eb_nerd,
    "open-bandit": read_open_bandit,
}
READERS: dict[str, Reader] = {
    "simulator": _simulated,
    "table": read_table,
    **{name: partial(_published, read) for name, read in BY_NAME.items()},
}
