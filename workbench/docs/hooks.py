"""What mkdocs calls while it builds the site."""

from __future__ import annotations

import re
from typing import Any

#: A role of Sphinx in a docstring, in front of what it refers to: ``:class:`Mask```.
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """Drop roles of Sphinx, which the docstrings have for editors and Markdown does not know."""
    return ROLE.sub("", html)
