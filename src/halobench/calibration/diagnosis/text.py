"""Put a diagnosis into words: a question, a short answer and supporting sentences for each of its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from halobench.calibration.diagnosis.parts import LADDER_MOST, Confusion, Shift, Temperature
from halobench.calibration.floor import LEAST, Floor
from halobench.calibration.repair.auto import TS, AutoFit, Gain
from halobench.calibration.repair.families import SLOW
from halobench.calibration.repair.groups import Groups
from halobench.calibration.repair.ladder import RepairLadder, Rung
from halobench.calibration.temperature.temperature_scaling import TemperatureFit
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
CLEAR = 0.05  # the largest p-value at which a confusion stands out
RARE = 5  # samples of a class; with fewer, its confusions can't be learned
BLIND = (
    "These tests see only the logits, so they miss labels that change while the logits stay the same, and inputs whose "
    "logits look normal."
)
ONE_EACH = "The parts of the NLL, and the comparison with test samples, are computed from one sample per group."
OTHERS = {"paper": "the paper's code", "copied": "gpleiss/temperature_scaling"}


@dataclass(frozen=True)
class Answer:
    """A question, its short answer, supporting sentences, and a flag that marks a warning."""

    question: str
    short: str
    sentences: str
    warning: bool = False


def label(calibrator: str) -> str:
    """Return a calibrator's name in words."""
    return plugin_facts.title("calibrators", calibrator)


def which_calibrator(auto: AutoFit, test_gain: Gain | None, errors: int, unseen: str) -> Answer:
    """Say which calibrator to use, and why."""
    question = "Which calibrator should I use?"
    tried = [candidate for candidate in auto.candidates if not math.isnan(candidate.value)]
    failed = [gain for gain in auto.candidates if math.isnan(gain.value) and gain.reason != auto.reason]
    reasons = "; ".join(f"{label(candidate.name)}, {candidate.reason}" for candidate in failed)
    left_out = failed and f"Left out: {reasons}."
    few = 0 < auto.compared < auto.calibrator.samples
    compared = few and f"They were compared on {auto.compared:,} samples, drawn at random, which favours simple maps."
    if auto.chosen == TS:
        reason = f"Richer maps weren't tried: {auto.reason}."
        if tried:
            best = max(tried, key=lambda candidate: candidate.value)
            reason = (
                f"None of {count(len(tried), 'richer map')} gains clearly on samples that it wasn't fitted to. The "
                f"best, {label(best.name)}, gains {number(best.value)} nats {interval(best.low, best.high)}."
            )
        doubtful = 0 < errors < FEWEST_ERRORS
        rests = doubtful and f"But T rests on {_wrong(errors)}, and can do harm. Use more validation samples."
        sentences = _joined(rests, reason, compared, _groups(auto.groups), left_out)
        short = f"Keep temperature scaling{', or leave the logits as they are' if doubtful else ''}."
        return Answer(question, short, sentences, doubtful or auto.groups.kind == "copies")
    name, loses = label(auto.chosen), test_gain is not None and test_gain.high < 0
    gain, ts, own = auto.gain, auto.confidence[TS], auto.confidence[auto.chosen]
    unsure = own.ece - ts.ece > WORSE
    others = ", ".join(f"{label(other.name)} {number(other.value)}" for other in tried if other.name != auto.chosen)
    raw = next(other.value for other in tried if other.name == auto.chosen)
    sentences = _joined(
        "This is its gain in NLL over the best temperature on samples that it wasn't fitted to: the 95% interval and "
        f"the best guess. The mean there is {number(raw)}; the guess is lower since only maps with a clear gain are "
        f"recommended. In configurations, it is called {auto.chosen}.",
        gain.low < 0
        and "The interval includes losses, and isn't a bound: on new samples it may be worse than the "
        "best temperature.",
        f"Its accuracy there is {number(own.accuracy)} at a mean confidence of {number(own.mean)}, with an ECE of "
        f"{number(own.ece)} (the best temperature: {number(ts.accuracy)}, {number(ts.mean)}, {number(ts.ece)}).",
        unsure and "So if confidence in the predicted class is what matters, keep the temperature.",
        test_gain and f"On the test samples it gains {_with_interval(test_gain)}.",
        others and f"Others, not reduced: {others}.",
        compared,
        _groups(auto.groups),
        left_out,
    )
    short = _joined(
        f"{name[:1].upper()}{name[1:]}: it gains {number(gain.low)} to {number(gain.high)} nats, probably about "
        f"{number(gain.value)}{', but loses on the test samples' if loses else ''}.",
        unsure and "But its confidence is further from its accuracy.",
        unseen and f"It hasn't seen {unseen}.",
    )
    return Answer(question, short, sentences, loses or unsure or bool(unseen) or auto.groups.kind == "copies")


