"""Put the parts of a diagnosis into words: each becomes a question, a short answer and supporting sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from halobench.calibration.calibrators.auto import NONE, SHRUNK, TEMPERATURES, TS, AutoFit, Gain
from halobench.calibration.calibrators.exact import TemperatureFit
from halobench.calibration.calibrators.shrunk import CLEAR_SCORE
from halobench.calibration.diagnosis.parts import LADDER_MOST, Confusion, Shift, Temperature
from halobench.calibration.floor import USUAL_FLOOR, Floor
from halobench.calibration.ladder import RepairLadder, Rung
from halobench.calibration.repair.columns import Mismatch
from halobench.calibration.repair.families import FAMILIES
from halobench.calibration.repair.groups import Groups
from halobench.calibration.repair.trials import BASE
from halobench.core.formatting import count, interval, number
from halobench.core.plugins import facts as plugin_facts

NEGLIGIBLE = 0.005  # nats: the largest cost of a temperature's sampling error at which there are enough samples
SMALL = 0.01  # nats: the size of gains that enough samples can reveal
WORSE = 0.02  # the largest increase in ECE that goes without a warning
# Wrong predictions; with fewer, the sampling error of T isn't known. In simulations of calibrated logits (250 samples,
# 10 classes), T cost more than NEGLIGIBLE in 39% or more of the cases with one wrong prediction, in 23% or more with
# two, and in 0% to 22% with four, although the estimate was below it in nearly all of them.
FEWEST_ERRORS = 5
FEW_ERRORS = 10  # wrong predictions; with fewer, little can be learned about errors
FEW_PER_CLASS = 10  # samples a class; with fewer, maps that distinguish the classes can't be learned
MOST_PAIRS = 12  # columns in another order that are listed
CLEAR = 0.05  # the largest p-value at which a confusion stands out, and labels clearly fit their logits
NAME = 24  # characters of a name in a table, so that its lines fit
RARE = 5  # samples of a class; with fewer, its confusions can't be learned
BLIND = (
    "These tests see only the logits, so they miss labels that change while the logits stay the same, and inputs whose "
    "logits look normal."
)
ONE_EACH = "The parts of the NLL, and the comparison with test samples, are computed from one sample per group."
PASS_GROUPS = {
    "copies": "Samples with nearly the same logits share labels far more often than elsewhere, as copies or augmented "
    "versions of a sample do, but also independent samples that the network wasn't trained for",
    "order": "Successive samples err alike more often than independent samples would, as rows of one patient or "
    "frames of one video do",
}
SUSPECTED = {
    "copies": "Samples seem to be copies, or the network is used on other data: if copies, pass groups.",
    "order": "Pass groups: samples seem to depend on each other.",
}
ASK = (
    "This assumes that samples are independent. Do several belong together, such as versions of an image or images of "
    "a patient? Then pass groups."
)
OTHERS = {"paper": "the paper's code", "copied": "gpleiss/temperature_scaling"}


@dataclass(frozen=True)
class Answer:
    """A question, its short answer, supporting sentences, and a flag that marks a warning."""

    question: str
    short: str
    sentences: str
    warning: bool = False


def label(calibrator: str) -> str:
    """Return a calibrator's title, such as "TS (optimal)" for ``exact``."""
    return plugin_facts.title("calibrators", calibrator)


