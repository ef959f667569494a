"""Untrusted text, made safe to print and to use as a file name."""

from __future__ import annotations

_LONGEST_NAME = 180  # bytes; file systems take 255, and a suffix and a temporary prefix are added
_UNSAFE = frozenset('/\\:*?"<>|')  # separators, and what Windows refuses


def printable(text: str) -> str:
    """`text` on one line, with everything escaped that could control a terminal or break its encoding.

    These are control characters, surrogates, separators other than the space, and marks that change the direction
    of writing.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def safe_name(text: str) -> str:
    """A file name, without its suffix, for `text`: the text itself where it is a plain name.

    Anything else keeps its harmless characters and gets 8 hex digits of its hash, so that different texts do not
    share a name. The result is a single path component on every file system.
    """
    kept = "".join("_" if char in _UNSAFE or not char.isprintable() else char for char in text).lstrip(".").strip()
    kept = kept.encode()[:_LONGEST_NAME].decode(errors="ignore")
    if kept == text and kept:
        return kept
    import hashlib

    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{kept}-{digest}" if kept else digest


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", errors="surrogatepass").decode("ascii")
