"""Draw the share of samples that stay certain up to each distance, as proved, under attack and in random directions."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from halobench.analysis.names import PROBES, Style
from halobench.analysis.random_ray_null import ONE, OTHERS
from halobench.reporting import labels
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.style import FAINT, INK
from halobench.reporting.seed_statistics import over_seeds
from halobench.storage.columns import SURVIVAL, SURVIVAL_COLUMNS

WORST = ("certified", "adversarial")
NULLS = (OTHERS, ONE)  # quantities: shares of random rays if boundaries were flat, the lower one first
SHOWN = ("certainty", *NULLS)
CELL = ["dataset", "model", "loss"]
AMBER = "#B07D00"
RANDOM = Style(INK, "o")


def survival_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds of the shares in rows of ``radii``, by distance, with the total number of ``samples``."""
    kinds = ["dataset", "model", "loss", "probe", "quantity", "calibrator"]
    long = table.rename(columns=dict(zip(SURVIVAL_COLUMNS, SURVIVAL, strict=True)))
    kept = [*kinds, "seed", *({"seed_correction"} & set(long))]
    long = long.melt(kept, list(SURVIVAL), "distance", "share").astype({"distance": float})
    samples = table.groupby(kinds)["n"].sum().rename("samples").reset_index()
    return over_seeds(long, [*kinds, "distance"], "share", (0, 1)).merge(samples, on=kinds)


def equally_searched(shares: pd.DataFrame) -> pd.Series:
    """Return, for each `CELL` with certified and attacked shares, whether both are of equally many samples."""
    searched = shares[shares["probe"].isin(WORST) & (shares["quantity"] == "certainty")].groupby(CELL)
    return searched["samples"].nunique().eq(1)[searched["probe"].nunique().eq(len(WORST))]


def unequal_note(shares: pd.DataFrame) -> str:
    """Return a sentence if shares aren't comparable, since certified and attacked samples differ in number; else ""."""
    text = "Not shaded: where attacked and certified points differ in number, and so don't bound the same shares. "
    return "" if equally_searched(shares).all() else text


def probe_styles(probes: pd.Series) -> dict[str, Style]:
    """Return the styles of probes in order: first probes of the worst direction, then probes of random directions."""
    return {name: PROBES[name].style or RANDOM for name in labels.ordered(probes, WORST)}


def draw_survival(ax: Axes, rows: pd.DataFrame, styles: Mapping[str, Style]) -> None:
    """Draw the curves of a model, the region between its two bounds, and the null region of random rays."""
    plain = rows[(rows["calibrator"] == "none") & (rows["distance"] > 0)]
    nulls = {name: plain[plain["quantity"] == name].set_index("distance")["mean"] for name in NULLS}
    plain = plain[plain["quantity"] == "certainty"]
    curves = {name: plain[plain["probe"] == name] for name in styles if name in set(plain["probe"])}
    if all(len(null) for null in nulls.values()):
        low, high = nulls.values()
        ax.fill_between(low.index, low, high.reindex(low.index), color=AMBER, alpha=0.22, lw=0, zorder=1)
        for null in nulls.values():
            ax.plot(null.index, null, color=AMBER, ls=(0, (1.2, 1)), lw=1, zorder=2)
    if equally_searched(rows).any():
        low, high = (curves[name].set_index("distance")["mean"] for name in WORST)
        ax.fill_between(low.index, low, high.reindex(low.index), color=FAINT, alpha=0.5, lw=0, zorder=1)
    for name, curve in curves.items():
        style, at = styles[name], curve["distance"].to_numpy()
        ax.fill_between(at, curve["low"], curve["high"], color=style.color, alpha=0.1, lw=0, zorder=2)
        ax.plot(at, curve["mean"], color=style.color, ls=style.dash, lw=1.8, zorder=3)
    artists.log_ticks(ax, (0.01, 0.03, 0.1, 0.3, 1))
    ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
    ax.set(xlim=(0.01, 2), ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))


def survival_keys(styles: Mapping[str, Style], shares: pd.DataFrame) -> list[Line2D]:
    """Return legend entries for the probes and regions of all panels."""
    keys = [artists.key(labels.probe_label(n), s.color, ls=s.dash, lw=1.8) for n, s in styles.items()]
    if equally_searched(shares).any():
        keys.insert(2, artists.key("worst direction: between the two", FAINT, marker="s", ms=7, alpha=0.6, ls=""))
    if shares["quantity"].isin(NULLS).any():
        words = "random direction, if boundaries were flat"
        keys.append(artists.key(words, AMBER, marker="s", ms=7, alpha=0.35, ls=""))
    return keys
