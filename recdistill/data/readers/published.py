"""The published logs that are read by name: the files that a reader looks at, and how large each log is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """patterns: of the files that the reader looks at; logs: each log that it reads, and its rows as its publisher
    counts them; page: where it is explained.
    """

    patterns: tuple[str, ...]
    logs: dict[str, str]
    page: str


def _page(section: str) -> str:
    return f"docs/howto/public-logs.md#{section}"


PUBLISHED = {
    "movielens": Published(
        ("u.data", "u.item", "u.user", "ratings.*", "movies.*", "users.dat"),
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
        ("[A-Z]*.jsonl", "[A-Z]*.jsonl.gz"),
        {"Amazon Reviews 2023, one category": "571.5 million reviews in all of 33 categories"},
        _page("amazon-reviews"),
    ),
    "taobao": Published(("UserBehavior.csv",), {"Taobao UserBehavior": "100,150,807 actions"}, _page("taobao")),
    "globo": Published(("clicks_hour_*.csv", "articles_metadata.csv"), {"Globo": "2,988,181 clicks"}, _page("globo")),
    "trivago": Published(
        ("train.csv", "item_metadata.csv"), {"RecSys Challenge 2019": "about 16 million actions"}, _page("trivago")
    ),
    "mind": Published(
        ("behaviors.tsv", "news.tsv"),
        {"MIND-small": "a sample of 50,000 users", "MIND-large": "about 15 million impressions"},
        _page("mind"),
    ),
    "kuairand": Published(
        ("log_*.csv", "user_features_*.csv", "video_features_basic_*.csv"),
        {
            "KuaiRand-Pure": "about 2.6 million views",
            "KuaiRand-1K": "about 11.8 million views",
            "KuaiRand-27K": "about 323 million views",
        },
        _page("kuairand"),
    ),
    "kuairec": Published(
        ("big_matrix.csv", "small_matrix.csv", "item_categories.csv"),
        {"KuaiRec, big matrix": "12,530,806 views", "KuaiRec, small matrix": "4,676,570 views"},
        _page("kuairec"),
    ),
}
