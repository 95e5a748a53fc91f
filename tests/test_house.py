"""The house rules that a machine can check (CONTRIBUTING.md), each proved able to fail on a bad sample."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "recdistill"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]

FILE_LINES, FUNCTION_LINES, PARAMETERS, FIELDS, TEST_NAME = 400, 60, 8, 10, 80
WIDE = {  # signatures that have more parameters, and why
    "cli/serving.py": "serve: one option of the command line each",
    "cli/studies.py": "plan: one option of the command line each",
    "cli/bench.py": "bench_serve: one option of the command line each",
    "models/attention/blockwise.py": "torch.autograd hands every tensor over by itself",
    "models/attention/triton_kernels.py": "a kernel's arguments are pointers and sizes",
    "models/attention/triton_parts.py": "a kernel's arguments are pointers and sizes",
    "models/attention/triton_op.py": "torch.autograd hands every tensor over by itself",
    "models/embeddings/triton_rows.py": "a kernel's arguments are pointers and sizes",
    "models/factory.py": "build_backbone: all that a network's constructor may name",
    "models/backbones/dcn.py": "the architecture's own options, checked against the signature",
    "models/backbones/din.py": "the architecture's own options, checked against the signature",
    "models/backbones/sequence.py": "the architecture's own options, checked against the signature",
    "models/backbones/target_attention.py": "the architecture's own options, checked against the signature",
    "models/encoders/hstu.py": "the architecture's own options, checked against the signature",
    "models/backbones/token_mixer.py": "the architecture's own options, checked against the signature",
}
LONG = {  # classes that have more fields, and why
    "app/capacity.py": "Needs: the rows of one printed table",
    "config/data.py": "groups of keys of the experiment file",
    "config/experiment.py": "groups of keys of the experiment file",
    "config/models.py": "groups of keys of the experiment file",
    "config/stream.py": "groups of keys of the experiment file",
    "data/batch/batch.py": "Batch: everything a backbone may read",
    "evaluate/ablation.py": "Method: a row of ablation.json",
    "evaluate/data_summary.py": "records of data.json",
    "evaluate/scaling_laws.py": "records of scaling.json",
    "evaluate/summary.py": "records of summary.json",
    "serve/artefact.py": "Manifest: the record beside an exported graph",
    "stream/monitor/state.py": "records of the live page",
    "tables/schema.py": "EventSchema: the record in an events table's metadata",
    "train/trainer.py": "Trainer: the parts of one run, put together in one place",
}
# Words of the house's old private language, as parts of identifiers; plain ones stand in CONTRIBUTING.
OLD_WORDS = {"said", "told", "heard", "hears", "listens", "upto", "fate", "spoken", "spoke", "beside"}
OLD_NAMES = {"MOST", "FEWEST", "KEPT", "TOGETHER", "SetBack", "Letters", "Judge", "Round", "Track", "Beside", "take_up"}
FLOORS = (  # a room imports from the floors below its own, and nothing from its neighbours
    ("errors", "typing", "defaults", "testing"),
    ("config", "distributed", "distill", "locks", "storage", "web", "workers"),
    ("tables",),
    ("data",),
    ("models", "runs", "checkpoint", "evaluate", "serve"),
    ("signals", "report"),
    ("train",),
    ("stream", "tracking", "export"),
    ("app",),
    ("api",),
    ("cli",),
)
RANKS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
BROAD_EXCEPT = {
    "cli/app.py": "the last resort: one line instead of a traceback",
    "tracking/session.py": "a tracker's library may raise anything, and none of it may end a training",
    "models/user_models.py": "a user's module may raise anything while it is imported",
    "models/factory.py": "a user's constructor may raise anything",
    "models/contract.py": "a user's network may raise anything",
    "export/graph.py": "torch.export has many ways to refuse a network",
    "export/parity.py": "onnxruntime has exceptions of its own, which differ between its versions",
    "workers/ray_tasks.py": "Ray that does not come up raises Exception itself",
    "serve/waiting.py": "carries a thread's exception to the request that waits for it",
    "export/write.py": "a user's network may raise anything",
    "serve/service.py": "whatever a version raises counts against it, and is raised again",
    "serve/scorer.py": "onnxruntime's own classes of errors differ between its versions",
    "workers/ledger.py": "carries a worker's exception to whoever asked for the work, where it is raised",
    "data/batch/builder.py": "carries a thread's exception to the consumer, where it is raised",
}


def imported(tree: ast.AST) -> list[str]:
    """Return every absolute module name that a module imports, `from a import b` as both a and a.b."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def rooms_of(tree: ast.AST) -> set[str]:
    """Return the rooms of recdistill that a module imports from."""
    return {name.split(".")[1] for name in imported(tree) if name.startswith("recdistill.")} & set(RANKS)