def which_calibrator(
    auto: AutoFit,
    recommended: str,
    temperature: Temperature,
    better: Mapping[str, Gain],
    names: Sequence[str],
    unseen: str,
    unrelated: float,
    floor: Floor | None = None,
) -> Answer:
    """Say which calibrator to use, and why."""
    question = "Which calibrator should I use?"
    if auto.mismatch:
        saved = (
            f"You asked for {label(auto.chosen)}, which is fitted all the same." if auto.chosen != recommended else ""
        )
        return Answer(
            question, "A temperature, until predictions and labels match.", _mismatch(auto.mismatch, names, saved), True
        )
    asked = "" if auto.chosen == recommended else f"You asked for {label(auto.chosen)}. "
    richer = recommended not in TEMPERATURES
    if asked:
        gain = auto.gain
        short = f"{label(recommended)[:1].upper()}{label(recommended)[1:]} is recommended."
        sentences = (
            "" if math.isnan(gain.value) else f"Its gain over the temperature out of fold is {_with_interval(gain)}."
        )
        unsure = True
    elif richer:
        short, sentences, unsure = _richer(auto)
    else:
        short, sentences, unsure = _temperature(auto, temperature, floor)
    failed = [gain for gain in auto.candidates if math.isnan(gain.value) and gain.reason != auto.reason]
    reasons = "; ".join(f"{label(candidate.name)}, {candidate.reason}" for candidate in failed)
    few = 0 < auto.compared < auto.calibrator.samples
    ahead = _clearly_better(better)
    listed = "; ".join(f"{_named(gain.name)} by {_with_interval(gain)}" for gain in ahead[:3])
    dependent = auto.groups.kind in PASS_GROUPS
    sentences = _joined(
        ahead and f"On the test samples, these are better than {_named(auto.chosen)}: {listed} nats.",
        sentences,
        _groups(auto.groups),
        auto.near and _both(auto, auto.near),
        few and f"They were compared on {auto.compared:,} samples, drawn at random, which favours simple maps.",
        failed and f"Left out: {reasons}.",
        not auto.groups.kind and (richer or auto.chosen == TS) and ASK,
    )
    short = _joined(
        asked + short,
        ahead and f"But on the labelled test samples, {_named(ahead[0].name)} is better by {number(ahead[0].value)}.",
        unrelated > CLEAR
        and "Check that logits and labels are in the same order: "
        f"labels in random order would fit as well (p = {number(unrelated, '.2g')}).",
        dependent and SUSPECTED[auto.groups.kind],
        richer and unseen and f"It hasn't seen {unseen}.",
    )
    warning = bool(asked or ahead or dependent or unsure or (richer and unseen) or unrelated > CLEAR)
    return Answer(question, short, sentences, warning)


def _mismatch(pairs: Sequence[Mismatch], names: Sequence[str], saved: str) -> str:
    """Say which columns seem to belong to which classes; `saved`, unless empty, is the last sentence."""
    worst, listed = pairs[0], ", ".join(f"{names[p.column]} to {names[p.label]}" for p in pairs[:MOST_PAIRS])
    return _joined(
        f"Labels and columns seem to be in another order. Column {names[worst.column]} is right for "
        f"{count(worst.right, 'sample')}, but would be for {worst.matched:,} as the column of {names[worst.label]}.",
        f"By their predictions, columns belong to these labels: {listed}{', ...' if len(pairs) > MOST_PAIRS else ''}.",
        "Put the columns into the order of the labels' numbers or, if labels are names, name the columns' classes in "
        "order (names=...). Or are inputs mirrored, inverted or prepared otherwise than in training? If most labels "
        "really are wrong in this way, ask for a calibrator by its name.",
        saved or "Until then no other advice would hold, and only a temperature is fitted, which moves no prediction.",
    )


def _clearly_better(better: Mapping[str, Gain]) -> list[Gain]:
    """Return the gains above `NEGLIGIBLE` that have an interval above 0, the largest first.

    `better` holds gains over the chosen calibrator on the test samples.
    """
    return sorted(
        (gain for gain in better.values() if gain.low > 0 and gain.value > NEGLIGIBLE), key=lambda g: -g.value
    )


def _named(calibrator: str) -> str:
    return "leaving the logits as they are" if calibrator == NONE else label(calibrator)


def _temperature(auto: AutoFit, temperature: Temperature, floor: Floor | None) -> tuple[str, str, bool]:
    """Return the short answer if no richer map is recommended, supporting sentences, and False (no warning).

    If no temperature is recommended, the samples are said to be too few unless the best temperature's sampling error
    costs less than `NEGLIGIBLE`.
    """
    fit, gain = auto.temperature, auto.temperature_gain
    tried = [candidate for candidate in auto.candidates if not math.isnan(candidate.value)]
    reason = f"Richer maps weren't tried: {auto.reason}."
    if auto.near:
        reason = ""  # which `_both` states
    elif tried:
        best = max(tried, key=lambda candidate: candidate.value)
        reason = (
            f"None of {count(len(tried), 'richer map')} gains clearly on samples that it wasn't fitted to. The best, "
            f"{label(best.name)}, gains {_with_interval(best)} nats{' over the temperature' if fit.weight < 1 else ''}."
        )
    size, z = "large" if fit.z > 0 else "small", f"{number(abs(fit.z), '.2g')} standard errors"
    best_T = f"T = {number(temperature.exact.T, '.4g')}" if temperature.exact.beta < math.inf else "no T above 0"
    why = {
        NONE: "The samples don't show that a temperature would help: "
        + (f"the logits are too {size} by {z}, and {number(CLEAR_SCORE)} are needed. " if fit.z else "none is clear. ")
        + f"Fitted to these samples, {best_T} would be best, but it could do harm.",
        SHRUNK: f"The logits are too {size} by {z}, which leaves open by how much. The best on these samples, "
        f"{best_T}, is therefore shrunk towards 1.",
        TS: f"The logits are too {size} by {z}, so T is that of temperature scaling.",
    }[auto.chosen]
    known = auto.chosen != NONE and not math.isnan(gain.value)
    over_none = known and f"Out of fold, it gains {_with_interval(gain)} nats over leaving the logits as they are."
    none = "None: leave the logits as they are."
    if floor is not None and floor.added:
        none = f"No temperature, only the floor: p becomes {floor.formula}."
    elif not temperature.cost < NEGLIGIBLE:
        samples = count(auto.calibrator.samples, "sample")
        none = f"Not enough evidence ({samples}) to change the logits; {best_T} is the best guess."
    short = {
        NONE: none,
        SHRUNK: f"Divide the logits by T = {number(fit.T, '.4g')}, a temperature that is shrunk towards 1.",
        TS: "Keep temperature scaling.",
    }[auto.chosen]
    return short, _joined(why, over_none, reason), False


