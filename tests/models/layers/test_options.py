"""Options are held against the class before anything is built: what is accepted runs, everything else is
named in one line.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.encoder import MAX_ACTIONS
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import BACKBONES, build_backbone
from tests.support.batches import make_batch, make_net

GIVEN = {"width", "fields", "slots", "actions", "length", "tables", "extras"}
OPTIONS = [
    (kind, name)
    for kind, network in BACKBONES.items()
    for name in inspect.signature(network).parameters
    if name not in GIVEN
]
NAN = float("nan")
VALUES: list[Any] = [
    -1,
    0,
    1,
    2,
    3,
    8,
    10**30,
    True,
    False,
    0.5,
    1.5,
    2.0,
    -5.0,
    NAN,
    float("inf"),
    "4",
    "no",
    "",
    [],
    [0],
    [1, 2],
    [-1],
    [8.5],
    [True],
    ["time"],
    ["place"],
    [[0]],
    [[0], [1]],
    [[]],
    [[7]],
    [[-1]],
    ["4"],
    [10**30],
]


def runs_or_is_refused(kind: str, options: dict[str, Any]) -> bool:
    """Return whether a net is built; it must then learn from a batch. Anything but UserError is a failure."""
    try:
        net = make_net(kind, **options)
    except UserError as error:
        assert "\n" not in str(error) and str(error)
        return False
    torch.as_tensor(net(make_batch())[0].sum()).backward()
    return True


@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_no_value_of_an_option_ends_in_anything_but_a_net_or_one_line(kind: str, name: str) -> None:
    built = [value for value in VALUES if runs_or_is_refused(kind, {name: value})]
    assert len(built) < len(VALUES) - 10, built


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nor_do_several_together(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(BACKBONES)))
    names = sorted(name for of, name in OPTIONS if of == kind)
    chosen = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(VALUES), max_size=4))
    runs_or_is_refused(kind, chosen)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("hstu", {"heads": "4"}, r"options.heads: .*valid integer; got '4'"),
        ("hstu", {"heads": 0}, r"options.heads: .*equal to 1; got '0'"),
        ("hstu", {"hidden": 5}, "options.hidden: it should be a list; got '5'"),
        ("hstu", {"band": 8.5}, r"options.band: .*integer; got '8.5'"),
        ("hstu", {"newest": -5, "newest_layers": 1}, r"options.newest: .*equal to 0"),
        ("hstu", {"transducers": []}, r"options.transducers: "),
        ("hstu", {"transducers": [[0], []]}, r"options.transducers\[1\]: "),
        ("hstu", {"recompute": "no"}, r"options.recompute: .*boolean"),
        ("token-mixer", {"expand": -1}, r"options.expand: .*greater than 0"),
        ("hstu", {"layers": True}, r"options.layers: .*integer"),
        ("hstu", {"stochastic": NAN}, r"options.stochastic: .*finite"),
        ("hstu", {"hidden": [8, "x"]}, r"options.hidden\[1\]: "),
        ("din", {"activation": "tanh"}, r"options.activation: .*'sigmoid', 'prelu' or 'dice'; got 'tanh'"),
        ("din", {"unit": []}, r"options.unit: .*at least 1"),
        ("dcn-v2", {"crosses": -1}, r"options.crosses: .*equal to 0"),
        ("target-attention", {"rich": 1}, r"options.rich: .*boolean"),
        ("longer", {"merge": 10**9}, r"options.merge: .*less than"),
    ],
)
def test_the_option_the_value_and_what_is_asked_are_named(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^model {kind}: {message}"):
        make_net(kind, **options)


def test_a_whole_number_is_a_fraction_too() -> None:
    assert make_net("hstu", stochastic=1).backbone.stochastic.few == 3  # of 9


def test_actions_are_those_of_the_log() -> None:
    def build(actions: int, code: int) -> None:
        with torch.device("meta"):
            build_backbone(
                "hstu",
                width=8,
                fields=1,
                slots=0,
                actions=actions,
                length=5,
                tables=TableOptions(),
                options={"transducers": [[0], [code]]},
            )

    build(MAX_ACTIONS, MAX_ACTIONS - 1)
    for actions, code in ((MAX_ACTIONS, MAX_ACTIONS), (3, 3)):
        with pytest.raises(UserError, match=f"action {code} is not in the log, which has actions 0 to {actions - 1}"):
            build(actions, code)
