"""Rows of a trained model go where their ids are, and to the rank that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from recdistill.checkpoint.sharded_tensors import stored
from recdistill.config.models import TeacherConfig
from recdistill.distributed.ranks import ALONE, Ranks
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.sharded import ShardedTable, spread_tables
from recdistill.models.factory import named_tables, table_modules
from recdistill.models.heads import Towers
from recdistill.train.donor import Donor, DonorRows
from tests.compress.test_transplant import learned, network


def donor_of(net: Towers, path: Path) -> Donor:
    """Return a network as a donor whose tensors lie in a file."""
    found = {f"network/{name}": value for name, value in net.state_dict().items()}
    for at, table in enumerate(table_modules(net)):
        found |= {f"table/{at}/{name}": value for name, value in table.state().items()}
    names = tuple(table.name for table in table_modules(net))
    save_file(found, path)
    return Donor("old", TeacherConfig(kind="pooled-mlp"), stored([path]), names)


def keeps(table: GrowableTable, rows: torch.Tensor) -> torch.Tensor:
    """Return bool [n], whether a table keeps each of the rows, which are numbers of the whole table's; 0 is none."""
    ranks = table.ranks if isinstance(table, ShardedTable) else ALONE
    return (rows % ranks.size == ranks.rank) & (rows > 0)


@pytest.mark.parametrize("ranks", [ALONE, Ranks(0, 2), Ranks(1, 2)])
def test_rows_go_where_their_ids_are_and_others_stay(tmp_path: Path, ranks: Ranks) -> None:
    old, new, fresh = network("pooled-mlp", 8), network("pooled-mlp", 8, seed=1), network("pooled-mlp", 8, seed=1)
    learned(old)
    spread_tables(new, ranks)
    gone = int(table_modules(old)[0].state()["rows"][0])
    ids = {table.name: torch.arange(60).flip(0) + 100 for table in table_modules(old)}
    for one in ids.values():
        one[gone] = 0
    donor = donor_of(old, tmp_path / "model.safetensors")
    donor.load_into(new, ids)
    assert donor.learned == sum(table.touched for table in table_modules(old))
    for path, table in named_tables(old).items():
        state, mine, becomes = table.state(), named_tables(new)[path], ids[table.name]
        kept = state["rows"][keeps(mine, becomes[state["rows"]])]
        assert len(kept) and torch.equal(mine.peek(becomes[kept]), table.peek(kept))
        assert mine.touched == len(kept)
        others = torch.arange(60)[keeps(mine, torch.arange(60))]
        assert torch.equal(mine.peek(others), named_tables(fresh)[path].peek(others))


def test_ranks_read_each_row_once() -> None:
    rows, weight = torch.arange(1, 8), torch.arange(7.0)[:, None]
    found = DonorRows(rows, weight)  # type: ignore[arg-type]
    pieces = [[*found.pieces(Ranks(rank, 3))] for rank in range(3)]
    assert [piece[0][0].tolist() for piece in pieces] == [[3, 6], [1, 4, 7], [2, 5]]
    assert torch.equal(torch.cat([piece[0][1] for piece in pieces]).sort(0).values, weight)