def _richer(auto: AutoFit) -> tuple[str, str, bool]:
    """Return the short answer for a richer map, supporting sentences, and whether it raises the ECE by over `WORSE`."""
    gain, base, own = auto.gain, auto.confidence[BASE], auto.confidence[auto.chosen]
    unsure = own.ece - base.ece > WORSE
    raw = next(candidate.value for candidate in auto.candidates if candidate.name == auto.chosen)
    sentences = _joined(
        "This is its gain in NLL over the temperature on samples that it wasn't fitted to: the 95% interval and the "
        f"best guess. The mean there is {number(raw)}; the guess is lower since only maps with a clear gain are "
        f"recommended. The temperature itself gains {_with_interval(auto.temperature_gain)} over leaving the logits as "
        f"they are. In configurations, the map is called {auto.chosen}.",
        f"Its accuracy there is {number(own.accuracy)} at a mean confidence of {number(own.mean)}, with an ECE of "
        f"{number(own.ece)} (the temperature: {number(base.accuracy)}, {number(base.mean)}, {number(base.ece)}).",
        unsure and "So if confidence in the predicted class is what matters, keep the temperature.",
    )
    name = label(auto.chosen)
    short = _joined(
        f"{name[:1].upper()}{name[1:]}: it gains {number(gain.low)} to {number(gain.high)} nats, probably about "
        f"{number(gain.value)}.",
        unsure and "But its confidence is further from its accuracy.",
    )
    return short, sentences, unsure


def _shares(votes: float) -> str:
    """Format a count of samples, or a sum of shares of votes, with one decimal unless it is whole."""
    return f"{votes:.0f}" if votes == round(votes) else number(votes, ".1f")


def _groups(groups: Groups) -> str:
    """Say how samples depend on each other; return "" if they count as independent."""
    if groups.kind in PASS_GROUPS:
        return (
            f"{PASS_GROUPS[groups.kind]}. If they depend on each other, the {len(groups.of):,} samples count as about "
            f"{groups.count:,}. If you know which belong together, pass groups; if you know that they are independent, "
            "say so (--independent, or independent=True)."
        )
    return f"The {groups.count:,} groups count as one sample each." if groups.kind else ""


def _both(auto: AutoFit, near: Gain) -> str:
    """Say what the choice would be for independent samples and for copies, with the gains of the former."""
    raw = next(gain.value for gain in auto.candidates if gain.name == near.name)
    return (
        f"If samples are independent: {label(near.name)}, which gains {number(raw)} out of fold; if copies: the "
        f"temperature. With near neighbours in one fold, the gain is {number(near.value)}, so "
        f"{'the latter' if auto.reason else 'the former'} is recommended."
    )


