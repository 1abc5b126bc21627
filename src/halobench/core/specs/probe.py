"""Define the spec of a probe around samples."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from halobench.core.errors import refuse, require
from halobench.core.plugins import check_known, find, names
from halobench.core.specs.codec import Count, Distance, NotNegative, Number, Several, Text, canonical, spec

FARTHEST = 1e15  # the squares of greater distances, summed over pixels, soon overflow single precision


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    require(all(a < b for a, b in itertools.pairwise(values)), "", list(values), "distances in increasing order")
    require(values[-1] <= FARTHEST, "", values[-1], f"distances of at most {FARTHEST:g}, as single precision has")
    return values


def _known_probe(kind: str) -> str:
    check_known("probes", "", kind, names("searches"))
    return kind


Distances = Annotated[Several[Distance], AfterValidator(_increasing)]
# The keys that control how a probe walks along rays, and the keys that only searches have.
RAY_KEYS = ("directions", "radii", "relative_radii", "components", "bisections")
SEARCH_KEYS = ("norm", "restarts", "steps")


@spec
class ProbeSpec:
    """One probe: the samples that it starts from, and the directions that it takes.

    A walk along rays records the confidence at given distances; a search (``adversarial``, ``certified``) finds the
    distances itself. A walk refuses `SEARCH_KEYS`, and a search refuses those of `RAY_KEYS` and `SEARCH_KEYS` that its
    function doesn't take; keys with their default values are never refused.
    """

    kind: Annotated[Text, AfterValidator(_known_probe)] = Field(
        description="Where the probe goes. A walk along rays is one of sphere (uniformly random directions),"
        " nearest_other (towards the nearest training sample with a different label), mixup_line (towards a random"
        " one), manifold (random directions in the span of the leading principal components), a file in"
        " src/halobench/probing/directions, or module:object. A search, which finds only radii, is one of adversarial"
        " (the nearest point below the threshold that an attack finds) and certified (the largest ball in which"
        " confidence is proved to stay at or above the threshold).",
        json_schema_extra=lambda schema: schema.update(examples=[*names("probes"), *names("searches")]),
    )
    points: Count = Field(default=150, description="Number of training samples to visit; all if there are fewer.")
    control: NotNegative = Field(
        default=100, description="Number of held-out (test) samples to visit; all if there are fewer."
    )
    directions: Count = Field(default=1, description="Number of rays per sample.")
    radii: Distances = Field(
        default=(0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0),
        description="Distances in normalised pixels, or in standard deviations for features.",
    )
    relative_radii: Distances = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0),
        description="Distances as multiples of the distance from a sample to its nearest training sample with a"
        " different label.",
    )
    threshold: Number = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="Confidence below which the model no longer counts as certain.",
    )
    components: Count = Field(default=32, description="Number of principal components for the manifold probe.")
    bisections: Count = Field(default=6, description="Number of bisections that refine each radius.")
    norm: Literal["l2", "inf"] = Field(
        default="l2", description="For adversarial: the norm in which distances are measured."
    )
    restarts: Count = Field(
        default=3,
        description="For adversarial: starts per sample in the search for the first of its radii; searches for its"
        " other radii have two starts each.",
    )
    steps: Count = Field(default=50, description="For adversarial: gradient steps per start.")

    def __post_init__(self):
        changed = canonical(self)
        taken = find("searches", self.kind).options or {} if self.searches else RAY_KEYS
        for key in (key for key in (*RAY_KEYS, *SEARCH_KEYS) if key not in taken):
            refuse(key in changed, key, f"{self.kind} doesn't use this key; leave it out")
        why = None if self.searches else find("probes", self.kind).constants.get("ONE_DIRECTION")
        require(why is None or self.directions == 1, "directions", self.directions, f"1, since {why}")

    @property
    def searches(self) -> bool:
        return self.kind in names("searches")

    @property
    def plugged(self) -> list[tuple[str, str]]:
        """Return the plug-in that the probe runs, as a list with one (kind, name)."""
        return [("searches" if self.searches else "probes", self.kind)]
