"""Networks of the user's own: what torch.export takes is served as it predicts, the rest is refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.data.batch.batch import Batch
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.examples import ACTIONS
from tests.export.test_graph import network, with_graph, worst

WIDTH = 8


class Own(nn.Module):
    """An item table, and whatever `parts` adds."""

    output_width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.item = GrowableTable(WIDTH, seed=1, name="item", std=0.5)
        self.parts()

    def parts(self) -> None:
        """Add parts."""

    def shown(self, batch: Batch) -> Tensor:
        return self.item(batch.item.unique).index_select(0, batch.item.inverse)

    def past(self, batch: Batch) -> tuple[Tensor, Tensor]:
        index, _, _, mask = batch.history.dense()
        return self.item(batch.history.unique)[index], mask


class Recurrent(Own):
    """An LSTM over the history."""

    def parts(self) -> None:
        self.body = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, batch: Batch) -> Tensor:
        events, mask = self.past(batch)
        newest = (mask.sum(1) - 1).clamp(min=0)
        states = self.body(events)[0][torch.arange(events.shape[0]), newest]
        return states[batch.history.of] + self.shown(batch)


class Stepwise(Own):
    """A loop over the events, whose number is fixed."""

    def parts(self) -> None:
        self.cell = nn.GRUCell(WIDTH, WIDTH)

    def forward(self, batch: Batch) -> Tensor:
        events, mask = self.past(batch)
        state = torch.zeros(events.shape[0], WIDTH)
        for at in range(events.shape[1]):
            state = torch.where(mask[:, at, None], self.cell(events[:, at], state), state)
        return state[batch.history.of] + self.shown(batch)


class Attending(Own):
    """torch's own attention, 4-D, over histories some of which are empty: every pair of theirs is masked."""

    def forward(self, batch: Batch) -> Tensor:
        events, mask = self.past(batch)
        of = batch.history.of
        events, mask = events[of, None], mask[of, None, None]
        query = self.shown(batch)[:, None, None]
        return functional.scaled_dot_product_attention(query, events, events, attn_mask=mask)[:, 0, 0]


class CausalAttention(Own):
    """Attention by `is_causal`."""

    def forward(self, batch: Batch) -> Tensor:
        events, mask = self.past(batch)
        events = events[:, None]
        seen = functional.scaled_dot_product_attention(events, events, events, is_causal=True)[:, 0]
        return (seen * mask[:, :, None]).sum(1)[batch.history.of] + self.shown(batch)


class ManyHeads(Own):
    """nn.MultiheadAttention; the candidate stands with its events."""

    def parts(self) -> None:
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, batch: Batch) -> Tensor:
        events, mask = self.past(batch)
        query, of = self.shown(batch)[:, None], batch.history.of
        keys = torch.cat([query, events[of]], 1)
        padding = ~torch.cat([torch.ones(query.shape[0], 1, dtype=torch.bool), mask[of]], 1)
        found = self.attention(query, keys, keys, key_padding_mask=padding, need_weights=False)[0]
        return torch.as_tensor(found)[:, 0]


class OwnTables(Own):
    """Tables that do not grow, by ids themselves: items', actions'."""

    def parts(self) -> None:
        self.rows, self.actions = nn.Embedding(64, WIDTH), nn.Embedding(ACTIONS, WIDTH)

    def forward(self, batch: Batch) -> Tensor:
        index, _, action, mask = batch.history.dense()
        events = self.rows(batch.history.unique[index]) + self.actions(action)
        return self.rows(batch.item.ids()) + (events * mask[:, :, None]).sum(1)[batch.history.of]


class Oddments(Own):
    """Options as dicts, loops, dropout, batch norm, buffers, float64, a fixed size in a condition."""

    def parts(self) -> None:
        self.options = {"layers": 2, "of": {"activation": "relu"}}
        self.layers = nn.ModuleDict({str(at): nn.Linear(WIDTH, WIDTH) for at in range(2)})
        self.norm, self.drop, self.wide = nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), nn.Linear(WIDTH, WIDTH).double()
        self.norm.running_mean = torch.randn(WIDTH)
        self.register_buffer("scale", torch.rand(WIDTH))

    def forward(self, batch: Batch) -> Tensor:
        x = self.drop(self.norm(self.shown(batch)))
        for at in range(self.options["layers"]):  # type: ignore[arg-type]
            x = getattr(functional, self.options["of"]["activation"])(self.layers[str(at)](x)) + x  # type: ignore[index]
        if x.shape[1] > 3:
            x = x + 0.1
        return self.wide(x.double()).float() * self.get_buffer("scale")


class Counted(Own):
    """len() of what varies."""

    def forward(self, batch: Batch) -> Tensor:
        return self.shown(batch).view(len(batch), -1)


class UserByUser(Own):
    """A loop over users."""

    def forward(self, batch: Batch) -> Tensor:
        events, _ = self.past(batch)
        return torch.stack([one.sum(0) for one in events])[batch.history.of] + self.shown(batch)


class Flat(Own):
    """3-D attention."""

    def forward(self, batch: Batch) -> Tensor:
        events = self.past(batch)[0][batch.history.of]
        return functional.scaled_dot_product_attention(self.shown(batch)[:, None], events, events)[:, 0]


class OtherIds(Own):
    """Rows of ids that are not a column's."""

    def forward(self, batch: Batch) -> Tensor:
        return torch.as_tensor(self.item(torch.cat([batch.item.unique, batch.user.unique[1:]]))[batch.item.inverse])


class OfLabels(Own):
    """Labels, which a server does not have."""

    def forward(self, batch: Batch) -> Tensor:
        return self.shown(batch) + batch.labels[:, :1]


class Jagged(Own):
    """Histories end to end, as many events of each as its length says."""

    def forward(self, batch: Batch) -> Tensor:
        history = batch.history
        users = torch.arange(history.lengths.shape[0])
        return (
            torch.repeat_interleave(users, history.lengths)[: history.index.shape[0]]
            * self.item(history.unique)[history.index]
        )


@pytest.mark.parametrize(
    "one",
    [Recurrent, Stepwise, Attending, CausalAttention, ManyHeads, OwnTables, Oddments],
    ids=lambda one: one.__name__,
)
def test_what_torch_export_takes_is_served_as_it_predicts(one: type[Own]) -> None:
    torch.manual_seed(0)
    assert worst(*with_graph(network(one()))) < 1e-5


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (Counted, "torch.export does not take it: its graph is of one number of candidates alone; ask tensor.shape"),
        (UserByUser, "torch.export does not take it: its graph is of one number of users alone; ask tensor.shape"),
        (Flat, "torch.export does not take it: scaled_dot_product_attention: .*only 4D query, key, and value"),
        (OtherIds, "a table is asked for rows that are not those of one column of the batch"),
        (OfLabels, "it does not take a batch as a server makes it.*IndexError"),
        (Jagged, "it does not take a batch as a server makes it, whose histories are padded"),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else "",
)
def test_what_cannot_be_served_is_refused_in_one_clear_line(one: type[Own], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        with_graph(network(one()))
    assert len(str(caught.value).splitlines()) == 1 and "\x1b" not in str(caught.value)
