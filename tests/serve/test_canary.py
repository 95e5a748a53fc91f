"""A canary: the same users always, promoted or ended by a person, ended by itself when it breaks a bound."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from recdistill.api.run import Run
from recdistill.errors import UserError
from recdistill.serve.app import make_app
from recdistill.serve.canary import ENOUGH, Arm, abort, begin, end, fault, place_of, promote, standing
from recdistill.serve.limits import Limits
from recdistill.serve.live import LOOK, Live
from recdistill.serve.pointer import Bounds, Canary, Pointer, read_pointer, write_pointer
from recdistill.serve.request import Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Service
from recdistill.serve.versions import roll_back
from tests.support.artefacts import two_versions
from tests.support.commands import typed

TASKS = (["click"], ["click"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_versions(tmp_path_factory.mktemp("canary"))


@pytest.fixture
def root(exported: Path) -> Path:
    write_pointer(exported, Pointer(1))
    return exported


@given(user=st.integers(-(2**63), 2**63 - 1) | st.text(), version=st.integers(1, 100))
def test_a_user_has_a_place_of_their_own(user: int | str, version: int) -> None:
    place = place_of(user, version)
    assert 0 <= place < 1 and place == place_of(str(user), version)
    if isinstance(user, int) and float(user) == user and abs(user) < 2**53:
        assert place == place_of(float(user), version)


def test_a_share_is_that_share_of_the_users_and_a_larger_one_only_adds() -> None:
    places = {version: np.array([place_of(user, version) for user in range(20_000)]) for version in (1, 2)}
    for share in (0.01, 0.05, 0.5):
        assert abs((places[1] < share).mean() - share) < 4 * np.sqrt(share * (1 - share) / 20_000)
        assert (places[1] < 2 * share)[places[1] < share].all()
    assert abs(np.corrcoef(places[1], places[2])[0, 1]) < 0.03  # another version, other users


def trial_of(root: Path) -> str:
    """Return the canary's own name, after a look at its form."""
    pointer = read_pointer(root)
    assert pointer is not None and pointer.canary is not None and len(pointer.canary.trial) == 8
    return pointer.canary.trial


def test_it_is_begun_grown_promoted_and_rolled_back(root: Path) -> None:
    begin(root, 2, 0.05, Bounds())
    first = trial_of(root)
    begin(root, 2, 0.5, Bounds(slower=3.0))
    assert trial_of(root) == first
    assert read_pointer(root) == Pointer(1, (), Canary(2, 0.5, Bounds(slower=3.0), trial_of(root)))
    assert standing(root) == "served: version 1; canary: version 2, 50.0% of the users"
    assert promote(root) == 2 and read_pointer(root) == Pointer(2, (1,))
    assert roll_back(root).version == 1


def test_it_is_aborted_and_an_end_by_itself_is_kept(root: Path) -> None:
    begin(root, 2, 0.05, Bounds())
    first = trial_of(root)
    assert abort(root) == 2 and read_pointer(root) == Pointer(1)
    begin(root, 2, 0.05, Bounds())
    assert trial_of(root) != first
    end(root, 3, "another one")
    assert read_pointer(root) == Pointer(1, (), Canary(2, 0.05, trial=trial_of(root)))
    end(root, 2, "too slow")
    assert standing(root) == "served: version 1; no canary; too slow"


def test_a_rollback_ends_it_and_says_so(root: Path) -> None:
    write_pointer(root, Pointer(1, (2,), Canary(2, 0.5)))
    assert roll_back(root).version == 2
    assert standing(root) == "served: version 2; no canary; a rollback ended version 2, the canary"


def test_what_cannot_be_is_refused_in_one_line(root: Path) -> None:
    for call, line in (
        (lambda: begin(root, 1, 0.1, Bounds()), "version 1 is served already"),
        (lambda: begin(root, 7, 0.1, Bounds()), "7: no artefact"),
        (lambda: promote(root), "there is no canary; begin one with"),
        (lambda: abort(root), "there is no canary"),
        (lambda: abort(root / "nowhere"), "no versions"),
    ):
        with pytest.raises(UserError, match=line):
            call()
    write_pointer(root, Pointer(1, (), Canary(2, 0.1)))
    with pytest.raises(UserError, match="version 2 answers 10.0% of the users; promote or abort it first"):
        begin(root, 3, 0.1, Bounds())


