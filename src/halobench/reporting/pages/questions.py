"""Prepare the four questions with their answers for pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Where the numbers behind each answer are: the page, a place on it, and what the link says.
DETAILS = {
    "reach": (("figures.html#halo", "halos in the worst direction"), ("figures.html#radii", "all radii")),
    "temperature": (("figures.html#calibration", "all scores"), ("figures.html#reliability", "reliability")),
    "mixup": (("leaderboard.html", "all losses and calibrators, ranked"),),
    "maps": (("leaderboard.html", "all calibrators, ranked"),),
}


def questions(answers: Iterable[Mapping[str, str]], pictures: Mapping[str, str]) -> list[dict[str, object]]:
    """Return each answer with the address of its picture, which is "" if the answer has no picture."""
    return [{**answer, "picture": pictures.get(answer["key"], "")} for answer in answers]


def details(key: str, figures: Iterable[str]) -> list[tuple[str, str]]:
    """Return links, as address and text, to the pages and figures of an experiment that say more about a question."""
    drawn = set(figures)
    links = [link for link in DETAILS[key] if not link[0].startswith("figures") or link[0].partition("#")[2] in drawn]
    return [*links, ("claims.html", "claims and verdicts")]
