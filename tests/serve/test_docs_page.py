"""The page of the routes: every route, field and status that OpenAPI has, nothing that a browser would run."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI

from recdistill.serve.bodies import RankBody, described
from recdistill.serve.docs_page import docs_page
from recdistill.serve.refusal import OF_BODIES, WORDS, refusals


def _openapi(name: str = "recdistill") -> dict[str, Any]:
    app = FastAPI(title=name, version="1")

    @app.post("/v1/rank", openapi_extra=described(RankBody, "application/arrow"), responses=refusals(*OF_BODIES))
    async def rank() -> None:
        """Rank <candidates>."""

    return app.openapi()


def test_it_shows_routes_fields_and_statuses() -> None:
    page = docs_page(_openapi())
    for wanted in ("POST /v1/rank", "Rank &lt;candidates&gt;.", "Body, or application/arrow.", *RankBody.model_fields):
        assert wanted in page
    for status in OF_BODIES:
        assert f"<td>{status}</td><td>{escape(WORDS[status])}</td>" in page
    assert "<td>items</td><td>list of integer or string or number, needed</td>" in page
    assert "<td>item_features</td><td>name to list of integer or string or number or list of " in page


def test_nothing_in_it_runs_or_is_loaded() -> None:
    page = docs_page(_openapi("<script>alert(1)</script>"))
    assert "<script" not in page and "http" not in page
