"""Every model learns the same wherever its dense part computes: what it reads is brought there, its tables
stay with the host.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recdistill.config.load import load_text
from recdistill.config.models import DistillConfig, StudentConfig
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import replace_tables
from recdistill.models.embeddings.on_device import DeviceTable
from recdistill.models.factory import table_modules
from recdistill.models.layers.device import device_of, place
from recdistill.train.build import check_models
from recdistill.train.learner import Learner
from tests.contracts.test_models import CASES
from tests.support.batches import make_batch, make_net
from tests.support.pretended_device import Elsewhere, another_device


def _steps(
    kind: str, options: dict[str, Any], device: torch.device | None, tables: bool = False
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the logits of three steps, and the learner's state after them."""
    net = make_net(kind, layout="decoupled", **options)
    if device is not None:
        place(net, device)
    if device is not None and tables:
        replace_tables(net, lambda table: DeviceTable(table, device))
    learner, logits = Learner(net, StudentConfig(), DistillConfig()), []
    for seed in range(3):
        batch = make_batch(seed=seed)
        batch.signals.copy_(torch.linspace(-1, 1, len(batch))[:, None])
        logits.append(learner.learn(batch, torch.ones(len(batch), dtype=torch.bool)).logits)
    return torch.cat(logits), learner.state()[0]


EVERY: dict[str, tuple[str, dict[str, Any]]] = {
    **CASES,
    "hstu-stochastic": ("hstu", {"stochastic": 1.0}),
    "hstu-balanced": ("hstu", {"stochastic": 1.0, "balanced": True}),
    "token-mixer-auxiliary": (
        "token-mixer",
        {"tokens": 4, "mixer_width": 16, "mixer_layers": 3, "merge": 2, "auxiliary": 0.5},
    ),
}


@pytest.mark.parametrize(
    ("case", "tables"), [*((case, False) for case in EVERY), ("din", True), ("target-attention", True), ("hstu", True)]
)
def test_elsewhere_is_as_here(case: str, tables: bool) -> None:
    """tables: the embedding rows lie there, too."""
    kind, options = EVERY[case]
    logits, state = _steps(kind, options, None)
    with another_device() as device:
        far_logits, far_state = _steps(kind, options, device, tables)
    assert not isinstance(far_logits, Elsewhere) and not any(
        isinstance(value, Elsewhere) for value in far_state.values()
    )
    torch.testing.assert_close(far_logits, logits, rtol=1e-4, atol=1e-5)
    assert far_state.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(far_state[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_other_device_is_one() -> None:
    with another_device() as device:
        there = torch.arange(3, device=device)
        assert there.device == device and (there + 1).cpu().tolist() == [1, 2, 3]
        with pytest.raises(RuntimeError, match="some tensors are here, and some elsewhere"):
            there + torch.arange(3)


def test_tables_stay_with_the_host() -> None:
    with another_device() as device:
        net = make_net("din")
        place(net, device)
        table = table_modules(net)[0]
        rows = table(torch.tensor([0, 1, 2]))
        assert isinstance(rows, Elsewhere) and not isinstance(table._weight, Elsewhere)
        assert all(parameter.device == device for parameter in net.parameters())


def test_a_model_for_cuda_where_there_is_none_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    experiment = load_text("{name: there, data: {}, teacher: {device: cuda}}", [], "there.yaml")
    with pytest.raises(UserError, match="teacher: device cuda: torch sees no CUDA device"):
        check_models(experiment)


def test_a_process_beyond_the_last_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(
        UserError, match="process 2 of this machine has no CUDA device, there are 2; start as many processes as devices"
    ):
        device_of("auto")


def test_float8_on_the_cpu_is_refused_before_anything_is_read() -> None:
    experiment = load_text(
        "{name: short, data: {}, teacher: {kind: hstu, device: cpu, options: {precision: float8}}}", [], "short.yaml"
    )
    with pytest.raises(UserError, match="precision: float8 needs a GPU of compute capability 8.9"):
        check_models(experiment)


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
