from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.batch.ages import age_bucket
from recdistill.models.attention.request_layout import lay_out
from tests.support.batches import make_batch, take


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=6), st.randoms())
def test_grouping_loses_and_mixes_nothing(requests: list[tuple[int, int]], draw: object) -> None:
    batch = make_batch([s for s, _ in requests], [n for _, n in requests])
    order = list(range(len(batch)))
    draw.shuffle(order)  # type: ignore[attr-defined]
    for each in (batch, take(batch, torch.tensor(order))):
        layout = lay_out(each.history)
        x = torch.arange(len(each) * 2.0).view(-1, 2)
        assert torch.equal(layout.ungroup(layout.group(x)), x)
        mine = layout.pieces(torch.arange(len(requests)))[:, None].expand(-1, layout.size)[..., None]
        assert torch.equal(layout.ungroup(mine)[:, 0], each.history.of)
        assert int(layout.occupied().sum()) == len(each)
        assert layout.occupied().numel() <= 4 * len(each)


def test_padded_events_are_those_of_the_history() -> None:
    batch = make_batch()
    layout = lay_out(batch.history)
    padded = (layout.index, age_bucket(layout.ago), layout.action, layout.mask)
    for mine, theirs in zip(padded, batch.history.dense(), strict=True):
        assert torch.equal(mine, theirs)