def _wrong(errors: int) -> str:
    return count(errors, "wrong prediction")


def _groups(groups: Groups) -> str:
    """Say which samples were kept together; "" if none were."""
    if groups.kind == "copies":
        return (
            "Many validation samples seem to be copies: their logits hardly differ from others', and unusual labels "
            f"agree. The {len(groups.of):,} samples were divided into {groups.count:,} groups, which count as one "
            f"sample each. {ONE_EACH} If you know which samples belong together, pass groups."
        )
    return f"The {groups.count:,} groups count as one sample each. {ONE_EACH}" if groups.kind else ""


def about_zeros(floor: Floor, temperature: Temperature, samples: int) -> Answer:
    """Report the floor that is added to probabilities, and how much of the gain in NLL is due to it."""
    how, nll = "fitted" if floor.fitted else "as you stated", temperature.exact.nll
    sentences = _joined(
        f"{floor.zeros:,} of {samples:,} samples have a probability of 0"
        f"{f', {floor.labels:,} of them for their label, so that the NLL is infinite' if floor.labels else ''}.",
        floor.fitted and f"The floor was fitted together with T, to labels that are smoothed by 1/{samples + 1}.",
        f"With a floor of {LEAST:g}, as is usual, the NLL is {number(floor.before)} at T = 1 and "
        f"{number(floor.least)} at the best temperature; with this floor, the best temperature leaves {number(nll)}, "
        f"so the floor itself gains {number(floor.least - nll)}. All other gains are with this floor, which is part of "
        "the calibrator.",
    )
    return Answer("What about probabilities of 0?", f"A floor of {floor.value:.2g}, {how}, is added to all.", sentences)


def is_optimal(temperature: Temperature, samples: int) -> Answer:
    """Report the best temperature, and how far the temperatures of other programs are from it."""
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
    others = (_other_fit(OTHERS[name], fit, exact.nll) for name, fit in temperature.others.items())
    return Answer(question, short, _joined(precision, saved, *others))


def _other_fit(name: str, fit: TemperatureFit, optimum: float) -> str:
    """Say at which temperature another program's fit ends, if at a number, and the NLL there."""
    if math.isnan(fit.T):
        return ""
    if fit.nll - optimum < 5e-4:
        return f"The fit of {name} reaches it."
    return f"The fit of {name} ends at T = {number(fit.T, '.3g')}, where the NLL is {number(fit.nll)}."


def what_is_left(ladder: RepairLadder | None, no_ladder: str, samples: int, classes: int) -> Answer:
    """Report the parts of the NLL, and what could remove each of them."""
    question = "What is left, and what could remove it?"
    if ladder is None:
        return Answer(question, "Unknown.", f"The NLL can't be split into its parts, since {no_ladder}.")
    used = min(samples, LADDER_MOST)
    some = f" (of {LADDER_MOST:,} samples, drawn at random)" if samples > used else ""
    or_noise = "" if ladder.noise else ", or nothing can, since it includes label noise,"
    left_out = ", ".join(name for name in SLOW if name not in ladder.families)
    removed, more, left = ladder.temperature, ladder.richer_map, number(ladder.training.value)
    (low, high), per_class = ladder.training_range, used / classes
    span = f"between {number(low)} and {number(high)}"
    sentences = _joined(
        f"Of an NLL of {number(ladder.nll.value)}{some}, a temperature removes {_with_interval(removed)}, and a richer "
        f"map of the probabilities could remove at least {_with_interval(more)}. The best map found leaves {left}. "
        f"What only other training can remove{or_noise} is {span} (95% range).",
        low == 0 and high > 0 and "These samples don't rule out that a richer map removes all of it.",
        per_class < FEW_PER_CLASS
        and f"With {number(per_class, '.2g')} samples a class on average, maps learn little, and the range is vague.",
        ladder.noise and f"The known posterior's own noise is {number(ladder.noise.value)}.",
        ladder.map != "temperature"
        and f"The best of {len(ladder.families)} kinds of maps out of fold is {ladder.map}.",
        left_out
        and f"Left out, as too slow for {classes} classes: {left_out}; with these, a richer map may remove more.",
    )
    parts = f"A temperature {number(removed.value)}, a richer map at least {number(more.value)}"
    return Answer(question, f"{parts}, only other training {span}.", sentences)


