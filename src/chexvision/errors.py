"""The errors a person sees: one clear line that says what was wrong and what to do next."""

from __future__ import annotations


class ChexError(Exception):
    """Something failed that the user did not type: exit code 1.

    The message is one line: what was wrong, the value, what to do next.
    """

    exit_code = 1


class UsageError(ChexError):
    """What the user typed or passed is wrong: exit code 2."""

    exit_code = 2


class PublishError(ChexError):
    """An artifact is complete but could not be published: exit code 3. Nothing needs to be computed again."""

    exit_code = 3
