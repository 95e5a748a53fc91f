"""The published logs that are read by name: the files that a reader looks at, and how large each log is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from recdistill.data.readers.base import Source
from recdistill.data.readers.files import find_files, matching
from recdistill.errors import UserError

__all__ = ["PUBLISHED", "Published", "PublishedFolder"]


@dataclass(frozen=True)
class Published:
    """files: part of the log -> the names that its files may have; logs: each log that it reads, and its rows as its
    publisher counts them; page: where it is explained.
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

    def files(self, *parts: str) -> list[Path]:
        """Return the files of some parts of the log, by name; UserError where there is none."""
        found = find_files(self.path, *(name for part in parts for name in self._names(part)))
        self.seen.extend(found)
        return found

    def file(self, part: str) -> Path:
        """Return the one file of a part of the log; UserError where there is none, or several."""
        found = self.files(part)
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(self.path)) for path in found)
            raise UserError(f"{self.path}: holds several: {names}; name the folder of one log as data.path")
        return found[0]

    def has(self, part: str) -> bool:
        """Return whether there is any file of a part of the log."""
        return any(matching(self.path, *self._names(part)))

    @property
    def source(self) -> Source:
        """What was looked at."""
        return Source(self.path, tuple(dict.fromkeys(self.seen)))

    def _names(self, part: str) -> tuple[str, ...]:
        return PUBLISHED[self.reader].files[part]


def _page(section: str) -> str:
    return f"docs/howto/public-logs.md#{section}"


SPLITS: dict[str, tuple[str, ...]] = {part: (f"{part}.csv",) for part in ("train", "valid", "test")}
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
            "standard": ("log_standard_*.csv",),
            "random": ("log_random_*.csv",),
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
        {"big": ("big_matrix.csv",), "small": ("small_matrix.csv",), "tags": ("item_categories.csv",)},
        {"KuaiRec, big matrix": "12,530,806 views", "KuaiRec, small matrix": "4,676,570 views"},
        _page("kuairec"),
    ),
    "criteo": Published(
        {"rows": ("train.txt",)}, {"Criteo Display Advertising Challenge": "45,840,617 impressions"}, _page("criteo")
    ),
    "criteo-x4": Published(SPLITS, {"Criteo_x4 of BARS": "45,840,617 impressions"}, _page("criteo")),
    "avazu": Published(
        {"rows": ("train.csv",)}, {"Avazu Click-Through Rate Prediction": "40,428,967 impressions"}, _page("avazu")
    ),
    "avazu-x4": Published(SPLITS, {"Avazu_x4 of BARS": "40,428,967 impressions"}, _page("avazu")),
    "taobao-ads": Published(
        {
            "shown": ("raw_sample.csv",),
            "ads": ("ad_feature.csv",),
            "users": ("user_profile.csv",),
            "actions": ("behavior_log.csv",),
        },
        {"Taobao ad display and click log": "about 26 million impressions, 700 million actions"},
        _page("taobao-ads"),
    ),
    "kuaivideo": Published(
        {"train": ("train.csv",), "test": ("test.csv",)}, {"KuaiVideo_x1": "13,661,383 previews"}, _page("kuaivideo")
    ),
    "tenrec": Published(
        {log: (f"{log}.csv",) for log in ("QB-video", "QK-video", "sbr_data_1M", "ctr_data_1M")},
        {
            "Tenrec QB-video": "2,442,299 impressions",
            "Tenrec QK-video": "493,458,970 impressions",
            "Tenrec sbr_data_1M, ctr_data_1M": "those of a million users of QK-video",
        },
        _page("tenrec"),
    ),
    "yambda": Published(
        {events: (f"{events}.parquet",) for events in ("multi_event", "listens", "likes")},
        {
            "Yambda-50M": "46,467,212 listens",
            "Yambda-500M": "466,512,103 listens",
            "Yambda-5B": "4,649,567,411 listens",
        },
        _page("yambda"),
    ),
    "eb-nerd": Published(
        {
            "train": ("train/behaviors.parquet",),
            "train history": ("train/history.parquet",),
            "validation": ("validation/behaviors.parquet",),
            "validation history": ("validation/history.parquet",),
            "articles": ("articles.parquet",),
        },
        {
            "EB-NeRD demo": "24,724 impressions to train, 25,356 to validate",
            "EB-NeRD small": "232,887 and 244,647 impressions",
            "EB-NeRD large": "12,063,890 and 12,566,385 impressions",
        },
        _page("eb-nerd"),
    ),
    "open-bandit": Published(
        {"shown": ("all.csv", "men.csv", "women.csv"), "items": ("item_context.csv",)},
        {"Open Bandit Dataset": "about 26 million impressions of 2 policies in 3 campaigns"},
        _page("open-bandit"),
    ),
}
