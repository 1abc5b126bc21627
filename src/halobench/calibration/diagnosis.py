"""The results of `halobench.diagnose`, and their words: a question, a short answer and sentences for each part."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from halobench.calibration.arrays import as_rows
from halobench.calibration.auto import TS, AutoFit, Gain
from halobench.calibration.external_logits import has_classes, read_samples, table_logits
from halobench.calibration.repair import RepairLadder, Rung
from halobench.calibration.sample_scores import softmax
from halobench.calibration.temperature_scaling import TemperatureFit
from halobench.core import facts
from halobench.core.formatting import count, interval, number

LEVEL = 0.01  # of the two tests for a shift together
WIDTH = 80  # of the text
NEGLIGIBLE = 0.005  # nats: what a temperature's sampling error may cost if there are enough samples
LADDER_MOST = 2000  # the number of samples, drawn at random, from which the repair ladder is computed if there are more
SMALL = 0.01  # nats: the size of gains that enough samples show
FEW_ERRORS = 10  # wrong predictions; with fewer, little can be learned about errors
BLIND = (
    "These tests see only the logits: not labels that change while the logits stay the same, nor inputs whose logits "
    "look as usual."
)
OTHERS = {"paper": "the paper's code", "copied": "gpleiss/temperature_scaling"}


@dataclass(frozen=True)
class Temperature:
    """What is known about the temperature.

    Attributes
    ----------
    exact : TemperatureFit
        The optimum on the validation samples.
    low, high : float
        Its 95% interval; NaN if there is no finite optimum.
    cost : float
        How much its sampling error adds to the NLL of new samples on average, in nats.
    nll : float
        NLL of the validation samples at T = 1.
    others : dict of str to TemperatureFit
        What other programs get: ``paper``, the paper's code, and ``copied``, the often copied code of Guo et al.
    curve : tuple of (float, float)
        The NLL of the validation samples by temperature, around all of these; empty if there is no finite optimum.
    """

    exact: TemperatureFit
    low: float
    high: float
    cost: float
    nll: float
    others: dict[str, TemperatureFit]
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Confusion:
    """How many of the samples with a predicted class have another label, and how many of them TS expects to."""

    predicted: int
    label: int
    count: int
    of: int
    expected: float


@dataclass(frozen=True)
class Shift:
    """A comparison of test logits with validation logits.

    Attributes
    ----------
    confidence : (float, float, float)
        Mean confidence after TS on validation and test samples, and the p-value of the Kolmogorov-Smirnov test.
    classes : (float, float, float)
        The share of predictions for the class `changed` on validation and test samples, and the p-value of the
        chi-squared test of the counts of all predicted classes.
    changed : int
        The class whose share of predictions differs most.
    nll : (float, float, float) or None
        NLL after TS on validation and test samples, and the p-value of Welch's test; None without test labels.
    """

    confidence: tuple[float, float, float]
    classes: tuple[float, float, float]
    changed: int
    nll: tuple[float, float, float] | None

    @property
    def seen(self) -> bool:
        """Return True if a test of the logits is significant, by Bonferroni's correction."""
        return min(self.confidence[2], self.classes[2]) < LEVEL / 2


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The results of `diagnose`, which print as sentences.

    Attributes
    ----------
    samples, classes, errors : int
        Numbers of validation samples, of classes, and of validation samples whose predicted class isn't the label.
    names : tuple of str
        Names of the classes.
    rarest : int
        The number of validation samples of the rarest class.
    unseen : tuple of int
        The classes that no validation label names.
    temperature : Temperature
    auto : AutoFit
        The chosen calibrator, fitted to the validation samples.
    resolution : float
        Half of the 95% interval for the gain of the best candidate: the size of the gains that these samples can show.
        NaN if none was tried.
    ladder : RepairLadder or None
        Of the validation samples. `no_ladder` is the reason if there is none.
    confusions : tuple of Confusion
        The most frequent.
    test_samples : int
        0 if there are none.
    shift : Shift or None
        None without test logits.
    scores : dict of str to dict of str to Rung
        By calibrator (``none``, ``paper``, ``exact`` and the chosen one), then by metric, on test samples with their
        bootstrap intervals (NaN for ECE); empty without test labels.
    test_gain : Gain or None
        The chosen calibrator's gain over TS on the test samples.
    """

    samples: int
    classes: int
    errors: int
    names: tuple[str, ...]
    rarest: int
    unseen: tuple[int, ...]
    temperature: Temperature
    auto: AutoFit
    resolution: float
    ladder: RepairLadder | None
    no_ladder: str
    confusions: tuple[Confusion, ...]
    test_samples: int
    shift: Shift | None
    scores: dict[str, dict[str, Rung]]
    test_gain: Gain | None

    def predict_proba(self, logits: Any) -> np.ndarray:
        """Return the chosen calibrator's probabilities (n, k), float64, for logits (n, k); -inf only if TS was kept.

        Of a data frame with columns logit_NAME or probability_NAME, as `diagnose` reads it, only these are used.
        """
        given = table_logits(logits, self.names) if has_classes(logits) else {"logits": as_rows(logits)}
        samples = read_samples({f"test_{kind}": rows for kind, rows in given.items() if kind != "posterior"}, "test_")
        logits = self.auto.checked(np.ascontiguousarray(samples["logits"]))
        transform = self.auto.calibrator.transform
        if self.auto.chosen == TS and transform is not None:
            return softmax(transform(logits))
        return self.auto.predict_proba(logits)

    def as_json(self) -> dict[str, Any]:
        """Return all numbers as plain data; those that aren't finite are None."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        chosen = fields.pop("auto")
        shown = {"chosen": chosen.chosen, "gain": chosen.gain, "candidates": chosen.candidates, "reason": chosen.reason}
        return _plain(fields | {"auto": shown})

    def __str__(self) -> str:
        return text(self)


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


