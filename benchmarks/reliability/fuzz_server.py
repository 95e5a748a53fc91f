"""Odd requests: `python benchmarks/reliability/fuzz_server.py ARTEFACT [TRIES]` (20,000, about 2 minutes). Budget: no
status of 500 and above, no hang, memory flat.

A whole request of every protocol has a value of its JSON replaced by an odd one, or bytes of its body flipped, cut,
repeated or put in; then bodies by hand (oversized, nested, none, 10,000 candidates, slow) go to every route.
"""

from __future__ import annotations

import copy
import http.client
import io
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' own server

from recdistill.serve.arrow import KIND as ARROW
from recdistill.serve.tensors import HEADER
from tests.support.serving import Served, serving

SECONDS = 10  # until an answer, at most: twice what a body may take to arrive
JSON = {"content-type": "application/json"}
ODD = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 1000,
    "\0",
    [],
    {},
    [[]],
    [1] * 300,
]
ODD += [{"a": 1}, "items", [None], ["1"], 1e300, "2020-01-01"]
Request = tuple[str, bytes, dict[str, str]]  # path, body, headers


def whole(model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a right body of /v1/rank, and one of the inference protocol."""
    past = {"items": [1, 2], "times": [1e8, 2e8], "actions": ["positive", "negative"]}
    rank = {"user": 1, "items": [1, 2, 3], "time": 1e9, "features": {}, "item_features": {}, "history": past}
    inputs = [{"name": "items", "shape": [3], "datatype": "INT64", "data": [1, 2, 3], "parameters": {}}]
    inputs += [{"name": "history.items", "shape": [2], "datatype": "INT64", "data": [1, 2], "parameters": {}}]
    inputs += [{"name": "history.times", "shape": [2], "datatype": "FP64", "data": [1e8, 2e8], "parameters": {}}]
    return rank, {"id": "1", "inputs": inputs, "outputs": [], "parameters": {"binary_data_output": True}}


def replaced(tree: Any, draw: random.Random) -> Any:
    """Return a tree of which one value, or one key, is an odd one."""
    tree = copy.deepcopy(tree)
    node = tree
    while True:
        key = draw.choice(list(node) if isinstance(node, dict) else range(len(node))) if node else None
        if key is None:
            return tree
        if isinstance(node[key], dict | list) and draw.random() < 0.7:
            node = node[key]
        elif isinstance(node, dict) and draw.random() < 0.2:
            node[draw.choice(["", "n" * 500, "feature", "user"])] = draw.choice(ODD)
            return tree
        else:
            node[key] = draw.choice(ODD)
            return tree


def damaged(body: bytes, draw: random.Random) -> bytes:
    """Return a body with bytes flipped, cut, repeated or put in."""
    at, to = sorted(draw.randrange(len(body) + 1) for _ in range(2))
    put = draw.choice([b"", body[at:to] * 2, draw.randbytes(3), bytes(4), b"\xff" * 8])
    return body[:at] + put + body[draw.choice([at, at + 1, to]) :]


def odd(model: str, draw: random.Random) -> Request:
    """Return one odd request."""
    rank, infer = whole(model)
    path = f"/v2/models/{model}/infer"
    kind = draw.randrange(4)
    if kind == 3:
        return "/v1/rank", damaged(stream(), draw), {"content-type": ARROW, "accept": ARROW}
    if kind == 2:
        infer["inputs"][0] = {**infer["inputs"][0], "data": None, "parameters": {"binary_data_size": 24}}
        head = json.dumps(replaced(infer, draw) if draw.random() < 0.5 else infer).encode()
        length = draw.choice([len(head)] * 8 + [len(head) + 24, 10**6, -1])
        body = head + np.arange(3).tobytes()
        return path, damaged(body, draw) if draw.random() < 0.5 else body, {HEADER: str(length)}
    body = json.dumps(replaced(infer if kind else rank, draw)).encode()
    return path if kind else "/v1/rank", damaged(body, draw) if draw.random() < 0.3 else body, JSON


def stream() -> bytes:
    """Return a right body of Arrow."""
    sink = io.BytesIO()
    table = pa.table({"items": ["1", "2", "3"]}).replace_schema_metadata({"request": '{"user": 1, "time": 1e9}'})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def by_hand(model: str) -> Iterator[Request]:
    """Yield bodies by hand for every route that takes one."""
    many = {"items": list(range(10_000)), "time": 1e9}
    unknown = {"user": 10**18, "items": [-(10**18)], "history": {"items": [5] * 9, "times": [1] * 9}}
    bodies = [b"", b"{}", b"null", b"[" * 1_000_000, b"{" * 1000, b'{"a":' * 100_000, b'{"items": [NaN]}', b"\xff" * 99]
    bodies += [b" " * (5 << 20), json.dumps(many).encode(), json.dumps(unknown).encode(), b'{"items": [' + b"1," * 999]
    for path in (
        "/v1/rank",
        f"/v2/models/{model}/infer",
        f"/v2/models/{model}/versions/1/infer",
        "/v2/models/%00/infer",
    ):
        for body in bodies:
            for headers in (JSON, {"content-type": ARROW}, {"content-type": "text/plain"}, {HEADER: "7"}, {}):
                yield path, body, headers
        yield path, b"", {**JSON, "content-length": "9"}  # a body that does not come
        yield path, b"", {**JSON, "content-length": "-1"}
        yield path, b"zz", {**JSON, "transfer-encoding": "chunked"}


def status(served: Served, request: Request) -> int | str:
    """Return the status of an answer; what went wrong where none came."""
    path, body, headers = request
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=SECONDS)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except TimeoutError:
        return "hangs"
    except (OSError, http.client.HTTPException) as error:
        return f"closed: {type(error).__name__}"  # as it may be, where a body is still sent when it is refused
    finally:
        connection.close()


def memory(served: Served) -> int:
    """Return the server's resident memory, MiB."""
    found = Path(f"/proc/{served.first.pid}/status").read_text().partition("VmRSS:")[2]
    return int(found.split()[0]) >> 10


def main() -> int:
    """Try so many odd requests; print what went wrong."""
    total, draw = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000, random.Random(0)
    wrong, counts = 0, Counter[int | str]()
    with serving(Path(sys.argv[1])) as served:
        model = json.loads(served.get("/readyz"))["model"]
        hand = list(by_hand(model))
        for number in range(total + len(hand)):
            request = hand[number] if number < len(hand) else odd(model, draw)
            found = status(served, request)
            counts[found] += 1
            if found == "hangs" or (isinstance(found, int) and found >= 500):
                wrong += 1
                print(found, request[0], request[1][:200], request[2])
            if number == len(hand):
                before = memory(served)
        print(f"{sum(counts.values()):,} odd requests, {dict(counts)}: {wrong:,} went wrong")
        print(f"memory: {before} MiB after those by hand, {memory(served)} MiB at the end")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
