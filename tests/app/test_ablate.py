"""An ablation ends with a table, a page and a file that agree with the run's summary; it goes on where it
was stopped.
"""

import json

import pytest

from recdistill.app.ablate import ablate, bytes_per_sample
from recdistill.config.models import DistillConfig, TeacherHiddenConfig
from recdistill.evaluate.ablation import Ablation, ablation_of
from recdistill.evaluate.summary import Transfer, Transferability
from recdistill.evaluate.summary import load as load_summary
from recdistill.report.ablation import render
from tests.support.runs import TINY

GRID = """
methods: {soft: {distill.weight: 1.0, distill.temperature: 2.0}}
grid: {distill.weight: [1.0, 3.0], distill.candidates: [0, 2]}
set: {candidates.count: 2, evaluate.seeds: [0, 1], controls: [self]}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("ablation")
    (root / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (root / "grid.yaml").write_text(GRID, encoding="utf-8")
    ablate(root / "tiny.yaml", root / "grid.yaml", None, root / "out", None)
    return root


def test_every_method_stands_in_the_file_as_in_the_summary(out):
    found = Ablation.model_validate(json.loads((out / "out" / "ablation.json").read_text(encoding="utf-8")))
    summary = load_summary(out / "out" / "summary.json")
    assert {one.name for one in found.methods} == set(summary.students) and len(found.methods) == 5
    for one in found.methods:
        student = summary.students[one.name]
        assert (one.raw, one.distilled) == (student.raw.gauc, student.distilled.gauc)
        assert one.transferability == student.transferability
        assert one.beyond == {"self": student.controls["self"].beyond}
        assert one.bytes_per_sample == (4 + 2 * one.changes.get("distill.candidates", 0)) * 2
    assert len({one.raw for one in found.methods}) == 1, (
        "methods that differ in distillation alone share their raw students"
    )


def test_every_method_but_the_first_is_compared_with_it(out):
    found = Ablation.model_validate(json.loads((out / "out" / "ablation.json").read_text(encoding="utf-8")))
    summary = load_summary(out / "out" / "summary.json")
    first = summary.students[found.first]
    assert found.first == next(iter(summary.students))
    for one in found.methods:
        assert (one.over_first is None) == (one.name == found.first)
        if one.over_first is not None:
            own, over = summary.students[one.name], one.over_first
            assert over.raw is not None and over.distilled is not None
            assert over.raw.value == over.raw.low == over.raw.high == 0.0  # they are the same students
            assert over.distilled.value == pytest.approx(own.distilled.gauc - first.distilled.gauc)
            same = own.distilled.gauc == first.distilled.gauc  # of two methods that are alike in other words
            assert same == (over.distilled.low == over.distilled.high)
            assert over.distilled_flops == own.distilled.flops / first.distilled.flops
    assert f"<h2>Against {found.first}</h2>" in render(found)


def test_it_trains_nothing_twice(out, capsys):
    ablate(out / "tiny.yaml", out / "grid.yaml", None, out / "out", None)
    assert "training: nothing to do" in capsys.readouterr().out


def test_sorted_by_what_pays_with_the_withheld_last(out):
    summary = load_summary(out / "out" / "summary.json")
    names = list(summary.students)
    etas = dict(zip(names, (0.2, None, 0.5, None, -0.1), strict=True))
    gains = dict(zip(names, (0.0, 0.01, 0.0, 0.02, 0.0), strict=True))

    def student(name):
        one = summary.students[name]
        eta = Transfer(why="too small") if etas[name] is None else Transfer(eta=etas[name], low=-1.0, high=1.0)
        moved = one.distilled.model_copy(update={"gauc": one.raw.gauc + gains[name]})
        return one.model_copy(
            update={"distilled": moved, "transferability": Transferability(auc=eta, gauc=eta, ne=eta)}
        )

    changed = summary.model_copy(update={"students": {name: student(name) for name in names}})
    found = ablation_of(changed, dict.fromkeys(names, {}), dict.fromkeys(names, 8), {})
    assert [one.name for one in found.methods] == [names[2], names[0], names[4], names[3], names[1]]


def test_the_page_escapes_what_is_the_users(out):
    found = Ablation.model_validate(json.loads((out / "out" / "ablation.json").read_text(encoding="utf-8")))
    page = render(found.model_copy(update={"name": "<script>x</script>"}))
    assert "<th>GAUC beyond self</th>" in page
    assert "<script" not in page and "&lt;script&gt;" in page and found.methods[0].name in page


def test_a_student_without_a_signal_reads_nothing():
    states = TeacherHiddenConfig(width=16, bits=4)
    assert (
        bytes_per_sample(DistillConfig(weight=0.0), states, 2) == 0
        and bytes_per_sample(DistillConfig(candidates=3), states, 2) == 20
    )
    assert bytes_per_sample(DistillConfig(weight=0.0, teacher_hidden=5), states, 2) == 8
    assert bytes_per_sample(DistillConfig(teachers=["teacher", "other"], teacher_hidden=5), states, 2) == 24
