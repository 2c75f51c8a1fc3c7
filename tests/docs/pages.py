"""The pages and what stands in them: code blocks, command lines, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "workbench" / "docs"
#: Every page that a reader may take a command from.
PAGES = sorted(
    [ROOT / "README.md", ROOT / "recipes" / "README.md", ROOT / "plugins" / "README.md", *DOCS.rglob("*.md")]
)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(ssl-wb [^`\n]+)`(?!`)")
#: Parts of a shell line, each a command of its own.
JOINTS = re.compile(r"\s(?:&&|\|\|?|;)\s|;\s|\bdo\s")
#: Written for a file, a folder or a number of the reader's.
PLACEHOLDER = re.compile(r"^(\$\w+|[A-Z][A-Z_/.:]*(\.\w+)?(\.\.\.)?|\.\.\.)$")


@dataclass(frozen=True)
class Command:
    """One command line of a page."""

    page: str
    text: str
    whole: bool  # a line of a fenced block; running text may name a command by its verb or an option alone

    @property
    def words(self) -> list[str]:
        """The words after ``ssl-wb``, without redirection and without what ``[...]`` says may be added."""
        text = re.sub(r"\s\[-[^\]]*\]", "", self.text)
        words = shlex.split(text.split(" > ")[0], comments=True)[1:]
        return [word for word in words if word != "..."]

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield language and text of every fenced block."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        yield match[1], match[2]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shell_lines(page: Path) -> list[str]:
    """Return the shell lines of a page's fenced blocks, continued lines joined."""
    lines: list[str] = []
    for language, text in blocks(page):
        if language in ("", "sh", "bash"):
            joined = text.replace("\\\n", " ")
            lines += [" ".join(line.split()) for line in joined.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith("#")]


def commands(page: Path) -> list[Command]:
    """Return every ``ssl-wb`` command line of a page, in fenced blocks and in running text."""
    found: list[Command] = []
    for line in shell_lines(page):
        for part in JOINTS.split(line):
            at = re.search(r"(?<![\w.-])(?:\.venv/bin/)?ssl-wb (?=\w)", part)
            if at:
                text = part[at.end() :].strip()
                if text.count("'") % 2:  # the end of the quotes around a shell's command
                    text = text.removesuffix("'")
                found.append(Command(named(page), f"ssl-wb {text}", whole=True))
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for match in INLINE.finditer(text):
        found.append(Command(named(page), match[1].replace("\\|", "|"), whole=False))
    return list(dict.fromkeys(found))


def all_commands() -> list[Command]:
    return [one for page in PAGES for one in commands(page)]
