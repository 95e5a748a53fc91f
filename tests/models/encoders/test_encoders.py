"""Every encoder of histories equals the written-out one: a candidate passes the layers as if it alone were appended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.data.batch.batch import AGES
from recdistill.models.attention.request_layout import lay_out
from recdistill.models.attention.target_ops import gap_buckets
from recdistill.models.backbones.token_mixer import SparseSwiGLU, TokenMixer, mixed, reverted
from recdistill.models.encoders.hstu import HSTULayer, HSTUStack
from recdistill.models.encoders.longer import LongerStack, merged
from recdistill.models.encoders.packed import Sequences, one_sequence
from recdistill.models.encoders.position_bias import RelativeBias
from recdistill.models.encoders.transformer import TransformerLayer, TransformerStack, rotated
from tests.support.attention_reference import pairwise, seen
from tests.support.batches import make_batch, make_net

WIDTH = 8
SIZES = [(3, 1, 2), (1, 1, 1), (9, 1, 1)]
GAPS = gap_buckets(AGES)


def randomised(module: nn.Module) -> Any:
    """The module in float64, no part of it zero or one."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def run(
    stack: nn.Module, sizes: tuple[int, ...], lengths: tuple[int, ...] = (4, 0, 9)
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Return (what the stack makes of each sample, each sample's [history..., candidate] and their ages)."""
    batch = make_batch(sizes, lengths)
    rows = torch.randn(len(batch.history.unique), WIDTH).double()
    rows[0] = 0
    candidates, layout = torch.randn(len(batch), WIDTH).double(), lay_out(batch.history)
    at, order = Sequences.of(layout)
    events = layout.events(rows)
    states = layout.ungroup(stack(events if order is None else events[order], layout.group(candidates), at))
    alone = []
    for b, r in enumerate(batch.history.of.tolist()):
        span = slice(int(batch.history.offsets[r]), int(batch.history.offsets[r + 1]))
        ages = torch.cat([batch.history.age[span], torch.zeros(1, dtype=torch.int64)])
        alone.append((torch.cat([rows[batch.history.index[span]], candidates[b : b + 1]]), ages))
    return states, alone


def bias_of(bias: RelativeBias, ages: Tensor) -> Tensor:
    """[H, n, n], pair by pair."""
    n, zero = len(ages), torch.zeros(bias.heads, AGES, dtype=torch.float64)
    position = torch.zeros(bias.heads, n + 1) if bias.position is None else bias.position
    time = zero if bias.time is None else bias.time
    pairs = [
        [position[:, min(max(i - j, 0), position.shape[1] - 1)] + time[:, GAPS[ages[i], ages[j]]] for j in range(n)]
        for i in range(n)
    ]
    return torch.stack([torch.stack(row) for row in pairs]).permute(2, 0, 1)


def may_see(n: int, **rules: Any) -> Tensor:
    """bool [n, n]: the target, last, sees everything; events by the rules, as if it were not there."""
    return torch.tensor([[i == n - 1 or seen(i, j, n - 1, **rules) for j in range(n)] for i in range(n)])


def hstu(layer: HSTULayer, x: Tensor, ages: Tensor, may: Tensor) -> Tensor:
    u, q, v, k = functional.silu(layer.project(layer.norm(x))).chunk(4, 1)
    bias, d = bias_of(layer.bias, ages), x.shape[1] // layer.heads
    parts = [slice(h * d, (h + 1) * d) for h in range(layer.heads)]
    mixed_ = (
        torch.cat([pairwise(q[:, p], k[:, p], v[:, p], bias[h], may) for h, p in enumerate(parts)], 1) / layer.length
    )
    return layer.out(layer.mixed_norm(mixed_) * u) + x  # type: ignore[no-any-return]


RULES: list[dict[str, Any]] = [
    {},
    {"band": 3},
    {"band": 1, "columns": 2},
    {"band": 3, "columns": 2, "columns_at": "newest"},
    {"band": 2, "columns": 50},
    {"bias": ["time"]},
    {"bias": []},
    {"band": 50, "columns": 2},
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_hstu(sizes: tuple[int, ...], rules: dict[str, Any]) -> None:
    stack = randomised(HSTUStack(WIDTH, 2, 10, 3, **rules))
    fast, alone = run(stack, sizes)
    own = {"band": rules.get("band"), "columns": rules.get("columns", 0), "at": rules.get("columns_at", "oldest")}
    for state, (x, ages) in zip(fast, alone, strict=True):
        may = may_see(len(x), **own)
        for layer in (*stack.layers, stack.closing):
            x = hstu(layer, x, ages, may)
        torch.testing.assert_close(state, x[-1])


@pytest.mark.parametrize("newest_layers", [1, 2])
def test_truncated_hstu_goes_on_with_the_newest(newest_layers: int) -> None:
    stack = randomised(HSTUStack(WIDTH, 2, 10, 2, newest_layers, 4))
    fast, alone = run(stack, (3, 1, 2))
    for state, (x, ages) in zip(fast, alone, strict=True):
        for number, layer in enumerate((*stack.layers, stack.closing)):
            if number == 2:
                x, ages = x[-5:], ages[-5:]
            x = hstu(layer, x, ages, may_see(len(x)))
        torch.testing.assert_close(state, x[-1])


def test_recomputed_layers_learn_the_same() -> None:
    grads = []
    for recompute in (False, True):
        stack = randomised(HSTUStack(WIDTH, 2, 10, 3, recompute=recompute))
        torch.manual_seed(1)
        run(stack, (3, 1, 2))[0].square().sum().backward()
        grads.append([p.grad.clone() for p in stack.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) and all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def transformer(layer: TransformerLayer, x: Tensor, ages: Tensor, may: Tensor) -> Tensor:
    before, places = layer.before, torch.arange(len(x))
    q, k, v = layer.project(layer.first(x) if before else x).chunk(3, 1)
    bias, d, heads = bias_of(layer.bias, ages), x.shape[1] // layer.heads, []
    for h in range(layer.heads):
        a, b, c = (part[:, h * d : (h + 1) * d] for part in (q, k, v))
        if layer.rotary:
            a, b = rotated(a, places), rotated(b, places)
        heads.append(pairwise(a * d**-0.5, b, c, bias[h], may, softmax=True))
    added = x + layer.out(torch.cat(heads, 1))
    if before:
        return added + layer.ffn(layer.second(added))  # type: ignore[no-any-return]
    added = layer.first(added)
    return layer.second(added + layer.ffn(added))  # type: ignore[no-any-return]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("residual", ["pre", "post"])
@pytest.mark.parametrize(
    ("block", "bias", "band"), [("llama", [], None), ("sasrec", [], None), ("sasrec", ["position", "time"], 3)]
)
def test_transformer(sizes: tuple[int, ...], residual: Any, block: Any, bias: list[str], band: int | None) -> None:
    stack = randomised(TransformerStack(WIDTH, 2, 10, 3, block, residual, bias, band))
    fast, alone = run(stack, sizes)
    for state, (x, ages) in zip(fast, alone, strict=True):
        if stack.places is not None:
            x = x + stack.places[torch.arange(len(x)).flip(0)]
        for layer in (*stack.layers, stack.closing):
            x = transformer(layer, x, ages, may_see(len(x), band=band))
        torch.testing.assert_close(state, x[-1])


def test_rotation_knows_distances_alone() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 8).double()
    one = [rotated(part, torch.arange(5)) for part in (a, b)]
    other = [rotated(part, torch.arange(5) + 7) for part in (a, b)]
    torch.testing.assert_close(one[0] @ one[1].T, other[0] @ other[1].T, rtol=1e-4, atol=1e-4)


def longer(stack: LongerStack, x: Tensor) -> Tensor:
    """One sample: x [history..., candidate] -> state."""
    past, target = x[:-1], stack.enter(x[-1:])
    groups = [past[max(0, end - stack.merge) : end] for end in range(len(past), 0, -stack.merge)][::-1]
    tokens = []
    for group in groups:
        inside = stack.inner(group[None], torch.ones(1, len(group), dtype=torch.bool))[0]
        front = torch.zeros(stack.merge - len(group), WIDTH).double()
        tokens.append(functional.layer_norm(torch.cat([front, inside]).flatten(), (stack.output_width,)))
    all_ = torch.stack(tokens) if tokens else torch.zeros(0, stack.output_width).double()
    queries = torch.cat([all_[-stack.queries :], target])
    may = torch.ones(len(queries), len(all_), dtype=torch.bool).tril(max(0, len(all_) - stack.queries))
    may[-1] = True
    cross, d = stack.cross, stack.output_width // stack.cross.heads
    q, (k, v) = cross.query(cross.before_q(queries)), cross.pair(cross.before_k(all_)).chunk(2, 1)
    no_bias = torch.zeros(len(queries), len(all_))
    heads = [
        pairwise(q[:, p] * d**-0.5, k[:, p], v[:, p], no_bias, may, True) if len(all_) else torch.zeros(1, d).double()
        for p in (slice(h * d, (h + 1) * d) for h in range(cross.heads))
    ]
    queries = queries + cross.out(torch.cat(heads, 1))
    queries = queries + cross.ffn(cross.second(queries))
    for layer in (*stack.layers, stack.closing):
        queries = transformer(layer, queries, torch.zeros(len(queries), dtype=torch.int64), may_see(len(queries)))
    return queries[-1]


@pytest.mark.parametrize(("merge", "queries"), [(2, 3), (4, 1), (3, 50), (1, 4)])
def test_longer(merge: int, queries: int) -> None:
    stack = randomised(LongerStack(WIDTH, 2, 12, 2, merge, queries))
    fast, alone = run(stack, (3, 1, 2), (4, 0, 9))
    for state, (x, _) in zip(fast, alone, strict=True):
        torch.testing.assert_close(state, longer(stack, x))


def test_groups_end_with_the_newest_event() -> None:
    at = one_sequence(5)
    groups, real, all_ = merged(torch.arange(1.0, 6).view(1, 5, 1), at, 2)
    assert groups[0, :, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert real[0].tolist() == [[False, True], [True, True], [True, True]] and all_.lengths.tolist() == [3]


def test_mixing_is_a_transposition_and_its_way_back() -> None:
    x = torch.arange(3 * 2 * 4.0).view(3, 2, 4)  # 3 tokens, 2 samples, 4 wide
    assert mixed(x, 2)[1, 0].tolist() == [*x[0, 0, 2:], *x[1, 0, 2:], *x[2, 0, 2:]]
    assert torch.equal(reverted(mixed(x, 2), 3), x)


def large(mixer: TokenMixer, x: Tensor) -> Tensor:
    """One sample's features through TokenMixer-Large, token by token."""
    tokens = [mixer.summary(x), *mixer.enter(x).chunk(mixer.tokens - 1)]  # type: ignore[misc]
    earlier = tokens

    def swiglu(part: Any, token: int, y: Tensor) -> Tensor:
        gate, up = (y @ part.up[token]).chunk(2)
        return (functional.silu(gate) * up) @ part.down[token]  # type: ignore[no-any-return]

    for number, layer in enumerate(mixer.layers):
        normed, d = [layer.first(t) for t in tokens], mixer.width // layer.heads
        heads = [
            swiglu(layer.across, h, torch.cat([t[h * d : (h + 1) * d] for t in normed])) for h in range(layer.heads)
        ]
        tokens = [t + torch.cat([head[i * d : (i + 1) * d] for head in heads]) for i, t in enumerate(tokens)]
        tokens = [t + swiglu(layer.within, i, layer.second(t)) for i, t in enumerate(tokens)]
        if number % 2:
            tokens, earlier = [t + e for t, e in zip(tokens, earlier, strict=True)], tokens
    return torch.stack(tokens).mean(0)


@pytest.mark.parametrize("heads", [2, 4, 8])
def test_token_mixer_large(heads: int) -> None:
    mixer = randomised(TokenMixer(6, tokens=4, width=8, layers=4, heads=heads))
    x = torch.randn(3, 6).double()
    torch.testing.assert_close(mixer(x), torch.stack([large(mixer, row) for row in x]))


@pytest.mark.parametrize("active", [1, 2, 3])
def test_sparse_experts(active: int) -> None:
    layer = randomised(SparseSwiGLU(2, 6, 16, 3, active))
    x = torch.randn(2, 5, 6).double()
    expected = layer.shared(x)
    for t in range(2):
        for b in range(5):
            scores = x[t, b] @ layer.router[t]
            best = scores.argsort(descending=True)[:active]
            for gate, number in zip(scores[best].softmax(0), best.tolist(), strict=True):
                expected[t, b] += gate * 3 / active * layer.experts[number](x)[t, b]
    torch.testing.assert_close(layer(x), expected)


def test_rankmixer() -> None:
    mixer = randomised(TokenMixer(6, tokens=4, width=8, layers=2, variant="rankmixer"))
    x = torch.randn(3, 6).double()
    for row, fast in zip(x, mixer(x), strict=True):
        tokens = mixer.enter(row).view(4, 8)
        for layer in mixer.layers:
            swapped = tokens.view(4, 4, 2).transpose(0, 1).reshape(4, 8)
            s = layer.first(swapped + tokens)
            ffn = torch.stack([functional.gelu(s[t] @ layer.ffn.up[t]) @ layer.ffn.down[t] for t in range(4)])
            tokens = layer.second(ffn + s)
        torch.testing.assert_close(fast, tokens.mean(0))


@pytest.mark.parametrize("kind", ["hstu", "transformer", "longer"])
def test_short_numbers_say_nearly_the_same_and_learn(kind: str) -> None:
    exact, short = (make_net(kind, heads=2, precision=precision) for precision in ("float32", "bfloat16"))
    batch = make_batch()
    states = [net.backbone(batch) for net in (exact, short)]
    assert states[1].dtype == torch.float32
    assert float((states[0] - states[1]).detach().norm() / states[0].detach().norm()) < 0.05
    short(batch)[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in short.parameters())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("hstu", {"layers": 3, "band": 3, "columns": 2, "recompute": True}),
        ("hstu", {"newest": 3, "newest_layers": 1}),
        ("hstu", {"transducers": [[0], [1]]}),
        ("transformer", {"bias": ["time"]}),
        ("transformer", {"block": "sasrec", "residual": "post"}),
        ("longer", {"layers": 2}),
        ("token-mixer", {}),
    ],
)
def test_only_products_are_short(kind: str, options: dict[str, Any], recwarn: pytest.WarningsRecorder) -> None:
    """What layers add to stays float32: no residual is rounded, and no RMSNorm meets a type that is not its
    weight's.
    """
    net, seen = make_net(kind, heads=2, precision="bfloat16", **options), set()
    for name, part in net.backbone.encoders.named_modules():  # type: ignore[union-attr]
        if isinstance(part, nn.RMSNorm | nn.LayerNorm) and not name.endswith("mixed_norm"):  # which norms a product
            part.register_forward_pre_hook(lambda _norm, given: seen.add(given[0].dtype))
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        net(make_batch())[0].sum().backward()
    finally:
        torch.set_warn_always(before)
    assert seen <= {torch.float32} and not [str(one.message) for one in recwarn if "dtype" in str(one.message)]


WRONG: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: HSTUStack(8, 3, 9, 2), "not a multiple"),
    (lambda: HSTUStack(8, 2, 9, 0), "at least 1"),
    (lambda: TokenMixer(4, tokens=4, width=8, layers=1, experts=2, active=3), "active 3 from 1 to 2"),
    (lambda: HSTUStack(8, 2, 9, 2, newest_layers=1), "go together"),
    (lambda: make_net("hstu", stochastic=3.0), "between 1 and 2"),
    (lambda: make_net("hstu", precision="fp8"), "'float32', 'bfloat16' or 'float8'"),
    (lambda: make_net("hstu", band=0), "equal to 1"),
    (lambda: make_net("hstu", transducers=[[5]]), "action 5 is not in the log"),
    (lambda: make_net("hstu", columns_at="middle"), "'oldest' or 'newest'"),
    (lambda: HSTULayer(8, 2, 9, ["place"]), "not one of position, time"),
    (lambda: TransformerStack(6, 2, 9, 1), "even width"),
    (lambda: TransformerStack(8, 2, 9, 1, "gpt"), "not one of sasrec, llama"),  # type: ignore[arg-type]
    (lambda: make_net("token-mixer", mixer_layers=2, auxiliary=0.1), "at least 3"),
    (lambda: LongerStack(8, 2, 9, merge=0), "at least 1"),
    (lambda: TokenMixer(4, tokens=4, width=8, layers=1, heads=3), "mixer_heads"),
    (lambda: TokenMixer(4, tokens=4, width=8, layers=1, heads=2, variant="rankmixer"), "as many heads as tokens"),
]


@pytest.mark.parametrize(("build", "message"), WRONG)
def test_wrong_options_are_named(build: Callable[[], nn.Module], message: str) -> None:
    from recdistill.errors import UserError

    with pytest.raises(UserError, match=message):
        build()