def which_confusions(confusions: Sequence[Confusion], names: Sequence[str], errors: int, samples: int) -> Answer:
    """Report which classes are mistaken for which others."""
    question = "Which classes are confused?"
    if not confusions:
        return Answer(question, "None.", f"All {samples} predictions are right.")
    pairs = [
        f"{pair.count} of {pair.of} predictions of {names[pair.predicted]} are labelled {names[pair.label]} "
        f"({number(pair.expected, '.1f')} expected after TS)"
        for pair in confusions
    ]
    short = f"Most often, {names[confusions[0].predicted]} is predicted for {names[confusions[0].label]}."
    chance = confusions[0].chance
    if len(names) > 2 and chance > CLEAR:
        short = "No pair of classes stands out."
    sentences = _joined(
        f"{errors} of {samples} predictions are wrong. {'; '.join(pairs)}.",
        len(names) > 2
        and chance > CLEAR
        and "Counts like the largest would also be seen if wrong predictions were spread evenly over all pairs of "
        f"classes (p = {number(chance, '.2g')}).",
    )
    return Answer(question, short, sentences)


def are_enough(
    temperature: Temperature,
    auto: AutoFit,
    resolution: float,
    samples: int,
    classes: int,
    errors: int,
    rarest: int,
    unseen: str,
) -> Answer:
    """Say whether there are enough validation samples for a temperature and for a richer map."""
    question, cost = "Are there enough validation samples?", temperature.cost
    doubtful, few = errors < FEWEST_ERRORS, errors < FEW_ERRORS
    for_temperature = cost < NEGLIGIBLE and not doubtful
    for_map = resolution <= SMALL or (auto.chosen != TS and auto.gain.low > 0)
    richer = f"yes; gains are known to within {_nats(resolution)} nats."
    if math.isnan(resolution):
        richer = "no candidate was tried."
    elif not for_map:
        needed = math.ceil(samples * (resolution / SMALL) ** 2 / 100) * 100
        richer = f"gains are only known to within {_nats(resolution)} nats; {SMALL} would take about {needed:,}."
    scarce = for_map and samples < FEW_PER_CLASS * classes
    if scarce:
        per_class = number(samples / classes, ".2g")
        richer += f" But with {per_class} samples a class on average, no map can learn how most classes differ."
    wrong, yes = count(errors, "prediction is", "predictions are"), "yes" if for_temperature else "no"
    costs = f"T rests on {_wrong(errors)}" if doubtful else f"its sampling error costs {_nats(cost)} nats on average"
    sentences = _joined(
        unseen and f"No label is of {unseen}.",
        not math.isnan(cost) and f"For a temperature: {yes}; {costs}.",
        few and f"Only {wrong} wrong: maps that learn from errors have little to learn.",
        f"For a richer map: {richer}",
        0 < rarest < RARE and f"The rarest class has {count(rarest, 'sample')}, too few to learn its confusions.",
    )
    if for_temperature and scarce:
        short = "Enough for a temperature, too few for maps that distinguish classes."
        return Answer(question, short, sentences, warning=True)
    if for_temperature and for_map and not few:
        return Answer(question, f"Yes{unseen and f', except for {unseen}'}.", sentences, warning=bool(unseen))
    short = "Enough for a temperature, too few for richer maps." if for_temperature else "No."
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


def scores_table(scores: Mapping[str, Mapping[str, Rung]]) -> list[str]:
    """Return the lines of a table of test scores, by calibrator and metric."""
    lines = ["On the test samples, with 95% bootstrap intervals:"]
    lines.append(f"{'':28}{'NLL':>22}{'error':>16}{'Brier':>7}{'ECE':>7}")
    for name, by_metric in scores.items():
        error, brier, ece = (number(by_metric[key].value) for key in ("error", "brier", "ece"))
        lines.append(f"{label(name)[:28]:28}{_with_interval(by_metric['nll']):>22}{error:>16}{brier:>7}{ece:>7}")
    return lines


def _joined(*sentences: object) -> str:
    """Join the sentences, leaving out any whose condition isn't met."""
    return " ".join(str(sentence) for sentence in sentences if sentence)


def _with_interval(part: Rung | Gain) -> str:
    return f"{number(part.value)} {interval(part.low, part.high)}"


def _nats(value: float) -> str:
    """Format a number of nats with three decimals, or with two digits if it is small."""
    return number(value, ".3f" if abs(value) >= 0.00995 or value == 0 else ".2g")
