"""What a plan counts is what running it does."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from recdistill.config.models import StudentConfig, TeacherConfig
from recdistill.config.presets import presets
from recdistill.models.backbones.sequence import SequenceBackbone
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import BACKBONES, build_backbone, dense_parameters
from recdistill.models.flops import cost_of
from recdistill.models.heads import Towers, predicts_apart
from recdistill.train.learner import Learner
from tests.support.batches import EXTRAS, make_batch

ENCODERS = [kind for kind, cls in BACKBONES.items() if issubclass(cls, SequenceBackbone)]


def built(kind: str, device: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.device(device):
        return build_backbone(
            kind,
            width=8,
            fields=3,
            slots=2,
            actions=2,
            length=9,
            tables=TableOptions(),
            options=dict(options),
            extras=EXTRAS,
        )


@pytest.mark.parametrize("kind", ENCODERS)
def test_counted_on_the_meta_device_as_on_this_one(kind: str) -> None:
    assert cost_of(built(kind, "meta"), 9, 3) == cost_of(built(kind, "cpu"), 9, 3)


def test_sparse_experts_are_counted_as_on_average() -> None:
    def step(device: str, **options: object) -> int:
        return cost_of(built("token-mixer", device, tokens=4, mixer_width=16, **options), 9, 64).step_flops

    assert step("meta", experts=4, active=1) == pytest.approx(step("cpu", experts=4, active=1), rel=0.05)
    assert step("meta", experts=4, active=1) < step("meta")


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_batch_that_is_run_does_as_many_products(kind: str) -> None:
    backbone, batch = built(kind, "cpu"), make_batch((3,), (9,))
    with FlopCounterMode(display=False) as counter:
        backbone(batch).sum().backward()
    counted = cost_of(backbone, 9, 3)
    total = counter.get_total_flops()
    assert counted.step_flops == pytest.approx(total, rel=0.02)  # the vectors of actions are not counted
    assert counted.dense_parameters == dense_parameters(backbone)


def test_a_step_of_a_model_that_predicts_apart_has_a_pass_more() -> None:
    backbone, batch = built("hstu", "cpu", dropout=0.1), make_batch((3,), (9,))
    learner = Learner(Towers(backbone, 1), StudentConfig(kind="hstu", width=8, history=9), None, ("click",))
    with FlopCounterMode(display=False) as counter:
        learner.learn(batch, torch.ones(3, dtype=torch.bool))
    assert cost_of(backbone, 9, 3).step_flops == pytest.approx(counter.get_total_flops(), rel=0.1)  # but for the heads
    experts = built("token-mixer", "meta", tokens=4, mixer_width=8, variant="rankmixer", experts=4, active=1)
    assert predicts_apart(experts) and not predicts_apart(built("hstu", "meta"))


@pytest.mark.parametrize("kind", sorted(set(BACKBONES) - set(ENCODERS)))
def test_the_others_are_run(kind: str) -> None:
    cost = cost_of(built(kind, "cpu"), 9)
    assert 0 < cost.forward_flops < cost.step_flops and cost.activation_bytes > 0


def test_dense_attention_grows_with_the_square_and_semi_local_does_not() -> None:
    def forward(length: int, **options: object) -> int:
        with torch.device("meta"):
            backbone = build_backbone(
                "hstu",
                width=8,
                fields=1,
                slots=1,
                actions=1,
                length=length,
                tables=TableOptions(),
                options={"layers": 2, **options},
            )
        return cost_of(backbone, length).forward_flops

    assert forward(4096, band=64) / forward(1024, band=64) < 4.2
    assert forward(4096) / forward(1024) > 10


def test_recomputing_keeps_less_and_does_more() -> None:
    once, twice = (cost_of(built("hstu", "meta", layers=4, recompute=again), 9) for again in (False, True))
    assert twice.activation_bytes < once.activation_bytes and twice.step_flops > once.step_flops


@pytest.mark.parametrize("name", presets())
def test_a_preset_has_the_size_of_its_name(name: str) -> None:
    config = TeacherConfig.model_validate({"preset": name})
    with torch.device("meta"):
        backbone = build_backbone(
            config.kind,
            width=config.width,
            fields=8,
            slots=1,
            actions=1,
            length=config.history,
            tables=TableOptions(),
            options=dict(config.options),
        )
    number, unit = float(name.split("-")[-1][:-1]), {"m": 1e6, "b": 1e9}[name[-1]]
    assert dense_parameters(backbone) == pytest.approx(number * unit, rel=0.15)
