"""Print docs/reference/cli.md, made of the command line itself: python docs/cli_reference.py > docs/reference/cli.md"""

from __future__ import annotations

from typing import Any

import typer.main

from recdistill.cli.app import app

HEAD = """# Command line

Made from the program by `docs/cli_reference.py`; `make docs` writes it again, and a test compares the two.

Every command states in one line what is wrong. Exit: 0 done, 1 an error of ours, 2 something that you can correct,
130 interrupted. `recdistill --verbose COMMAND` shows tracebacks, `recdistill COMMAND --help` shows this text.
"""


def usage(name: str, parameters: list[Any]) -> str:
    """Return the line that shows how a command is called."""
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    words = [one.opts[0].upper() if one.required else f"[{one.opts[0].upper()}]" for one in arguments]
    return " ".join(["recdistill", name, *words, *(["[OPTIONS]"] if len(arguments) < len(parameters) else [])])


def row(parameter: Any) -> str:
    """Return one argument or option as a row of a table."""
    option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if option else parameter.opts[0].upper()
    given = parameter.default not in (None, False) and not callable(parameter.default)
    default = "required" if parameter.required else f"`{parameter.default}`" if given else ""
    note = (
        " May be given again." if parameter.multiple else " A switch." if getattr(parameter, "is_flag", False) else ""
    )
    text = " ".join((parameter.help or "").split()).rstrip(".").replace("|", "\\|")
    return f"| `{name}` | {default} | {text}{'.' if text else ''}{note} |"


def section(name: str, command: Any) -> str:
    """Return the section of one command."""
    parameters = [one for one in command.params if "--help" not in one.opts and not getattr(one, "hidden", False)]
    lines = [f"## {name}", "", " ".join((command.help or "").split()), "", "```sh", usage(name, parameters), "```", ""]
    if parameters:
        lines += ["| argument or option | default | what |", "|---|---|---|", *map(row, parameters), ""]
    return "\n".join(lines)


def page() -> str:
    """Return the whole page."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = [section(name, command) for name, command in commands.items() if not command.hidden]
    return "\n".join([HEAD, *shown]).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
