"""How the object store of a run is reached."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from recdistill.config.base import Strict

__all__ = ["StorageConfig"]

OPTION = re.compile(r"(aws|google|azure)_[a-z0-9_]+")


def _option(name: str) -> str:
    if not OPTION.fullmatch(name):
        raise ValueError("an option is a variable of the store's own tools in small letters, such as aws_endpoint_url")
    return name


class StorageConfig(Strict):
    """options: variables of the store's own tools in small letters, which take the place of those of the environment;
    no run keeps them.
    """

    options: dict[Annotated[str, AfterValidator(_option)], SecretStr] = Field(default={}, repr=False)

    def variables(self) -> dict[str, str]:
        """Return the options as variables of the environment, secrets in clear."""
        return {name.upper(): value.get_secret_value() for name, value in self.options.items()}