def about_zeros(floor: Floor, temperature: Temperature, samples: int) -> Answer:
    """Report the floor that is added to probabilities, and how much lower the NLL is than with `USUAL_FLOOR`."""
    question, nll = "What about probabilities of 0?", temperature.exact.nll
    zeros = f"{floor.zeros:,} of {samples:,} samples have a probability of 0, "
    if not floor.added:
        risk = "A new sample whose label has one would have an infinite NLL; to avoid this, state a floor."
        return Answer(question, "They stay, as no label has one.", f"{zeros}none of them for their label. {risk}")
    how = "f was fitted together with T" if floor.fitted else "f is the floor that you stated"
    sentences = _joined(
        zeros
        + (
            f"{floor.labels:,} of them for their label, so that the NLL is infinite."
            if floor.labels
            else "none of them for their label."
        ),
        f"{how}{f', to labels that are smoothed by 1/{samples + 1}' if floor.fitted else ''}, in (p + f)^s.",
        floor.fitted and "s keeps the mean confidence at T = 1 where it can.",
        f"With a floor of {USUAL_FLOOR:g}, as is usual, the NLL is {number(floor.before)} at T = 1 and "
        f"{number(floor.least)} at the best temperature; with this floor, the best temperature leaves {number(nll)}, "
        f"so the floor itself gains {number(floor.least - nll)}. The floor is part of the calibrator.",
        "What is called uncalibrated has it, too." if floor.always else "What is called uncalibrated has none.",
    )
    short = f"Before calibration, each probability p becomes {floor.formula}, divided by its row's sum."
    return Answer(question, short, sentences)


def is_optimal(temperature: Temperature, samples: int) -> Answer:
    """Report the best temperature, and where the fits of other programs end."""
    question, exact, nll = "Is my temperature optimal?", temperature.exact, temperature.nll
    if exact.separable:
        sentences = (
            "Every label has the largest logit of its sample, so the NLL keeps falling as T approaches 0. Programs "
            "that return a number here stopped early. Use more validation samples; until then, T is fitted to labels "
            f"that are smoothed by 1/{samples + 1}."
        )
        return Answer(question, "No finite temperature is.", sentences, warning=True)
    if exact.beta == 0 and math.isclose(nll, exact.nll, rel_tol=1e-12):
        short = "Every temperature gives the same NLL."
        return Answer(question, short, "The logits of each sample are equal.", warning=True)
    short, precision = "T is infinite.", "Equal probabilities are at least as good as any temperature."
    if exact.beta > 0:
        short = f"T = {number(exact.T, '.4g')}{', proved optimal' if exact.converged else ''}."
        precision = f"Its 95% interval is {interval(temperature.low, temperature.high, '.3g')}."
    saved = f"It lowers the NLL from {number(nll)} (T = 1) to {number(exact.nll)}."
    others = (_other_fit(OTHERS[name], fit, exact.nll) for name, fit in temperature.others.items() if name in OTHERS)
    majority = _of_majorities(temperature)
    return Answer(question, short, _joined(precision, saved, *others, majority))


def _of_majorities(temperature: Temperature) -> str:
    """Say what fitting the temperature to majorities of votes would cost; return "" if there are no votes."""
    if "majority" not in temperature.others:
        return ""
    fit, nll = temperature.others["majority"], temperature.exact.nll
    if math.isnan(fit.T):
        return "Fitted to majority labels, no finite T would be best: all predictions are the majority's."
    sharp = "too sharp" if fit.T < temperature.exact.T else "too flat"
    return (
        f"Fitted to majority labels, T would be {number(fit.T, '.4g')}, which is {sharp}: the votes' NLL would be "
        f"higher by {_nats(fit.nll - nll)} nats."
    )


def _other_fit(name: str, fit: TemperatureFit, optimum: float) -> str:
    """Say whether another program's fit reaches the optimum, or where it ends; return "" if it has no temperature."""
    if math.isnan(fit.T):
        return ""
    if fit.nll - optimum < 5e-4:
        return f"The fit of {name} reaches it."
    return f"The fit of {name} ends at T = {number(fit.T, '.3g')}, where the NLL is {number(fit.nll)}."


