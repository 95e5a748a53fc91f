"""What no shape shows: an option is a size, or it gives the weights another meaning."""

from __future__ import annotations

from typing import Any

import pytest

from recdistill.config.models import ModelConfig
from recdistill.errors import UserError
from recdistill.train.sizes import changes_size, check_meaning

Options = dict[str, Any]


def of(kind: str, options: Options) -> ModelConfig:
    return ModelConfig(kind=kind, width=8, options=options)


@pytest.mark.parametrize(
    ("kind", "old", "new", "why"),
    [
        ("hstu", {"heads": 2}, {"heads": 4}, None),
        ("transformer", {"heads": 2}, {"heads": 4, "layers": 3}, None),
        ("pooled-mlp", {}, {"hidden": [80, 40]}, None),
        ("hstu", {}, {"precision": "bfloat16", "recompute": True, "dropout": 0.1}, None),
        ("hstu", {}, {"bias": ["position", "time"]}, None),
        ("hstu", {}, {"band": 1}, "options.band was None where its weights learned, and is 1 here; give the same"),
        ("hstu", {"band": 2, "columns": 1}, {"band": 2}, "options.columns was 1 .* is 0 here"),
        ("transformer", {}, {"residual": "post"}, "options.residual was pre .* is post here"),
        ("longer", {"heads": 2}, {"heads": 4}, "options.heads was 2"),
        ("token-mixer", {}, {"residual": "input"}, "options.residual was mixed"),
        ("token-mixer", {}, {}, None),
    ],
)
def test_options_that_are_no_sizes_are_to_be_the_same(kind: str, old: Options, new: Options, why: str | None) -> None:
    if why is None:
        return check_meaning("light", of(kind, old), of(kind, new))
    with pytest.raises(UserError, match=f"^light: {why}"):
        check_meaning("light", of(kind, old), of(kind, new))


@pytest.mark.parametrize("key", ["numbers", "numeric_as"])
def test_what_it_reads_is_to_be_the_same(key: str) -> None:
    other = of("din", {}).model_copy(update={"numbers": [], "numeric_as": "values"}, deep=True)
    with pytest.raises(UserError, match=f"light: {key} was"):
        check_meaning(
            "light",
            of("din", {}),
            other.model_copy(update={} if key == "numbers" else {"numbers": of("din", {}).numbers}),
        )


def test_a_size_that_cannot_be_alone_is_one() -> None:
    assert changes_size(of("transformer", {}), "heads", 3) and changes_size(of("din", {}), "width", 9)
    assert not changes_size(of("longer", {}), "heads", 2)
