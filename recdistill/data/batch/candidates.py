"""Candidates that nobody was shown: with each sample, items of a few earlier samples, which a teacher scores too.

A candidate is a sample's user, context and history with the item of another: one of the `window` samples before it,
drawn evenly, so items come as often as they were shown there. Which one is a function of the sample alone, so that
nothing but the teacher's logits has to be kept. There is no label, and never will be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.config.models import CandidatesConfig
from recdistill.data.sampling import uniform
from recdistill.data.store.encoder import context_fields, list_fields, numeric_names
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["Candidates"]

SEED = 23  # of the draws: the same for teachers and students


@dataclass(frozen=True)
class Candidates:
    """`count` per sample; fields bool [F], slots bool [M], values bool [W] and vectors bool [V]: which parts of
    context, lists, values and the row's own vectors go with the item.
    """

    count: int
    window: int
    fields: Array
    slots: Array
    values: Array
    vectors: Array

    @classmethod
    def of(cls, config: CandidatesConfig, schema: EventSchema) -> Candidates:
        """Return the candidates of `config` for a log of `schema`, whose own item features go with the item too;
        UserError for an item feature that is none.
        """
        for name in config.item_features:
            if name not in schema.features:
                raise UserError(f"candidates.item_features: no feature '{name}'{did_you_mean(name, schema.features)}")
        (_, *scalars), of_item = context_fields(schema), {*config.item_features, *schema.item_features}
        fields = np.array([False, *(name in of_item for name in scalars)])  # the hour is of no item
        slots = np.repeat(np.array([name in of_item for name in list_fields(schema)], bool), schema.list_length)
        values = np.repeat(np.array([name in of_item for name in numeric_names(schema)], bool), 2)
        own = [np.full(width + 1, of == "item") for of, width, _ in schema.row_vectors.values()]
        return cls(config.count, config.window, fields, slots, values, np.concatenate([np.zeros(0, bool), *own]))

    def drawn(self, rows: Array, sample_id: Array, count: int) -> Array:
        """Return int64 [n, count]: the log positions whose items are the first candidates of the samples at positions
        `rows`.

        The first sample of a log has itself.
        """
        keys = np.asarray(sample_id, np.int64)[:, None] * 31 + np.arange(count)
        back = 1 + (uniform(keys, SEED) * np.minimum(self.window, rows)[:, None]).astype(np.int64)
        return np.maximum(rows[:, None] - back, 0)
