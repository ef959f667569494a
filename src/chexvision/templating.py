"""Text from Jinja2 templates: every value is escaped for the format of its template, HTML or Markdown."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from chexvision.foreign import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# An underscore within a word, as in `Pleural_Thickening`, has no meaning in Markdown.
_MARKDOWN = re.compile(r"([\\`*\[\]<>|]|(?<![^\W_])_|_(?![^\W_]))")


def render(package: str, template: str, **values: Any) -> str:
    """Render a template.

    Args:
        package: has the template in its folder ``templates``, such as "chexvision.report".
        template: its file name, which ends in ``.html`` or ``.md``.
        values: for its variables. `Markup` is inserted as it is, anything else is escaped.
    """
    return _environment(package, template.endswith(".html")).get_template(template).render(values)


def escape_markdown(text: str) -> str:
    """`text` on one line, with everything that Markdown or HTML would interpret escaped."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def code(text: str) -> Markup:
    """A Markdown code span of `text`, whatever it contains."""
    from markupsafe import Markup

    if "|" in text:  # within a table only escaping keeps it in its cell, and a code span has no escapes
        return Markup(f"<code>{escape_markdown(text)}</code>")
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{fence}{padding}{text}{padding}{fence}")


@cache
def _environment(package: str, html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(package),
        autoescape=html,
        finalize=None if html else _finalize_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"code": code, "count": "{:,}".format}
    return made


def _finalize_markdown(value: object) -> object:
    return value if hasattr(value, "__html__") else escape_markdown(str(value))
