"""Histories on their way through an encoder: order, the newest, those of some actions, random ones."""

from __future__ import annotations

import pytest
import torch

from recdistill.models.attention import blockwise
from recdistill.models.attention.request_layout import lay_out
from recdistill.models.encoders import packed
from recdistill.models.encoders.packed import Sequences, one_sequence, sequences
from tests.support.batches import make_batch


def rows_of(at: Sequences) -> torch.Tensor:
    """Return [R, L, 1], each event's place in its history, counted from 1; padding 0."""
    return ((torch.arange(at.ago.shape[1]) + 1) * at.mask).unsqueeze(2).float()


def some() -> Sequences:
    """Return histories of 5, 3 and 1 events with the actions 0, 1, 0, 1, 0."""
    lengths = torch.tensor([5, 3, 1])
    action = torch.cat([torch.arange(int(n)) % 2 for n in lengths])
    return sequences(lengths, torch.arange(9), action)[0]


def test_the_longest_come_first_and_samples_find_their_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "BLOCK", 4)
    layout = lay_out(make_batch((1, 1, 1), (4, 0, 9)).history)
    at, order = Sequences.of(layout)
    assert order is not None and at.lengths.tolist() == [9, 4, 0] and at.piece is not None
    assert at.lengths[at.piece].tolist() == [4, 0, 9]
    assert at.alive == (2, 1, 1)  # events 0-3, 4-7, 8
    assert blockwise.BLOCK != packed.BLOCK


def test_the_newest_events_are_kept() -> None:
    at = some()
    fewer, rows = at.newest(rows_of(at), 2)
    assert fewer.lengths.tolist() == [2, 2, 1]
    assert rows[:, :, 0].tolist() == [[4, 5], [2, 3], [1, 0]]
    assert torch.equal(fewer.action[:2], torch.tensor([[1, 0], [1, 0]]))
    same, _ = at.newest(rows_of(at), 5)
    assert same is at


def test_events_of_some_actions_are_kept_in_order() -> None:
    at = some()
    fewer, rows = at.of_actions(rows_of(at), torch.tensor([1]))
    assert fewer.lengths.tolist() == [2, 1, 0]
    assert rows[0, :, 0].tolist() == [2, 4] and rows[1, 0, 0] == 2


def test_a_random_part_keeps_its_order_and_its_length() -> None:
    at, wanted = some(), torch.tensor([3, 3, 1])
    fewer, rows = at.shortened(rows_of(at), wanted, torch.Generator().manual_seed(0))
    assert torch.equal(fewer.lengths, wanted) and torch.equal((rows[:, :, 0] > 0).sum(1), wanted)
    assert (rows[0, :3, 0].diff() > 0).all() and rows[1, :, 0].tolist() == [1, 2, 3]


def test_one_history_has_one_group() -> None:
    assert one_sequence(0).mask.tolist() == [[False]] and one_sequence(3).mask.tolist() == [[True] * 3]