def names_set(node: ast.stmt) -> list[str]:
    """Return the plain names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def faults(name: str, source: str) -> list[str]:
    """Return what is wrong with a module of the package; `name` is its path below recdistill/."""
    tree = ast.parse(source)
    room = name.split("/")[0].removesuffix(".py")
    found = []
    if len(source.splitlines()) >= FILE_LINES:
        found.append("file too long")
    says = tree.body[1:] if ast.get_docstring(tree) else tree.body  # a package may hold its docstring alone
    if says and not any("__all__" in names_set(node) for node in tree.body):
        found.append("no __all__")
    if room in RANKS:
        found += [
            f"imports up: {other}" for other in sorted(rooms_of(tree)) if other != room and RANKS[other] >= RANKS[room]
        ]
    if room == "tables":
        found += [f"tables imports {other}" for other in imported(tree) if other.split(".")[0] == "torch"]
    if room == "distill":
        found += ["distill imports tables" for other in imported(tree) if other.startswith("recdistill.tables")]
    found += [f"old word: {word}" for word in old_words(source)]
    found += [f"{module} imported" for module in imported(tree) if module.split(".")[0] in ("pickle", "dill", "joblib")]
    for node in ast.walk(tree):
        found += fault_of(node, name)
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            found.append(f"{node.name}: no docstring")
    return found


def old_words(source: str) -> list[str]:
    """Return the identifiers of a module that speak the old language."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    return sorted(name for name in names if name in OLD_NAMES or OLD_WORDS & set(name.lower().split("_")))


def fault_of(node: ast.AST, name: str) -> list[str]:
    """Return what is wrong with one node."""
    if isinstance(node, ast.Assert):
        return ["assert"]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        count = len([one for one in parameters_of(node) if one not in ("self", "cls")])
        found = [f"{node.name}: {lines} lines"] if lines > FUNCTION_LINES else []
        return found + ([f"{node.name}: {count} parameters"] if count > PARAMETERS and name not in WIDE else [])
    if isinstance(node, ast.ClassDef):
        count = sum(isinstance(line, ast.AnnAssign) for line in node.body)
        return [f"{node.name}: {count} fields"] if count > FIELDS and name not in LONG else []
    if isinstance(node, ast.ExceptHandler) and name not in BROAD_EXCEPT:
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        return [
            "broad except"
            for kind in kinds
            if kind is None or getattr(kind, "id", "") in ("Exception", "BaseException")
        ]
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "torch.load"):
            return [f"{called} called"]
        return [
            f"{called} with pickle"
            for key in node.keywords
            if key.arg == "allow_pickle" and ast.unparse(key.value) != "False"
        ]
    return []


def parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's parameters."""
    return [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the rooms that import one another in a circle, sorted; none when there is no circle."""
    left = {room: others - {room} for room, others in graph.items()}
    while free := [room for room, others in left.items() if not others & left.keys()]:
        for room in free:
            del left[room]
    return sorted(left)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_module_keeps_the_house_rules(path: Path) -> None:
    assert faults(str(path.relative_to(PACKAGE)), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("data/x.py", "x = 1\n" * 400, "file too long"),
        ("data/x.py", "x = 1\n", "no __all__"),
        ("data/x.py", "__all__ = []\nfrom recdistill.train import trainer\n", "imports up: train"),
        ("tables/x.py", "__all__ = []\nimport torch.nn\n", "tables imports torch.nn"),
        ("distill/x.py", "__all__ = []\nfrom recdistill.tables.events import EventLog\n", "distill imports tables"),
        ("data/x.py", "__all__ = []\nimport pickle\n", "pickle imported"),
        ("data/x.py", "__all__ = []\nassert 1\n", "assert"),
        ("data/x.py", "__all__ = []\ntry:\n    x = 1\nexcept Exception:\n    x = 2\n", "broad except"),
        ("data/x.py", "__all__ = []\ntry:\n    x = 1\nexcept:\n    x = 2\n", "broad except"),
        ("data/x.py", "__all__ = []\neval('1')\n", "eval called"),
        ("data/x.py", "__all__ = []\nyaml.load(x)\n", "yaml.load called"),
        ("data/x.py", "__all__ = []\nnp.load(x, allow_pickle=True)\n", "np.load with pickle"),
        ("data/x.py", "__all__ = []\ndef f():\n    '''f.'''\n" + "    x = 1\n" * 60, "f: 62 lines"),
        ("data/x.py", "__all__ = []\ndef f():\n    return 1\n", "f: no docstring"),
        ("data/x.py", "__all__ = []\ndef _f(a, b, c, d, e, f, g, h, *, i): ...\n", "_f: 9 parameters"),
        ("data/x.py", "__all__ = []\nclass _F:\n" + "".join(f"    a{k}: int\n" for k in range(11)), "_F: 11 fields"),
        ("data/x.py", "__all__ = []\nrows_heard = 1\n", "old word: rows_heard"),
        ("data/x.py", "__all__ = []\nMOST = 1\n", "old word: MOST"),
    ],
)
def test_each_rule_can_fail(name: str, source: str, fault: str) -> None:
    assert fault in faults(name, source)


def test_rooms_do_not_import_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path, name in zip(MODULES, NAMES, strict=True):
        graph.setdefault(name.split("/")[0].removesuffix(".py"), set()).update(rooms_of(ast.parse(path.read_text())))
    assert cycle(graph) == []
    assert cycle({"train": {"evaluate"}, "evaluate": {"train"}, "data": set()}) == ["evaluate", "train"]


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("recdistill.cli.app", ("torch", "polars", "numpy", "pydantic", "deltalake", "pyarrow", "yaml")),
        ("recdistill.app.run", ("pyiceberg", "mlflow", "tensorboard", "torch.utils.tensorboard")),
        ("recdistill.tables.predictions", ("torch", "recdistill.data", "recdistill.config")),
        ("recdistill.distill.losses", ("polars", "deltalake", "recdistill.tables", "recdistill.data")),
    ],
)
def test_a_room_brings_only_what_it_needs(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_names_of_tests_are_short() -> None:
    nodes = [node for path in (ROOT / "tests").rglob("test_*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert [name for name in names if len(name) >= TEST_NAME] == []


def test_exceptions_are_still_needed() -> None:
    """A file that keeps the rule leaves the list."""
    wide = {name for path, name in zip(MODULES, NAMES, strict=True) if largest(path)[0] > PARAMETERS}
    long = {name for path, name in zip(MODULES, NAMES, strict=True) if largest(path)[1] > FIELDS}
    assert (wide, long) == (set(WIDE), set(LONG))


def largest(path: Path) -> tuple[int, int]:
    """Return (most parameters of a function, most fields of a class) of a module."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    parameters = [len([one for one in parameters_of(node) if one not in ("self", "cls")]) for node in functions]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    fields = [sum(isinstance(line, ast.AnnAssign) for line in node.body) for node in classes]
    return max(parameters, default=0), max(fields, default=0)
