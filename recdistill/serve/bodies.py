"""Bodies of JSON: what `POST /v1/rank` takes, read to a request, and what it answers."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Response
from pydantic import BaseModel, ConfigDict, FailFast, Field, StrictFloat, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json, to_json

from recdistill.serve import request as ranking
from recdistill.serve.limits import Limits
from recdistill.serve.refusal import RefusedError
from recdistill.serve.waiting import Answered

__all__ = [
    "AboutBody",
    "First",
    "Id",
    "PastBody",
    "RankAnswer",
    "RankBody",
    "asked",
    "described",
    "first_fault",
    "request_of",
    "tree_of",
    "written",
]

MOST_KEYS = 1000  # of an object in a body


class First(FailFast):
    """A list is read up to its first wrong entry: an error for each of a million would take seconds, and a gigabyte."""

    __hash__ = object.__hash__  # a part of a union is hashed


Body = TypeVar("Body", bound=BaseModel)
Id = StrictInt | StrictStr | StrictFloat
Entries = Annotated[list[StrictInt | StrictStr | StrictFloat | None], First()]
Value = StrictInt | StrictStr | StrictFloat | Entries | None


class PastBody(BaseModel):
    """The user's events: items, times in seconds since 1970, and, where the log had several, the kind of action; known:
    since when each counts, in seconds since 1970; left out: since it happened.
    """

    model_config = ConfigDict(extra="forbid")
    items: Annotated[list[Id], First()] = []
    times: Annotated[list[StrictInt | StrictFloat], First()] = []
    actions: Annotated[list[StrictStr], First()] = []
    known: Annotated[list[StrictInt | StrictFloat], First()] = []


class AboutBody(BaseModel):
    """The user and the moment."""

    model_config = ConfigDict(extra="forbid")
    user: Id | None = None
    time: Annotated[StrictInt | StrictFloat | None, Field(description="Seconds since 1970; default: now.")] = None
    features: Annotated[dict[str, Value], Field(description="Of the user and the moment.")] = {}
    history: Annotated[PastBody | None, Field(description="Left out: that which the server keeps, if any.")] = None
    sequences: Annotated[dict[str, PastBody], Field(description="Those that rows of the log bring, by name.")] = {}


class RankBody(AboutBody):
    """One user, many candidates."""

    items: Annotated[list[Id], First(), Field(min_length=1, max_length=ranking.MOST_CANDIDATES)]
    item_features: Annotated[
        dict[str, Annotated[list[Value], First()]], Field(description="Name -> a value per candidate.")
    ] = {}


class RankAnswer(BaseModel):
    """Per task a probability for each candidate, in the order of the request; version: the one that gave them all;
    history: whose was used: the request's, kept, none, or away, where what is kept could not be had.
    """

    model: str
    version: int
    history: Literal["request", "kept", "none", "away"]
    scores: dict[str, list[float]]


def described(body: type[BaseModel], *binary: str) -> dict[str, Any]:
    """Return what OpenAPI says of a body that the route reads itself; binary: media types that it may have too."""
    kinds: dict[str, Any] = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in binary}
    schema = body.model_json_schema()
    content = {"application/json": {"schema": _inlined(schema, schema.pop("$defs", {}))}, **kinds}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(tree: Any, parts: dict[str, Any]) -> Any:
    """Return a schema with its parts where they are referred to: within OpenAPI the references would lead nowhere."""
    if isinstance(tree, list):
        return [_inlined(one, parts) for one in tree]
    if not isinstance(tree, dict):
        return tree
    if "$ref" in tree:
        return _inlined(parts[tree["$ref"].removeprefix("#/$defs/")], parts)
    return {key: _inlined(one, parts) for key, one in tree.items()}


def asked(body: bytes, limits: Limits) -> ranking.Request:
    """Return the request of a body; RefusedError, which names the field, for one that is none."""
    return request_of(tree_of(body, RankBody), limits)


def tree_of(body: bytes, kind: type[Body]) -> Body:
    """Return a body of JSON; RefusedError, which names the field, for one that is none."""
    try:
        tree = from_json(body)
    except ValueError as error:
        raise RefusedError(422, f"body: Invalid JSON: {error}"[:200]) from None
    _few_keys(tree, "body")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise RefusedError(422, first_fault(error)) from None


def request_of(read: RankBody, limits: Limits) -> ranking.Request:
    """Return the request; one that names no time is of now."""
    moment = time.time() if read.time is None else read.time
    past = None if read.history is None else _past(read.history, "history", limits)
    sequences = {name: _past(one, f"sequences.{name[: ranking.SHOWN]}", limits) for name, one in read.sequences.items()}
    return ranking.Request(read.user, read.items, moment, read.features, read.item_features, past, sequences)


def _past(read: PastBody, what: str, limits: Limits) -> ranking.Past:
    if len(read.items) > limits.history:
        raise RefusedError(422, f"{what}.items: at most {limits.history:,} events; got {len(read.items):,}")
    return ranking.Past(read.items, read.times, read.actions, read.known)


def _few_keys(tree: Any, where: str) -> None:
    """Refuse an object, or one right in it, of more than MOST_KEYS keys: each wrong one makes errors of its own."""
    if not isinstance(tree, dict):
        return
    if len(tree) > MOST_KEYS:
        raise RefusedError(422, f"{where}: at most {MOST_KEYS:,} keys; got {len(tree):,}")
    for name, inner in tree.items():
        if isinstance(inner, dict) and len(inner) > MOST_KEYS:
            raise RefusedError(422, f"{name[: ranking.SHOWN]}: at most {MOST_KEYS:,} keys; got {len(inner):,}")


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong, without the value that was given."""
    one = error.errors(include_url=False, include_input=False, include_context=False)[0]
    parts = [str(part)[: ranking.SHOWN] for part in one["loc"]]
    where = ".".join(part for part in parts if part not in ("int", "str", "float") and not part.startswith("list["))
    return f"{where or 'body'}: {one['msg'][:200]}"


def written(found: Answered) -> Response:
    """Return the answer, of what `RankAnswer` holds."""
    about = found.scorer.artefact.manifest
    scores = {task: found.scores[:, k].tolist() for k, task in enumerate(about.tasks)}
    past = found.request.history
    origin = "none" if past is None else past.origin
    answer = {"model": about.model, "version": about.version, "history": origin, "scores": scores}
    return Response(to_json(answer), media_type="application/json")
