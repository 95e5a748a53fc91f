"""Verbs that go from a log to a page: demo, run, ablate, scale, choose, plan, loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recdistill.cli.options import Config, Data, Out, OutPlace, Set

__all__ = ["ablate", "choose", "demo", "loop", "plan", "run", "scale"]


def demo(out: OutPlace = None, set_: Set = None) -> None:
    """Run everything on a simulated log: teacher, raw and distilled student, report."""
    from recdistill.api.run import Run
    from recdistill.app.run import demo_config

    Run.from_config(demo_config(set_ or []), out=out).run()


def run(config: Config, data: Data = None, out: OutPlace = None, set_: Set = None) -> None:
    """Run an experiment from the log to the report; run it again to resume."""
    from recdistill.api.run import Run

    Run.from_config(config, data, out, set_ or []).run()


def ablate(
    config: Config,
    grid: Annotated[Path, typer.Option("--grid", help="The methods to try (YAML).")],
    data: Data = None,
    out: Out = None,
    set_: Set = None,
) -> None:
    """Try many methods on one student, over seeds, and sort them by what pays; run it again to resume."""
    import recdistill

    recdistill.ablate(config, grid, data, out, set_)


def scale(
    config: Config,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    sweep: Annotated[
        Path | None, typer.Option("--sweep", help="The sizes to try (YAML); without, halves of the teacher's.")
    ] = None,
    axis: Annotated[list[str] | None, typer.Option("--axis", help="Only this axis; may be given again.")] = None,
) -> None:
    """Try one model in several sizes, over seeds, and fit how its loss falls; run it again to resume."""
    import recdistill

    recdistill.scale(config, sweep, axis or [], data, out, set_)


def choose(
    config: Config,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", help="The students to try (YAML, as of ablate); without, light kinds in three widths."),
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", min=0.001, help="Of a request, at the 99th percentile; one thread.")
    ] = None,
    memory_mb: Annotated[float | None, typer.Option("--memory-mb", min=0.001, help="MiB of the artefact.")] = None,
    candidates: Annotated[int, typer.Option("--candidates", min=1, max=10_000, help="Of a request.")] = 200,
) -> None:
    """Choose the student to serve under a budget: try many on few rows, the best on more; run it again to resume."""
    import recdistill

    recdistill.choose(config, grid, data, out, set_, latency_ms, memory_mb, candidates)


def plan(
    config: Annotated[Path | None, typer.Argument(help="The experiment file (YAML).")] = None,
    set_: Set = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="A size, without a file: 1m ... 24b, ultra-2m, ultra-40m.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="Ranks that share the work.")] = 1,
    memory: Annotated[float, typer.Option("--memory", min=0.1, help="GiB of each.")] = 80.0,
    tflops: Annotated[
        float, typer.Option("--tflops", min=0.001, help="Peak TFLOP/s of each; an H100 in bf16 has 989.")
    ] = 989.0,
    mfu: Annotated[float, typer.Option("--mfu", min=0.01, max=1.0, help="Share of the peak that is reached.")] = 0.4,
    network: Annotated[float, typer.Option("--network", min=0.001, help="GB/s between them, of each.")] = 50.0,
    link: Annotated[float, typer.Option("--link", min=0.001, help="GB/s inside a node, of each.")] = 450.0,
    node: Annotated[int, typer.Option("--node", min=1, max=1024, help="Ranks of a node.")] = 8,
    short: Annotated[bool, typer.Option("--short", help="Messages in bfloat16.")] = False,
    rows: Annotated[float, typer.Option("--rows", min=1, max=1e15, help="Samples of the log.")] = 1e9,
    ids: Annotated[
        float, typer.Option("--ids", min=1, max=1e15, help="Distinct ids of users, items and features.")
    ] = 1e7,
) -> None:
    """Show what the teacher of an experiment will need, and how long it will take; nothing is allocated."""
    from recdistill.app.capacity import Machine, teacher_of
    from recdistill.app.capacity import plan as plan_of

    width = 2 if short else 4
    machine = Machine(gpus, memory * (1 << 30), tflops * 1e12, mfu, network * 1e9, link * 1e9, node, width)
    plan_of(teacher_of(config, preset, set_), machine, rows, ids)


def loop(config: Config, out: Out = None, set_: Set = None) -> None:
    """Let simulated users click on what a student ranks, and teacher and student learn from it while it serves."""
    from recdistill.app.loop import run_loop
    from recdistill.config.load import load_file

    experiment = load_file(config, set_)
    run_loop(config, experiment, set_ or [], out or Path("runs") / experiment.name)