@pytest.mark.parametrize(
    "change",
    [
        {"share": 2},
        {"share": -1},
        {"share": "1"},
        {"version": 0},
        {"bounds": {"x": 1}},
        {"trial": "../x"},
        {"trial": 1},
    ],
)
def test_a_canary_that_says_nonsense_is_a_damaged_pointer(root: Path, change: dict) -> None:  # type: ignore[type-arg]
    write_pointer(root, Pointer(1, (), Canary(2, 0.1)))
    tree = json.loads((root / "current.json").read_text())
    tree["canary"] |= change
    (root / "current.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match="current.json: damaged"):
        read_pointer(root)


def arm(seconds: float = 0.01, predicted: float = 0.2, failures: int = 0, answers: int = 1000) -> Arm:
    """Return what a version has answered, with a little noise."""
    made, draw = Arm(), np.random.default_rng(0)
    for _ in range(answers):
        made.answered(seconds * draw.uniform(0.5, 1.5), np.full((3, 1), predicted * draw.uniform(0.5, 1.5)))
    for _ in range(failures):
        made.failure()
    return made


@pytest.mark.parametrize(
    ("canary", "line"),
    [
        ({}, None),
        ({"seconds": 0.019}, None),
        ({"seconds": 0.021}, "95 % of its requests take up to"),
        ({"predicted": 0.29}, None),
        ({"predicted": 0.31}, "it predicts 0.3"),
        ({"predicted": 0.1}, "it predicts 0.09"),
        ({"failures": 9}, None),
        ({"failures": 15}, "1.5% of its requests fail"),
        ({"seconds": 1.0, "predicted": 0.9, "answers": ENOUGH - 1}, None),
        ({"failures": ENOUGH, "answers": 0}, "100.0% of its requests fail"),
    ],
)
def test_it_ends_where_a_bound_is_broken(canary: dict, line: str | None) -> None:  # type: ignore[type-arg]
    found = fault(arm(**canary), arm(), Bounds(), TASKS)
    assert (found or "").startswith(line or "") and (found is None) == (line is None)


def test_a_difference_that_may_be_chance_is_none() -> None:
    """Of few answers that differ much from each other."""
    few, many = Arm(), arm()
    for number in range(ENOUGH):
        few.answered(0.01, np.full((1, 1), 40.0 if number == 0 else 0.2))
    assert fault(few, many, Bounds(), TASKS) is None


def test_requests_go_to_the_version_of_their_user(root: Path) -> None:
    begin(root, 2, 0.3, Bounds())
    live = Live(root)
    for user in range(200):
        wanted = 2 if place_of(user, 2) < 0.3 else 1
        assert live.of(Request(user, [1], 1e9)).version == wanted
    assert live.of(Request(None, [1], 1e9)).version == 1 and live.canary == 2


def loaded(live: Live) -> None:
    """Wait until what the pointer names is taken over."""
    live.of(Request(None, [1], 1e9))
    with live._loading:
        pass


def test_it_is_followed_while_requests_go_on_and_ends_by_itself_everywhere(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, other = Live(root), Live(root)
    begin(root, 2, 1.0, Bounds())
    for live in (one, other):
        loaded(live)
        assert live.canary == 2
    scorer = one.of(Request(1, [1], 1e9))
    for _ in range(ENOUGH + LOOK):
        one.failed(scorer)
    assert one.canary == 0 and one.of(Request(1, [1], 1e9)).version == 1
    assert one._ending is not None
    one._ending.join()
    loaded(other)
    assert other.canary == 0 and "the canary, was ended: 100.0% of its requests fail" in capfd.readouterr().err


def test_answers_name_the_version_of_their_user_and_what_fails_is_counted(root: Path) -> None:
    begin(root, 2, 0.5, Bounds())
    live = Live(root)
    with TestClient(make_app(Service(live, Limits()))) as client:
        for user in range(40):
            answer = client.post("/v1/rank", json={"user": user, "items": [1, 2], "time": 1e9})
            assert answer.json()["version"] == (2 if place_of(user, 2) < 0.5 else 1)
        refused = {"user": 3, "items": [1], "time": 1e9, "features": {"nope": 1}}
        assert client.post("/v1/rank", json=refused).status_code == 422
        assert "recdistill_canary_version 2.0" in client.get("/metrics").text
    assert live.trial is not None
    arms = live.trial.mine, live.trial.served
    assert sum(len(one.seconds) for one in arms) == 40 and sum(sum(one.failed) for one in arms) == 1


def test_a_damaged_one_is_no_canary_and_what_is_served_goes_on(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_pointer(root, Pointer(1, (), Canary(9, 0.5)))
    live = Live(root)
    assert live.canary == 0 and live.refused == 1 and "version 1 goes on" in capfd.readouterr().err
    assert {live.of(Request(user, [1], 1e9)).version for user in range(20)} == {1}


def test_only_its_share_changes_and_what_is_known_stays(root: Path) -> None:
    begin(root, 2, 0.5, Bounds())
    live = Live(root)
    assert live.trial is not None
    live.answered(live.trial.scorer, 0.01, np.ones((1, 1), np.float32))
    begin(root, 2, 0.9, Bounds())
    loaded(live)
    assert live.trial.canary.share == 0.9 and len(live.trial.mine.seconds) == 1
    abort(root)
    begin(root, 2, 0.9, Bounds())  # another canary, of the same version
    loaded(live)
    assert live.trial.canary.trial == trial_of(root) and not live.trial.mine.seconds


def test_who_asks_whether_it_is_ready_makes_it_follow_the_pointer(root: Path) -> None:
    live = Live(root)
    with TestClient(make_app(Service(live, Limits()))) as client:
        write_pointer(root, Pointer(2, (1,)))
        client.get("/readyz")
        with live._loading:
            pass
        assert client.get("/readyz").json()["version"] == 2


def test_what_is_served_does_not_change_under_it(root: Path) -> None:
    begin(root, 2, 0.5, Bounds())
    with pytest.raises(UserError, match="version 2 is a canary; promote or abort it first, or export with --candidate"):
        Run(root.parent / "run").model("teacher").export(root)


def test_the_verb(root: Path) -> None:
    assert typed("canary", root) == (0, "served: version 1; no canary\n")
    code, printed = typed("canary", root, "--version", 2, "--share", 0.1)
    assert code == 0 and printed == "canary: version 2, light.raw.s0, for 10.0% of the users\n"
    assert typed("canary", root, "--abort") == (0, "ended: version 2\n")
    typed("canary", root, "--version", 2)
    assert typed("canary", root, "--promote") == (0, "served: version 2\n")
    code, printed = typed("canary", root, "--promote", "--abort")
    assert code == 2 and "give one of them" in printed
    assert Scorer.open(root).version == 2 and replace(read_pointer(root) or Pointer(1)).before == (1,)


def test_what_is_served_is_changed_on_a_machine_that_only_serves(root: Path) -> None:
    """In an interpreter that has neither torch nor polars."""
    write_pointer(root, Pointer(2, (1,)))
    for words, printed in (
        (["rollback", str(root)], "served: version 1, teacher\n"),
        (["canary", str(root), "--version", "2"], "canary: version 2, light.raw.s0, for 5.0% of the users\n"),
        (["canary", str(root)], "served: version 1; canary: version 2, 5.0% of the users\n"),
    ):
        code = (
            "import sys; sys.modules['torch'] = sys.modules['polars'] = None\n"
            f"sys.argv = ['recdistill', *{words!r}]\nfrom recdistill.cli.app import main; main()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == (printed, 0), done.stderr
