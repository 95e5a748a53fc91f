"""What names of columns suggest, in any case and with any sign between their words: userId, USER_ID and user-id."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["ACTION", "CODE", "COUNT", "ITEM", "LABEL", "MEASURED", "REQUEST", "SAMPLE", "SEQUENCE", "TIME", "USER"]
__all__ += ["has_word", "rank", "words_of"]

TIME = ("timestamp", "ts", "time", "event_time", "datetime", "unix_timestamp", "created_at", "date")
USER = (
    "user_id", "user", "uid", "reviewer_id", "visitor_id", "visitor", "member_id", "customer_id", "customer",
    "client_id", "account_id", "viewer_id", "profile_id", "person_id", "device_id", "cookie_id", "cookie",
    "session_id",
)  # fmt: skip
ITEM = (
    "item_id", "item", "iid", "video_id", "movie_id", "film_id", "article_id", "click_article_id", "news_id",
    "product_id", "parent_asin", "asin", "ad_id", "adgroup_id", "creative_id", "song_id", "track_id", "photo_id",
    "post_id", "note_id", "content_id", "document_id", "doc_id", "book_id", "business_id", "listing_id", "hotel_id",
    "offer_id", "goods_id", "sku_id", "sku", "game_id", "app_id", "job_id", "recipe_id", "banner_id", "mid", "pid",
)  # fmt: skip
REQUEST = (
    "request_id", "request", "list_id", "slate_id", "impression_id", "query_id", "search_id", "srch_id", "page_view_id",
    "session_id",
)  # fmt: skip
SAMPLE = ("sample_id", "impression_id", "event_id", "row_id", "log_id", "record_id", "uuid", "id")
ACTION = ("action", "action_type", "event", "event_type", "behavior", "behavior_type", "behaviour", "interaction_type")
LABEL = {
    "label": "label", "target": "target", "y": "label", "click": "click", "clicked": "click", "clk": "click",
    "like": "like", "liked": "like", "buy": "buy", "bought": "buy", "purchase": "purchase", "purchased": "purchase",
    "order": "order", "ordered": "order", "conversion": "conversion", "converted": "conversion", "follow": "follow",
    "share": "share", "shared": "share", "comment": "comment", "forward": "forward", "install": "install",
    "finish": "finish", "finished": "finish", "view": "view", "cart": "cart", "fav": "fav", "rating": "rating",
    "ratings": "rating", "stars": "stars", "overall": "rating", "r": "rating",
}  # fmt: skip
MEASURED = {"watch", "watched", "play", "played", "dwell", "stay", "spent", "revenue", "gmv", "helpful"}
SEQUENCE = {
    "hist", "history", "histories", "seq", "sequence", "clicked", "viewed", "watched", "bought", "cart", "carts",
    "items", "past", "recent", "last", "previous",
}  # fmt: skip
CODE = {
    "id", "code", "type", "category", "cat", "cate", "class", "tab", "level", "flag", "gender", "hour", "weekday",
    "country", "region", "city", "zip", "os", "brand", "shop", "author", "seller", "channel", "device", "platform",
    "key", "hash", "idx", "session",
}  # fmt: skip
COUNT = {
    "price", "count", "cnt", "num", "number", "age", "duration", "length", "size", "score", "rate", "ratio", "amount",
    "days", "ms", "seconds", "position", "rank", "year", "width", "height", "words", "distance", "votes",
}  # fmt: skip


def words_of(name: str) -> list[str]:
    """Return the words of a name, in lower case."""
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    return re.findall(r"[a-z]+|\d+", spaced.lower())


def rank(name: str, names: Iterable[str]) -> int | None:
    """Return the place of a name among `names`, written as one word or several; None where it is none of them."""
    plain = "".join(words_of(name))
    return next((place for place, known in enumerate(names) if known.replace("_", "") == plain), None)


def has_word(name: str, words: Iterable[str]) -> str | None:
    """Return the first word of a name that is one of `words`, None where none is."""
    known = set(words)
    return next((word for word in words_of(name) if word in known), None)