def what_is_left(ladder: RepairLadder | None, no_ladder: str, samples: int, classes: int) -> Answer:
    """Report the parts of the NLL, and what could remove each of them."""
    question = "What is left after the temperature, and what could remove it?"
    if ladder is None:
        return Answer(question, "Unknown.", f"The NLL can't be split into its parts, since {no_ladder}.")
    used = min(samples, LADDER_MOST)
    some = f" (of {LADDER_MOST:,} samples, drawn at random)" if samples > used else ""
    or_noise = "" if ladder.noise else ", or nothing can, since it includes label noise,"
    left_out = ", ".join(name for name in FAMILIES if name not in ladder.families)
    removed, more, left = ladder.temperature, ladder.richer_map, number(ladder.training.value)
    (low, high), per_class = ladder.training_range, used / classes
    span = f"at most {number(high)}" if number(low) == number(0) else f"between {number(low)} and {number(high)}"
    sentences = _joined(
        f"Of an NLL of {number(ladder.nll.value)}{some}, a temperature removes {_with_interval(removed)}, and a richer "
        f"map of the probabilities could remove at least {_with_interval(more)}. The best map found leaves {left}. "
        f"What only other training can remove{or_noise} is {span} (95% range).",
        low == 0 < high and "These samples don't rule out that a richer map removes all of it.",
        per_class < FEW_PER_CLASS
        and f"With {number(per_class, '.2g')} samples a class on average, maps learn little, and the range is vague.",
        ladder.noise and f"The known posterior's own noise is {number(ladder.noise.value)}.",
        ladder.map != "temperature"
        and f"The best of {len(ladder.families)} kinds of maps out of fold is {ladder.map}.",
        left_out
        and f"Left out, as too slow for {classes} classes: {left_out}; with these, a richer map may remove more.",
    )
    return Answer(question, f"A richer map at least {number(more.value)} nats, only other training {span}.", sentences)


def which_confusions(
    confusions: Sequence[Confusion], names: Sequence[str], errors: float, samples: int, weighted: bool = False
) -> Answer:
    """Report which classes are mistaken for which others."""
    question = "Which classes are confused?"
    if not confusions:
        return Answer(question, "None.", f"All {samples} predictions are right.")
    pairs = [
        f"{_shares(pair.count)} of {pair.of} predictions of {names[pair.predicted]} are labelled {names[pair.label]} "
        f"({number(pair.expected, '.1f')} expected after TS)"
        for pair in confusions
    ]
    short = f"Most often, {names[confusions[0].predicted]} is predicted for {names[confusions[0].label]}."
    chance = confusions[0].chance
    if len(names) > 2 and chance > CLEAR:
        short = "No pair of classes stands out."
    sentences = _joined(
        f"{_shares(errors)} of {samples} predictions are wrong. {'; '.join(pairs)}.",
        len(names) > 2
        and chance > CLEAR
        and "Counts like the largest would also be seen if wrong predictions were spread evenly over all pairs of "
        f"classes (p = {number(chance, '.2g')}).",
        weighted and "Samples are counted, and T is fitted for what is expected, without their weights.",
    )
    return Answer(question, short, sentences)


def are_enough(
    temperature: Temperature,
    auto: AutoFit,
    recommended: str,
    resolution: float,
    samples: int,
    classes: int,
    errors: float,
    rarest: int,
    unseen: str,
) -> Answer:
    """Say whether there are enough validation samples for a temperature and for a richer map."""
    question, cost = "Are there enough validation samples?", temperature.cost
    doubtful, few = errors < FEWEST_ERRORS, errors < FEW_ERRORS
    for_temperature = cost < NEGLIGIBLE and not doubtful
    for_map = resolution <= SMALL or recommended not in TEMPERATURES
    richer = f"yes; gains are known to within {_nats(resolution)} nats."
    if math.isnan(resolution):
        richer = f"none was tried: {auto.reason}."
    elif not for_map:
        ratio = resolution / SMALL
        needed = f"about {math.ceil(samples * ratio**2 / 100) * 100:,}" if ratio < 1e4 else "far more samples"
        richer = f"gains are only known to within {_nats(resolution)} nats; {SMALL} would take {needed}."
    scarce = for_map and samples < FEW_PER_CLASS * classes
    if scarce:
        per_class = number(samples / classes, ".2g")
        richer += f" But with {per_class} samples a class on average, no map can learn how most classes differ."
    errors = round(errors)
    wrong, yes = count(errors, "prediction is", "predictions are"), "yes" if for_temperature else "no"
    costs = (
        f"T rests on {count(errors, 'wrong prediction')}"
        if doubtful
        else f"its sampling error costs {_nats(cost)} nats on average"
    )
    sentences = _joined(
        unseen and f"No label is of {unseen}.",
        not math.isnan(cost) and f"For a temperature: {yes}; {costs}.",
        few and f"{f'Only {wrong}' if errors else 'No prediction is'} wrong: maps that learn from errors learn little.",
        f"For a richer map: {richer}",
        0 < rarest < RARE and f"The rarest class has {count(rarest, 'sample')}, too few to learn its confusions.",
    )
    if for_temperature and scarce:
        short = "Enough for a temperature, too few for maps that distinguish classes."
        return Answer(question, short, sentences, warning=True)
    if for_temperature and for_map and not few:
        return Answer(question, f"Yes{unseen and f', except for {unseen}'}.", sentences, warning=bool(unseen))
    too_few = "richer maps weren't tried" if math.isnan(resolution) else "too few for richer maps"
    short = f"Enough for a temperature; {too_few}." if for_temperature else "No."
    short = short if temperature.exact.beta else "Unknown, since no finite temperature is best."
    return Answer(question, short, sentences, warning=True)


