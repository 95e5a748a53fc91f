"""POST /v1/feedback: how what was served has ended, on its way to the stream's outcomes."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json

from recdistill.errors import UserError
from recdistill.serve.bodies import First, Id, described, first_fault
from recdistill.serve.exchange import Exchange, body_of
from recdistill.serve.refusal import OF_BODIES, RefusedError, refusals
from recdistill.serve.service import Log

__all__ = ["FeedbackBody", "OutcomeBody", "Taken", "add_feedback"]

MAX_OUTCOMES, MAX_KEYS = 1000, 16  # of a body; of an object in it
LAST = 253_402_300_800  # the year 10000, in seconds


class OutcomeBody(BaseModel):
    """How an item that was served in answer to a request has ended."""

    model_config = ConfigDict(extra="forbid")
    request: Annotated[StrictStr, Field(max_length=128, description="The answer's x-request-id.")]
    item: Id
    task: StrictStr
    label: Annotated[StrictInt | StrictFloat, Field(ge=0, le=1, description="0 or 1.")]
    time: Annotated[
        StrictInt | StrictFloat | None, Field(ge=0, lt=LAST, description="Seconds since 1970; default: now.")
    ] = None


class FeedbackBody(BaseModel):
    """Outcomes, of any requests."""

    model_config = ConfigDict(extra="forbid")
    outcomes: Annotated[list[OutcomeBody], First(), Field(min_length=1, max_length=MAX_OUTCOMES)]


class Taken(BaseModel):
    """How many outcomes will be written."""

    taken: int


def add_feedback(app: FastAPI, exchange: Exchange, log: Log) -> None:
    """Let the application take outcomes for a log."""

    async def taken(request: Request) -> Response:
        exchange.allow(request)
        try:
            read = _read(await body_of(request, exchange.service.limits))
            now = time.time()
            rows = [
                (one.request, one.item, one.task, one.label, now if one.time is None else one.time)
                for one in read.outcomes
            ]
            count = log.outcomes(rows)
        except ValidationError as error:
            raise RefusedError(422, first_fault(error)) from None
        except UserError as error:
            raise RefusedError(422, str(error)) from None
        if not count:
            raise RefusedError(429, "too many outcomes wait; try again", wait=True)
        return JSONResponse({"taken": count})

    @app.post(
        "/v1/feedback",
        response_model=Taken,
        openapi_extra=described(FeedbackBody),
        responses=refusals(*OF_BODIES),
    )
    async def feedback(request: Request) -> Response:
        """Take how what was served ended."""
        try:
            return await taken(request)
        except RefusedError as error:
            return error.answer()


def _read(body: bytes) -> FeedbackBody:
    """Return the outcomes of a body; RefusedError or ValidationError for one that is none."""
    try:
        tree = from_json(body)
    except ValueError as error:
        raise RefusedError(422, f"body: Invalid JSON: {error}"[:200]) from None
    given = tree.get("outcomes") if isinstance(tree, dict) else None
    if isinstance(given, list) and len(given) > MAX_OUTCOMES:
        raise RefusedError(422, f"outcomes: at most {MAX_OUTCOMES:,}; got {len(given):,}")
    for one in [tree, *(given if isinstance(given, list) else ())]:
        if isinstance(one, dict) and len(one) > MAX_KEYS:  # each wrong one makes an error of its own
            raise RefusedError(422, f"body: an object has at most {MAX_KEYS} keys; got {len(one):,}")
    return FeedbackBody.model_validate(tree)
