"""A canary is held against what users did, through the tables, and ended where its predictions are off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from recdistill.serve.canary import abort, begin, place_of, promote
from recdistill.serve.limits import Limits
from recdistill.serve.pointer import Bounds, Pointer, read_pointer, write_pointer
from recdistill.serve.server import opened
from recdistill.serve.spool import RECORDS
from tests.support.artefacts import happened, two_versions
from tests.support.commands import typed

ITEMS, USERS, SHARE = [1, 2, 3], range(400), 0.3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = two_versions(tmp_path)
    write_pointer(made, Pointer(1))
    return made


def asked(root: Path, users: range) -> dict[int, float]:
    """Let users be answered; return the mean prediction of each."""
    with opened(root, Limits()) as app, TestClient(app) as client:
        found = {}
        for user in users:
            body, name = {"user": user, "items": ITEMS, "time": 1e9}, {"x-request-id": f"r{user}"}
            found[user] = sum(client.post("/v1/rank", json=body, headers=name).json()["scores"]["click"]) / len(ITEMS)
        return found


def records(root: Path) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for path in sorted((root / RECORDS).glob("*")) for line in path.read_text().splitlines()]


def named(root: Path, version: int) -> str:
    pointer = read_pointer(root)
    assert pointer is not None and pointer.canary is not None
    return pointer.canary.named(version)


def test_as_many_users_of_the_served_version_are_kept_as_of_the_canary(root: Path) -> None:
    asked(root, range(20))
    assert not (root / RECORDS).exists()  # without a canary nothing is
    begin(root, 2, SHARE, Bounds())
    asked(root, USERS)
    kept = {int(one["request"][1:]): next(iter(one["logits"])) for one in records(root)}
    places = {user: place_of(user, 2) for user in USERS}
    assert kept == {user: named(root, 2 if place < SHARE else 1) for user, place in places.items() if place < 2 * SHARE}


def test_one_that_is_off_is_ended_and_one_that_is_not_goes_on(root: Path) -> None:
    run = root.parent / "run"
    begin(root, 2, SHARE, Bounds(calibration=1.2))
    code, printed = typed("canary", root, "--labels", run)
    assert code == 0 and "no predictions of version 2 yet" in printed
    rate, draw = asked(root, USERS), np.random.default_rng(0)
    first, rest = range(350), range(350, 400)
    happened(run, first, ITEMS, lambda user, item: float(draw.random() < rate[user]))  # as either version predicts
    code, printed = typed("canary", root, "--labels", run)
    assert code == 0 and printed.endswith("canary: version 2, 30.0% of the users\n")
    shown = sum(place_of(user, 2) < SHARE for user in first) * len(ITEMS)
    assert f"{named(root, 2)}  {shown:,}" in printed and not records(root)  # what was taken is gone
    happened(run, rest, ITEMS, lambda user, item: float(draw.random() < rate[user]))
    asked(root, more := range(400, 800))
    happened(run, more, ITEMS, lambda user, item: float(place_of(user, 2) < SHARE or draw.random() < 0.1))
    code, printed = typed("canary", root, "--labels", run)
    assert code == 0 and "no canary; version 2, the canary, was ended: it predicts" in printed and "of click" in printed
    pointer = read_pointer(root)
    assert pointer is not None and pointer.canary is None and "was ended" in pointer.ended


def test_what_was_predicted_before_it_began_is_not_counted(root: Path) -> None:
    run, users = root.parent / "run", range(1000, 1200)
    begin(root, 2, SHARE, Bounds())
    asked(root, users)  # a first canary of the same version, which was ended
    abort(root)
    begin(root, 2, SHARE, Bounds())
    asked(root, more := range(1200, 1240))  # of the same event time
    for answered in (users, more):
        happened(run, answered, ITEMS, lambda user, item: 0.0)
    code, printed = typed("canary", root, "--labels", run)
    mine, its = (sum(low <= place_of(user, 2) < low + SHARE for user in more) * len(ITEMS) for low in (0, SHARE))
    assert code == 0 and f"{named(root, 2)}  {mine:,} " in printed and f"{named(root, 1)}  {its:,} " in printed


@pytest.mark.parametrize("over", [abort, promote])
def test_without_a_canary_there_is_nothing_to_look_at(root: Path, over) -> None:  # type: ignore[no-untyped-def]
    begin(root, 2, SHARE, Bounds())
    over(root)
    code, printed = typed("canary", root, "--labels", root.parent / "run", "--every", 3600)
    assert code == 0 and "no canary" in printed


def test_what_does_not_go_together_is_refused(root: Path, tmp_path: Path) -> None:
    for words, line in (
        (["--labels", tmp_path / "run", "--abort"], "--labels: give one of them"),
        (["--every", "5"], "--every goes with --labels"),
        (["--labels", tmp_path / "nowhere"], "nowhere"),
    ):
        code, printed = typed("canary", root, *words)
        assert code == 2 and line in printed and printed.count("\n") == 1