def are_alike(shift: Shift, names: Sequence[str]) -> Answer:
    """Say whether the test samples look like the validation samples."""
    (a, b, p), (c, d, q) = shift.confidence, shift.classes
    sentences = (
        f"Mean confidence after TS is {number(a)} on validation and {number(b)} on test samples "
        f"(p = {number(p, '.2g')}); the share of predictions of {names[shift.changed]}, which changes most, is "
        f"{number(c)} and {number(d)} (p = {number(q, '.2g')} for all classes). "
    )
    worse = False
    if shift.nll is not None:
        val, test, p = shift.nll
        worse = p < 0.01
        p_value = "" if math.isnan(p) else f" (p = {number(p, '.2g')})"
        sentences += f"NLL after TS is {number(val)} and {number(test)}{p_value}. "
    short = "Yes, as far as logits show."
    if shift.seen:
        short = "No: what was fitted may not hold on them."
    elif worse:
        short = "Their logits do, but not their labels."
    question = "Do the test samples look like the validation samples?"
    return Answer(question, short, sentences + BLIND, warning=shift.seen or worse)


class Table(NamedTuple):
    """A table as text: its title, the headings of its columns, and its rows, whose first cell is a name."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def lines(self) -> list[str]:
        """Return the title and the rows, with aligned columns."""
        every = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*every, strict=True)]
        lines = [
            "  ".join([f"{name:{widths[0]}}", *map(str.rjust, cells, widths[1:])]).rstrip() for name, *cells in every
        ]
        return [self.title, *lines]


def candidates_table(auto: AutoFit) -> Table | None:
    """Return a table of calibrators' NLLs and gains out of fold; None if nothing was cross-fitted."""
    if math.isnan(auto.nll):
        return None
    over_temperature, tempered = {gain.name: gain for gain in auto.candidates}, auto.temperature.weight < 1
    headings = ["", "NLL", "gain over uncalibrated", *(["over the temperature"] if tempered else [])]
    rows = [(f"  {label(NONE)}", number(auto.nll), *[""] * (len(headings) - 2))]
    gains = [auto.temperature_gain, *auto.over_none]
    for gain in gains[auto.temperature_gain.name == NONE :]:
        mark = "* " if gain.name == auto.chosen else "  "
        own = over_temperature.get(gain.name)
        further = [_with_interval(own) if own else ""] if tempered else []
        rows.append((f"{mark}{label(gain.name)[:NAME]}", number(auto.nll - gain.value), _with_interval(gain), *further))
    return Table("On out-of-fold validation samples, with 95% intervals:", tuple(headings), rows)


def scores_table(scores: Mapping[str, Mapping[str, Rung]], chosen: str) -> Table:
    """Return a table of test scores, by calibrator and metric; the chosen calibrator is marked."""
    rows = [
        (
            f"{'* ' if name == chosen else '  '}{label(name)[:NAME]}",
            _with_interval(by_metric["nll"]),
            *(number(by_metric[key].value) for key in ("error", "brier", "ece")),
        )
        for name, by_metric in scores.items()
    ]
    title = "On the test samples, with 95% bootstrap intervals (* is what is saved):"
    return Table(title, ("", "NLL", "error", "Brier", "ECE"), rows)


def _joined(*sentences: object) -> str:
    """Join the sentences with spaces, leaving out any that are empty or false."""
    return " ".join(str(sentence) for sentence in sentences if sentence)


def _with_interval(part: Rung | Gain) -> str:
    largest = max((abs(each) for each in (part.value, part.low, part.high) if math.isfinite(each)), default=0.0)
    digits = ".3f" if largest < 100 else ".4g"
    return f"{number(part.value, digits)} {interval(part.low, part.high, digits)}"


def _nats(value: float) -> str:
    """Format a number of nats with three decimals, or with two significant digits if it is below about 0.01."""
    return number(value, ".3f" if abs(value) >= 0.00995 or value == 0 else ".2g")
