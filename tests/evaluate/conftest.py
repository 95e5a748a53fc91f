"""No deadlines: on a busy machine they would fail tests of correct code."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
