"""Define the results of `halobench.diagnose`."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halobench.calibration.calibrator import Calibrator
from halobench.calibration.calibrators.auto import AutoFit, Gain, listed
from halobench.calibration.diagnosis import text as words
from halobench.calibration.diagnosis.external_logits import read_samples
from halobench.calibration.diagnosis.parts import Confusion, Diagram, Shift, Temperature
from halobench.calibration.floor import Floor
from halobench.calibration.ladder import RepairLadder, Rung
from halobench.calibration.logit_tables import rows_of
from halobench.core.formatting import count, number

WIDTH = 80  # columns of the text
SHOWN = 10  # the largest number of classes whose names are all listed


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """The results of `diagnose`, which are printed as sentences.

    Attributes
    ----------
    samples, classes : int
        Numbers of validation samples and classes.
    effective : float
        The number of equally weighted samples, or groups, that the weighted ones count as; 0 unless weights differ.
    left_out : int
        The number of samples with a weight of 0.
    errors : float
        The number of wrongly predicted validation samples; with votes, the sum of the shares of votes against the
        prediction.
    votes : float
        The mean number of votes of a validation sample; 0 if samples have single labels.
    names : tuple of str
        Names of the classes.
    rarest : int
        The number of validation samples of the rarest class.
    unseen : tuple of int
        The classes without a validation label.
    unrelated : float
        The p-value of the hypothesis that labels fit the logits no better than in random order; NaN if there are fewer
        than 20 samples, or if all have the same probabilities or labels.
    temperature : Temperature
    auto : AutoFit
        The chosen calibrator, fitted to the validation samples: the recommended one, unless another was asked for.
    recommended : str
        The name of the recommended calibrator.
    resolution : float
        Half the width of the 95% interval of the best candidate's gain, in nats. Gains of about this size are the
        smallest that the validation samples can reveal. NaN if no candidate was tried.
    ladder : RepairLadder or None
        The repair ladder of the validation samples. If there is no ladder, `no_ladder` states the reason.
    confusions : tuple of Confusion
        The most frequent confusions.
    test_samples : int
        The number of test samples; 0 if there are none.
    shift : Shift or None
        The comparison of test with validation logits; None without test logits, or if weights differ.
    scores : dict of str to dict of str to Rung
        Scores on test samples, by calibrator and then by metric, with bootstrap intervals (NaN for ECE); empty without
        test labels. Calibrators are ``none``, ``exact``, ``paper`` if its T is positive, ``shrunk`` if T is shrunk, all
        candidates that could be tried, and the chosen calibrator.
    test_gains : dict of str to Gain
        Gains over uncalibrated logits on the test samples, by calibrator.
    better : dict of str to Gain
        Gains over the chosen calibrator on the test samples, by calibrator; a gain is clear if its `low` is above 0.
    reliability : dict of str to Diagram
        Reliability diagrams of ``none`` and the chosen calibrator on the test samples or, without test labels, on the
        validation samples, to which the calibrator was fitted; empty if only weighted samples have labels.
    floor : Floor or None
        The floor for probabilities, some of which are 0; None if none is 0.
    probabilities : bool
        Whether the samples were probabilities rather than logits.
    """

    samples: int
    classes: int
    effective: float
    left_out: int
    errors: float
    votes: float
    names: tuple[str, ...]
    rarest: int
    unseen: tuple[int, ...]
    unrelated: float
    temperature: Temperature
    auto: AutoFit
    recommended: str
    resolution: float
    ladder: RepairLadder | None
    no_ladder: str
    confusions: tuple[Confusion, ...]
    test_samples: int
    shift: Shift | None
    scores: dict[str, dict[str, Rung]]
    test_gains: dict[str, Gain]
    better: dict[str, Gain]
    reliability: dict[str, Diagram]
    floor: Floor | None = None
    probabilities: bool = False

    @property
    def calibrator(self) -> Calibrator:
        """Return the chosen calibrator, which knows the names of the classes and can be saved."""
        return dataclasses.replace(self.auto.calibrator, names=self.names)

    def predict_proba(self, logits: Any, probabilities: bool | None = None) -> np.ndarray:
        """Return the chosen calibrator's probabilities, float64 (n, k), for logits (n, k).

        `probabilities` says whether `logits` are probabilities; by default, they are what was diagnosed. Logits may be
        -inf if the calibrator is a temperature or adds a floor. Of a data frame with columns logit_NAME or
        probability_NAME, only these columns are used.
        """
        rows = rows_of(logits, self.names, self.probabilities if probabilities is None else probabilities)
        samples = read_samples(rows, classes=self.classes)
        return self.auto.predict_proba(np.ascontiguousarray(samples["logits"]))

    def save(self, path: Path | str) -> None:
        """Write the chosen calibrator to an .npz file, which `halobench.Calibrator.load` opens."""
        self.calibrator.save(path)

    def as_json(self) -> dict[str, Any]:
        """Return the results, without the calibrator's map, as plain data for JSON, with None for NaN and infinity."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        shown = ("chosen", "gain", "temperature", "temperature_gain", "candidates", "over_none", "nll", "reason")
        auto = {name: getattr(self.auto, name) for name in (*shown, "confidence", "mismatch", "near")}
        auto |= {"groups": self.auto.groups.count, "grouped": self.auto.groups.kind}
        return _plain(fields | {"auto": auto})

    def summary(self) -> str:
        """Return one line that describes the samples."""
        line = f"{count(self.classes, 'class', 'classes')}{self._order()}, {count(self.samples, 'validation sample')}"
        if self.auto.groups.kind == "given":
            line += f" in {count(self.auto.groups.count, 'group')}"
        if self.votes:
            line += f" with {number(self.votes, '.3g')} votes each on average"
        if self.left_out:
            line += f", without {self.left_out:,} of weight 0"
        if self.effective:
            line += f", which their weights make count as {number(self.effective, '.3g')}"
        if self.test_samples:
            line += f", {count(self.test_samples, 'test sample')}{'' if self.scores else ' without labels'}"
            line += ", which have no weights, and aren't compared with them" if self.effective else ""
        return line

    def _order(self) -> str:
        """Return the names of the classes in the order of the columns; "" if the names are only numbers."""
        if self.names == tuple(map(str, range(self.classes))):
            return ""
        first = self.names if self.classes <= SHOWN else (*self.names[: SHOWN - 1], "...", self.names[-1])
        return f" ({', '.join(first)}, in the order of the columns)"

    def answers(self) -> list[words.Answer]:
        """Return the answers in reading order."""
        unseen = listed([self.names[j] for j in self.unseen])
        choice = words.which_calibrator(
            *(self.auto, self.recommended, self.temperature, self.better, self.names, unseen, self.unrelated),
            self.floor,
        )
        if self.auto.mismatch:
            return [choice]
        independent = self.auto.groups.count
        left = words.what_is_left(self.ladder, self.no_ladder, independent, self.classes)
        if self.auto.groups.kind == "given" and (self.ladder or self.shift):
            left = dataclasses.replace(left, sentences=f"{left.sentences} {words.ONE_EACH}")
        answers = [
            choice,
            words.is_optimal(self.temperature, self.samples),
            left,
            words.which_confusions(self.confusions, self.names, self.errors, self.samples, bool(self.effective)),
            words.are_enough(
                *(
                    self.temperature,
                    self.auto,
                    self.recommended,
                    self.resolution,
                    self.samples,
                    self.classes,
                    self.errors,
                ),
                *(self.rarest, unseen),
            ),
        ]
        if self.floor:
            answers.append(words.about_zeros(self.floor, self.temperature, self.samples))
        return [*answers, words.are_alike(self.shift, self.names)] if self.shift else answers

    def __str__(self) -> str:
        """Return the summary, the answers and tables as text, whose sentences are wrapped at 80 columns."""
        lines = [*textwrap.wrap(self.summary(), WIDTH), ""]
        for answer in self.answers():
            lines += textwrap.wrap(f"{answer.question} {answer.short}", WIDTH)
            lines += [*textwrap.wrap(answer.sentences, WIDTH, initial_indent="  ", subsequent_indent="  "), ""]
        return "\n".join(lines + [line for table in self._tables() for line in (*table.lines(), "")]).rstrip()

    __repr__ = __str__

    def _tables(self) -> list[words.Table]:
        """Return the tables of candidates out of fold and, if test samples have labels, of their scores."""
        tables = [words.candidates_table(self.auto)]
        if self.scores and not self.auto.mismatch:
            tables.append(words.scores_table(self.scores, self.auto.chosen))
        return list(filter(None, tables))


def _plain(value: Any) -> Any:
    """Convert a value to plain data for JSON, which has neither NaN nor infinity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