# Words ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A question, its short answer, sentences, and whether the answer is a warning."""

    question: str
    short: str
    sentences: str
    warning: bool = False


def answers(diagnosis: Diagnosis) -> list[Answer]:
    """Return the answers of a diagnosis, in the order in which they are read."""
    parts = [_calibrator(diagnosis), _temperature(diagnosis), _left(diagnosis), _confused(diagnosis)]
    parts.append(_enough(diagnosis))
    return [*parts, _shifted(diagnosis)] if diagnosis.shift else parts


def text(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as text that fits into 80 columns."""
    lines = [summary(diagnosis), ""]
    for answer in answers(diagnosis):
        lines += textwrap.wrap(f"{answer.question} {answer.short}", WIDTH)
        lines += [*textwrap.wrap(answer.sentences, WIDTH, initial_indent="  ", subsequent_indent="  "), ""]
    return "\n".join([*lines, *_table(diagnosis)]).rstrip()


def summary(diagnosis: Diagnosis) -> str:
    """Return one line about the samples."""
    line = f"{count(diagnosis.classes, 'class', 'classes')}, {count(diagnosis.samples, 'validation sample')}"
    if diagnosis.test_samples:
        line += f", {count(diagnosis.test_samples, 'test sample')}{'' if diagnosis.scores else ' without labels'}"
    return line


def label(name: str) -> str:
    """Return a calibrator's name in words."""
    return facts.title("calibrators", name)


def nats(value: float) -> str:
    """Return a number of nats with three decimals, or two digits if it is small."""
    return number(value, ".3f" if abs(value) >= 0.00995 or value == 0 else ".2g")


def _calibrator(diagnosis: Diagnosis) -> Answer:
    question, chosen, gain = "Which calibrator should I use?", diagnosis.auto, diagnosis.auto.gain
    tried = [each for each in chosen.candidates if not math.isnan(each.value)]
    failed = [each for each in chosen.candidates if math.isnan(each.value) and each.reason != chosen.reason]
    left_out = " Left out: " + "; ".join(f"{label(each.name)}, {each.reason}" for each in failed) + "."
    if chosen.chosen == TS:
        reason = f"Richer maps weren't tried: {chosen.reason}."
        if tried:
            best = max(tried, key=lambda each: each.value)
            reason = (
                f"None of {count(len(tried), 'richer map')} gains clearly on samples that "
                f"it wasn't fitted to. The best, {label(best.name)}, gains {number(best.value)} nats "
                f"{interval(best.low, best.high)}."
            )
        return Answer(question, "Keep temperature scaling.", reason + (left_out if failed else ""))
    said = (
        "This is its gain in NLL over the best temperature on samples that it wasn't fitted to. The 95% interval takes "
        f"into account that it was chosen. In configurations, it is called {chosen.chosen}. "
    )
    if gain.low < 0:
        said += f"On new samples it may be worse than the best temperature, by up to {number(-gain.low)}. "
    if diagnosis.test_gain:
        test = diagnosis.test_gain
        said += f"On the test samples it gains {number(test.value)} {interval(test.low, test.high)}. "
    others = [each for each in tried if each.name != chosen.chosen]
    if others:
        said += "Others: " + ", ".join(f"{label(each.name)} {number(each.value)}" for each in others) + "."
    name, loses = label(chosen.chosen), diagnosis.test_gain is not None and diagnosis.test_gain.high < 0
    short = f"{name[:1].upper()}{name[1:]}: it gains {number(gain.value)} nats {interval(gain.low, gain.high)}"
    short += ", but loses on the test samples." if loses else "."
    if diagnosis.unseen:
        short += f" It hasn't seen {_unseen(diagnosis)}."
    return Answer(question, short, said.rstrip() + (left_out if failed else ""), loses or bool(diagnosis.unseen))


def _unseen(diagnosis: Diagnosis) -> str:
    """Name the classes that no validation label names, at most three of them."""
    names = [diagnosis.names[j] for j in diagnosis.unseen]
    if len(names) > 3:
        return f"{len(names)} of the classes"
    return f"{'class' if len(names) == 1 else 'the classes'} {' and '.join(names)}"


def _temperature(diagnosis: Diagnosis) -> Answer:
    question, fit = "Is my temperature optimal?", diagnosis.temperature
    exact = fit.exact
    if exact.separable:
        return Answer(
            question,
            "No finite temperature is.",
            "Every label has the largest logit of its sample, so the NLL keeps falling as T approaches 0. Programs "
            "that return a number here stopped early. Use more validation samples; until then, T is fitted to labels "
            f"that are smoothed by 1/{diagnosis.samples + 1}.",
            True,
        )
    if exact.beta == 0 and math.isclose(fit.nll, exact.nll, rel_tol=1e-12):
        return Answer(question, "Every temperature gives the same NLL.", "The logits of each sample are equal.", True)
    if exact.beta == 0:
        short, said = "T is infinite.", "No temperature is better than the same probability for every class. "
    else:
        proof = ", proved optimal" if exact.converged else ""
        short = f"T = {number(exact.T, '.4g')}{proof}."
        said = f"Its 95% interval is {interval(fit.low, fit.high, '.3g')}. "
    saved = fit.nll - exact.nll
    said += f"It lowers the NLL from {number(fit.nll)} (T = 1) to {number(exact.nll)}. "
    for name, other in fit.others.items():
        cost = other.nll - exact.nll
        if math.isnan(other.T):
            continue
        lost = f" and leaves {nats(cost)} of these {nats(saved)} nats" if cost < saved else f", {nats(cost)} nats worse"
        end = "reaches it" if cost < 5e-4 else f"ends at T = {number(other.T, '.3g')}{lost}"
        said += f"The fit of {OTHERS[name]} {end}. "
    return Answer(question, short, said.rstrip())


def _left(diagnosis: Diagnosis) -> Answer:
    question, ladder = "What is left, and who could remove it?", diagnosis.ladder
    if ladder is None:
        return Answer(question, "Unknown.", f"The NLL can't be split into its parts, since {diagnosis.no_ladder}.")
    rest = "Only other training can remove {}" + ("" if ladder.noise else " (or nothing can: it includes label noise)")
    parts = {"temperature": "a temperature removes {}", "richer_map": "a richer map of the logits could remove {}"}
    said = []
    for name, words in parts.items():
        rung = getattr(ladder, name)
        said.append(words.format(f"{number(rung.value)} {interval(rung.low, rung.high)}"))
    rung = ladder.training
    some = f" (of {LADDER_MOST:,} samples, drawn at random)" if diagnosis.samples > LADDER_MOST else ""
    sentence = f"Of an NLL of {number(ladder.nll.value)}{some}, {', '.join(said)}. "
    sentence += rest.format(f"{number(rung.value)} {interval(rung.low, rung.high)}") + ". "
    if ladder.noise:
        sentence += f"The known posterior's own noise is {number(ladder.noise.value)}. "
    if ladder.map != "temperature":
        sentence += f"The best of seven kinds of maps out of fold is {ladder.map}."
    shares = [number(getattr(ladder, name).value) for name in ("temperature", "richer_map", "training")]
    short = "A temperature {}, a richer map {}, training at most {}.".format(*shares)
    return Answer(question, short, sentence.rstrip())


def _confused(diagnosis: Diagnosis) -> Answer:
    question = "Which classes are confused?"
    if not diagnosis.confusions:
        return Answer(question, "None.", f"All {diagnosis.samples} predictions are right.")
    name = diagnosis.names
    said = [
        f"{each.count} of {each.of} predictions of {name[each.predicted]} are labelled {name[each.label]} "
        f"({number(each.expected, '.1f')} expected after TS)"
        for each in diagnosis.confusions
    ]
    first = diagnosis.confusions[0]
    short = f"Most often, {name[first.predicted]} is predicted for {name[first.label]}."
    wrong = f"{diagnosis.errors} of {diagnosis.samples} predictions are wrong. "
    return Answer(question, short, wrong + "; ".join(said) + ".")


def _enough(diagnosis: Diagnosis) -> Answer:
    question, half = "Are there enough validation samples?", diagnosis.resolution
    cost, few = diagnosis.temperature.cost, diagnosis.errors < FEW_ERRORS
    enough = cost < NEGLIGIBLE
    said = f"No label is of {_unseen(diagnosis)}. " if diagnosis.unseen else ""
    if not math.isnan(cost):
        said += (
            f"For a temperature: {'yes' if enough else 'no'}; its sampling error costs {nats(cost)} nats on average. "
        )
    if few:
        wrong = count(diagnosis.errors, "prediction is", "predictions are")
        said += f"Only {wrong} wrong: maps that learn from errors have little to learn. "
    clear = diagnosis.auto.chosen != TS and diagnosis.auto.gain.low > 0
    settled = clear or half <= SMALL
    if math.isnan(half):
        said += "For a richer map: no candidate was tried. "
    elif settled:
        said += f"For a richer map: yes; gains are known within {nats(half)} nats. "
    else:
        needed = math.ceil(diagnosis.samples * (half / SMALL) ** 2 / 100) * 100
        said += (
            f"For a richer map: gains are only known within {nats(half)} nats; {SMALL} would take about {needed:,}. "
        )
    if 0 < diagnosis.rarest < 5:
        said += f"The rarest class has {count(diagnosis.rarest, 'sample')}, too few to learn its confusions. "
    if enough and settled and not few:
        short = f"Yes, except for {_unseen(diagnosis)}." if diagnosis.unseen else "Yes."
        return Answer(question, short, said.rstrip(), bool(diagnosis.unseen))
    short = "For a temperature, but hardly for more." if enough else "No."
    if diagnosis.temperature.exact.beta == 0:
        short = "Unknown, since no finite temperature is best."
    return Answer(question, short, said.rstrip(), True)


def _shifted(diagnosis: Diagnosis) -> Answer:
    question, shift = "Do the test samples look like the validation samples?", diagnosis.shift
    assert shift is not None
    (a, b, p), (c, d, q) = shift.confidence, shift.classes
    name = diagnosis.names[shift.changed]
    said = (
        f"Mean confidence after TS is {number(a)} on validation and {number(b)} on test samples "
        f"(p = {number(p, '.2g')}); the share of predictions of {name}, which changes most, is {number(c)} and "
        f"{number(d)} (p = {number(q, '.2g')} for all classes). "
    )
    worse = shift.nll is not None and shift.nll[2] < 0.01
    if shift.nll is not None:
        said += f"NLL after TS is {number(shift.nll[0])} and {number(shift.nll[1])}"
        said += f" (p = {number(shift.nll[2], '.2g')}). " if not math.isnan(shift.nll[2]) else ". "
    if shift.seen:
        return Answer(question, "No: what was fitted may not hold on them.", said + BLIND, True)
    if worse:
        return Answer(question, "Their logits do, but not their labels.", said + BLIND, True)
    return Answer(question, "Yes, as far as logits show.", said + BLIND)


def _table(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the lines of a table of test scores."""
    if not diagnosis.scores:
        return
    yield "On the test samples, with 95% bootstrap intervals:"
    yield f"{'':28}{'NLL':>22}{'error':>16}{'Brier':>7}{'ECE':>7}"
    for name, scores in diagnosis.scores.items():
        nll = scores["nll"]
        shown = f"{number(nll.value)} {interval(nll.low, nll.high)}"
        others = [number(scores[key].value) for key in ("error", "brier", "ece")]
        yield f"{label(name)[:28]:28}{shown:>22}{others[0]:>16}{others[1]:>7}{others[2]:>7}"
