"""The published logs that are read by name: the files that a reader looks at, and how large each log is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from recdistill.data.readers.base import Source
from recdistill.data.readers.files import find_files
from recdistill.errors import UserError

__all__ = ["PUBLISHED", "Published", "PublishedFolder"]


@dataclass(frozen=True)
class Published:
    """files: part of the log -> the names that its files may have, options of the reader in braces; logs: each log that
    it reads, and its rows as its publisher counts them; page: where it is explained.
    """

    files: dict[str, tuple[str, ...]]
    logs: dict[str, str]
    page: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """Return the names of all files that are looked at, each once."""
        return tuple(dict.fromkeys(name for names in self.files.values() for name in names))


@dataclass(frozen=True)
class PublishedFolder:
    """A published log's folder as its publisher gives it. seen: the files that were looked at so far."""

    reader: str
    path: Path
    seen: list[Path] = field(default_factory=list)

    def files(self, part: str, **options: str | Iterable[str]) -> list[Path]:
        """Return the files of a part of the log, by name; of several values of an option those of all.

        UserError where there is none.
        """
        found = find_files(self.path, *self._names(part, **options))
        self.seen.extend(found)
        return found

    def file(self, part: str, **options: str) -> Path:
        """Return the one file of a part of the log; UserError where there is none, or several."""
        found = self.files(part, **options)
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(self.path)) for path in found)
            raise UserError(f"{self.path}: holds several: {names}; name the folder of one log as data.path")
        return found[0]

    def has(self, part: str) -> bool:
        """Return whether there is any file of a part of the log."""
        return any(any(self.path.glob(name)) or any(self.path.glob(f"*/{name}")) for name in self._names(part))

    @property
    def source(self) -> Source:
        """What was looked at."""
        return Source(self.path, tuple(dict.fromkeys(self.seen)))

    def _names(self, part: str, **options: str | Iterable[str]) -> list[str]:
        values = [[value] if isinstance(value, str) else list(value) for value in options.values()]
        chosen = [dict(zip(options, each, strict=True)) for each in product(*values)]
        return [name.format(**each) for name in PUBLISHED[self.reader].files[part] for each in chosen]


def _page(section: str) -> str:
    return f"docs/howto/public-logs.md#{section}"


PUBLISHED = {
    "movielens": Published(
        {
            "ratings": ("u.data", "ratings.dat", "ratings.csv"),
            "films": ("u.item", "movies.dat", "movies.csv"),
            "users": ("u.user", "users.dat"),
        },
        {
            "MovieLens-100K": "100,000 ratings",
            "MovieLens-1M": "1,000,209 ratings",
            "MovieLens-10M": "10,000,054 ratings",
            "MovieLens-20M": "20,000,263 ratings",
            "MovieLens-25M": "25,000,095 ratings",
            "MovieLens-32M": "32,000,204 ratings",
        },
        _page("movielens"),
    ),
    "amazon-reviews": Published(
        {"reviews": ("[A-Z]*.jsonl", "[A-Z]*.jsonl.gz")},
        {"Amazon Reviews 2023, one category": "571.5 million reviews in all of 33 categories"},
        _page("amazon-reviews"),
    ),
    "taobao": Published(
        {"actions": ("UserBehavior.csv",)}, {"Taobao UserBehavior": "100,150,807 actions"}, _page("taobao")
    ),
    "globo": Published(
        {"clicks": ("clicks_hour_*.csv",), "articles": ("articles_metadata.csv",)},
        {"Globo": "2,988,181 clicks"},
        _page("globo"),
    ),
    "trivago": Published(
        {"actions": ("train.csv",), "hotels": ("item_metadata.csv",)},
        {"RecSys Challenge 2019": "about 16 million actions"},
        _page("trivago"),
    ),
    "mind": Published(
        {"impressions": ("behaviors.tsv",), "articles": ("news.tsv",)},
        {"MIND-small": "a sample of 50,000 users", "MIND-large": "about 15 million impressions"},
        _page("mind"),
    ),
    "kuairand": Published(
        {
            "views": ("log_{kind}_*.csv",),
            "users": ("user_features_*.csv",),
            "videos": ("video_features_basic_*.csv",),
        },
        {
            "KuaiRand-Pure": "about 2.6 million views",
            "KuaiRand-1K": "about 11.8 million views",
            "KuaiRand-27K": "about 323 million views",
        },
        _page("kuairand"),
    ),
    "kuairec": Published(
        {"views": ("{matrix}_matrix.csv",), "tags": ("item_categories.csv",)},
        {"KuaiRec, big matrix": "12,530,806 views", "KuaiRec, small matrix": "4,676,570 views"},
        _page("kuairec"),
    ),
}
