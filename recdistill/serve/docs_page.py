"""The page of the routes for people, made of the application's own OpenAPI: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

__all__ = ["docs_page"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }
:root { color-scheme: light dark }
h2 { font: 600 1.05rem ui-monospace, monospace; margin: 2rem 0 .3rem }
table { border-collapse: collapse; margin: .6rem 0 } caption { text-align: left; font-weight: 600 }
td, th { border-bottom: 1px solid #8886; padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top }
td:first-child { font-family: ui-monospace, monospace; white-space: nowrap }
"""
PLURAL = {"array": "list of ", "object": "name to "}


def docs_page(openapi: dict[str, Any]) -> str:
    """Return HTML that lists every route: what it does, the fields of its body, and what it may answer."""
    routes = [(method, path, about) for path, methods in openapi["paths"].items() for method, about in methods.items()]
    title = f"{openapi['info']['title']} {openapi['info']['version']}"
    parts = [part for route in routes for part in _route(*route)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>"
        f'<p>The same for a program: <a href="openapi.json">openapi.json</a>.</p>{"".join(parts)}</html>'
    )


def _route(method: str, path: str, about: dict[str, Any]) -> Iterator[str]:
    yield f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(about.get('description', ''))}</p>"
    for kind, content in about.get("requestBody", {}).get("content", {}).items():
        if fields := content["schema"].get("properties"):
            needed = content["schema"].get("required", ())
            rows = [(name, _type(of) + (", needed" if name in needed else ""), of) for name, of in fields.items()]
            yield _table(f"Body, {kind}", [(name, what, of.get("description", "")) for name, what, of in rows])
        else:
            yield f"<p>Body, or {escape(kind)}.</p>"
    yield _table("Answers", [(status, one.get("description", "")) for status, one in about["responses"].items()])


def _type(schema: dict[str, Any]) -> str:
    """Return a field's type in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    kind = schema.get("type", "")
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    return PLURAL[kind] + _type(inner) if kind in PLURAL and isinstance(inner, dict) else kind


def _table(caption: str, rows: list[tuple[str, ...]]) -> str:
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><caption>{escape(caption)}</caption>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
