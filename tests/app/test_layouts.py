"""Layouts of a large model over ranks, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.app.capacity import GIB, Machine, best_first, needs_of, plan, teacher_of
from recdistill.app.layouts import Layout, Links, Parts, layouts, price
from recdistill.config.models import TeacherConfig

# 10 parameters outside, 4 layers of 80 in the mixer; a sample is 4 tokens of 8 floats between layers
PARTS = Parts(outside=10, mixer=320, whole=6, around=4, layers=4, tokens=4, heads=2, row=32, features=5, rest=1000)
LINKS = Links(speed=100.0, network=10.0, link=40.0, node=4)
MACHINE = Machine(gpus=256, memory=80 * GIB, peak=989e12, share=0.4, network=5e10)


def test_one_rank_moves_nothing() -> None:
    one = price(PARTS, Layout(1, 1, 1, sharded=True), LINKS, 8, tables=0.0)
    assert one.computing == 8 * (1000 + 6 * 320) / 100 and one.moving == one.waiting == 0
    assert one.weights == 16 * 330 and one.seconds == one.computing


def test_sharded_by_rows_of_weights() -> None:
    """Weights are gathered twice, the 6 in no layer once, gradients scattered once: 3/4 of them from the others."""
    found = price(PARTS, Layout(1, 1, 4, sharded=True), LINKS, 8, tables=20.0)
    assert found.moving == pytest.approx((4 * (3 * 330 - 6) * 3 / 4 + 20) / 10)
    assert found.computing == 2 * 2920 / 100 and found.waiting == 0
    assert found.weights == pytest.approx(16 * 330 / 4 + 4 * (6 + 2 * 80))
    assert found.seconds == found.moving


def test_layers_over_the_ranks_of_a_node() -> None:
    """2 ranks to a layer, 4 copies of 2 rows: a rank has 16 floats of a sample, and sends half of them."""
    found = price(PARTS, Layout(2, 1, 4, sharded=False), LINKS, 8, tables=0.0)
    assert found.moving == pytest.approx(4 * ((3 * 10 - 6) * 7 / 8 + 2 * 160 * 3 / 4) / 10)
    assert found.waiting == pytest.approx(4 * 0.5 * 4 * (4 + 1) * 2 * 16 / 40)
    assert found.weights == pytest.approx(16 * 10 / 8 + 4 * (6 + 2 * 4) + 4 * 160 * (2 + 2 / 4))


def test_layers_over_the_ranks_of_a_node_and_their_shares_over_copies() -> None:
    """As before, but each of 4 copies has a quarter of the rank's 160 numbers, gathers them twice, scatters once."""
    found = price(PARTS, Layout(2, 1, 4, sharded=True), LINKS, 8, tables=0.0)
    assert found.moving == pytest.approx(4 * ((3 * 10 - 6) * 7 / 8 + 3 * 160 * 3 / 4) / 10)
    assert found.weights == pytest.approx(16 * 10 / 8 + 4 * (6 + 2 * 160 / 4) + 16 * 160 / 4)
    assert found.layout.words == "--shard --tensor 2" and Layout(2, 1, 4, sharded=False).words == ""


def test_stages_one_behind_the_other() -> None:
    """3 stages of 4 layers: one has 2 of them. 256 rows in 4 pieces, a stage waits for 2 of 6 turns."""
    found = price(PARTS, Layout(1, 3, 1, sharded=False), LINKS, 256, tables=0.0)
    assert found.pieces == 4
    assert found.computing == pytest.approx(86 * (1000 + 6 * 320 * (6 / 4) * (2 * 3 / 4)) / 100)
    assert found.waiting == pytest.approx(4 * (2 * 256 * 32 + 2 * 256 * 5 / 3) / 10)
    assert found.moving == pytest.approx(4 * (3 * 10 - 6) * (2 / 3) / 10)


def test_short_messages_take_half() -> None:
    """But for weights that are gathered and tokens that are exchanged as `train --shard` does it: in full."""
    gradients = 4 * (10 * 7 / 8 + 160 * 3 / 4) / 10
    for layout, less in ((Layout(2, 1, 4, sharded=True), gradients / 2), (Layout(2, 2, 2, sharded=False), None)):
        full, short = (price(PARTS, layout, replace(LINKS, width=width), 256, 0.0) for width in (4, 2))
        assert short.moving == pytest.approx(full.moving / 2 if less is None else full.moving - less)
        assert short.waiting == full.waiting * (1 if layout.implemented else 1 / 2)
        assert short.computing == full.computing and short.weights == full.weights


@given(st.integers(1, 64), st.integers(1, 8))
def test_layouts_use_every_rank_and_fit_the_mixer(gpus: int, node: int) -> None:
    found = list(layouts(PARTS, gpus, node))
    assert found[0] == Layout(1, 1, gpus, sharded=True) and len(set(found)) == len(found)
    assert {one.tensor for one in found if one.implemented} == ({1, 2} if gpus % 2 == node % 2 == 0 else {1})
    for one in found:
        assert one.tensor * one.stages * one.copies == gpus and one.stages <= PARTS.layers
        assert node % one.tensor == 0 and PARTS.tokens % one.tensor == 0 and PARTS.heads % one.tensor == 0


def test_the_first_layout_is_what_the_plan_shows() -> None:
    needs = needs_of(teacher_of(None, "24b", ["teacher.batch=16384"]), MACHINE, 1e10, 1e7)
    first, fitting = needs.layouts[0], best_first(needs, MACHINE)
    best, able = fitting[0], next(one for one in fitting if one.layout.implemented)
    assert first.moving == pytest.approx(needs.moving) and first.computing == pytest.approx(needs.computing)
    assert first.weights == pytest.approx(needs.weights + needs.gathered)
    assert not best.layout.implemented and best.seconds < first.seconds / 20
    assert able.layout == Layout(8, 1, 32, sharded=True) and able.seconds < first.seconds / 4


def test_a_model_without_a_mixer_has_one_layout() -> None:
    config = TeacherConfig(kind="hstu", history=20)
    needs = needs_of(config, replace(MACHINE, width=2), 1e9, 1e7)
    assert [one.layout.implemented for one in needs.layouts] == [True]
    assert needs.layouts[0].moving == pytest.approx(needs.moving)


def test_the_plan_says_what_can_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    plan(teacher_of(None, "7b", []), replace(MACHINE, gpus=64, width=2), 1e9, 1e7)
    lines = [line for line in capsys.readouterr().out.splitlines() if " x " in line and "--shard" in line]
    assert [(line.split()[:5], line.partition("--")[2].strip()) for line in lines] == [
        (["1", "x", "1", "x", "64"], "shard --short"),
        (["8", "x", "1", "x", "8"], "shard --tensor 8 --short"),
    ]
