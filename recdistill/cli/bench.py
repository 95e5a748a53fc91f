"""The verb that measures a server: bench-serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recdistill.errors import UserError

__all__ = ["bench_serve"]


def bench_serve(
    target: Annotated[str, typer.Argument(help="An artefact, which is then served for this; or a server's address.")],
    server: Annotated[
        list[str] | None, typer.Argument(help="After --: options of recdistill serve, for an artefact.")
    ] = None,
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Per request.")] = 200,
    events: Annotated[
        int | None, typer.Option("--events", min=0, help="Of a history; default as many as the model reads.")
    ] = None,
    ids: Annotated[
        Path | None, typer.Option("--ids", help="With an address: the artefact whose ids requests are drawn from.")
    ] = None,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="Send these instead: a body of POST /v1/rank a line.")
    ] = None,
    rates: Annotated[
        str | None, typer.Option("--rates", help="Requests a second: 50,100,200; default shares of what it can do.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, max=3600, help="Per rate.")] = 5.0,
    p99_ms: Annotated[float, typer.Option("--p99-ms", min=0.001, help="The budget.")] = 10.0,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the curve.")] = None,
) -> None:
    """Measure a server: requests at a fixed rate, the rates stepped up until it no longer keeps up."""
    try:
        from recdistill.serve.bench_run import Plan, run

        if html is not None:
            from recdistill.report.serving import write_page
    except ModuleNotFoundError as error:
        if (error.name or "recdistill").startswith("recdistill"):
            raise
        raise UserError(f"bench-serve needs {error.name}; {_mend(error.name)}") from None
    plan = Plan(target, tuple(server or ()), candidates, events, ids, requests, _rates(rates), seconds, p99_ms)
    found = run(plan)
    if html is not None:
        write_page(found, html)


def _mend(missing: str | None) -> str:
    whole = missing in ("polars", "torch", "pydantic", "deltalake", "pyarrow")
    return (
        "a page takes recdistill with all it depends on; leave --html out"
        if whole
        else "install it: pip install 'recdistill[serve]'"
    )


def _rates(text: str | None) -> tuple[float, ...]:
    try:
        found = tuple(sorted(float(one) for one in (text or "").split(",") if one.strip()))
    except ValueError:
        found = (0.0,)
    if any(not 0 < one < 1e6 for one in found):
        raise UserError(f"--rates: requests a second were expected, as 50,100,200; got {text}")
    return found
