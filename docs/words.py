"""Find words that a native writer would not use, and suggest better ones: `python docs/words.py`, part of `make lint`.

It reads the pages, captions, templates and configuration files, and every docstring, comment and message of the
package. CONTRIBUTING.md has the rules of style. It also counts the words of docs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
READ = (
    "*.md",
    "*.rst",
    "*.yaml",
    "Makefile",
    "*Snakefile",
    "src/*.py",
    "studies/*.py",
    "src/*.html",
    "src/*.js",
    "workflow/*.smk",
    ":!benchmarks",
    ":!CONTRIBUTING.md",
)
BETTER = {
    r"tells?|told": "say, show or report",
    r"beside": "next to, compared with or besides",
    r"go(es)? on|going on|gone on": "resume or continue",
    r"lacks?": "is missing or has no",
    r"speaks? of": "is about",
    r"comes? of": "the result or outcome",
    r"anew|made again": "again, recreated or reproduce",
    r"heeds?|heeded": "handle, follow or account for",
    r"holds? up": "block or delay",
    r"the selects": "the menus",
    r"the master": "the main process",
    r"a (?:log|line|row|point|bar|dot) an? (?:cell|class|job|epoch|loss|model|row|run|seed|stage)": "one ... per ...",
}
GENERATED = ("configuration.md", "reading.md")  # by docs/hooks.py
LISTS = "references.md"  # whose tables are generated too
BLOCK = re.compile(
    r"<!--(?:n (?:answers|grid|found|length|null)|runs)\b.*?<!--/-->|<!-- (matrix|kinds) -->.*?<!-- /\1 -->", re.DOTALL
)
PATTERN = re.compile("|".join(rf"\b(?:{words})\b" for words in BETTER), re.IGNORECASE)


def read() -> list[Path]:
    """Return the tracked files that a person reads."""
    command = ["git", "-C", str(ROOT), "ls-files", "--", *READ]
    return [ROOT / name for name in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def problems(text: str) -> Iterator[str]:
    """Yield a line for each word of `text` that has a better one, with its line number."""
    for match in PATTERN.finditer(text):
        better = next(better for words, better in BETTER.items() if re.fullmatch(words, match[0], re.IGNORECASE))
        yield f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: {better}"


def words(text: str) -> int:
    """Count the words of a page, code and tables included, but not what comments hide."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return sum(any(character.isalnum() for character in word) for word in text.split())


def by_hand(page: Path) -> int:
    """Count the words of a page that no script wrote: neither docs/hooks.py nor, as a block, docs/published.py."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    if page.name in GENERATED:
        return 0
    return words("\n".join(line for line in text.splitlines() if page.name != LISTS or not line.startswith("|")))


def main() -> int:
    """Print every problem and the number of words; return 1 if there is a problem."""
    lines = [
        f"{path.relative_to(ROOT)}:{line}" for path in read() for line in problems(path.read_text(encoding="utf-8"))
    ]
    for line in lines:
        print(line)
    pages = sorted((ROOT / "docs").glob("*.md"))
    every, written = sum(words(page.read_text(encoding="utf-8")) for page in pages), sum(map(by_hand, pages))
    print(f"docs: {every:,} words in {len(pages)} pages, of which no script wrote {written:,}")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
