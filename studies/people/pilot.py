"""Find recipes with which cross-entropy fits people's labels of block 0, for networks of the study.

It uses the training and validation images of block 0 alone, and scores nothing. Each line is a training: seconds,
accuracy on the labels used in training, and validation NLL before and after TS, in nats.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from halobench import fit_temperature, nll
from halobench.core.specs.codec import parse
from halobench.core.specs.data import DatasetSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data import sources, splits
from halobench.training.train_cell import train_cell

HERE = Path(__file__).parent
LOSSES = {"cross_entropy": LossSpec("cross_entropy"), "mixup2": LossSpec("mixup", {"points": 2})}


def main() -> None:
    """Train the models named as arguments (all by default) of ``people.yaml``; add to pilot.csv."""
    config = yaml.safe_load((HERE / "people.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        sources.write_source(SourceSpec("studies.people.blocks:load"), Path(folder))
        data = splits.load_data(Path(folder), DatasetSpec("people", 5000, 1000, 4000), seed=0)
    seen = {name: split for name, split in data.splits.items() if name != "test"}
    data = dataclasses.replace(data, splits=seen)
    path = HERE / "pilot.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame()
    for name in sys.argv[1:] or config["models"]:
        entry = dict(config["models"][name])
        train = parse(TrainSpec, config["train"] | entry.pop("recipe", {}))
        model = parse(ModelSpec, {"name": entry.pop("name"), **entry})
        for loss, spec in LOSSES.items():
            cell = train_cell(data, model, spec, train, 0, log=lambda _: None)
            logits, labels = cell.logits["val.logits"], data.splits["val"].labels
            fit = fit_temperature(logits, labels)
            row = {"model": name, "loss": loss, "epochs": train.epochs, "lr": train.lr}
            row |= {"parameters": cell.facts["parameters"], "seconds": round(cell.facts["train_seconds"], 1)}
            row |= {"train_accuracy": cell.facts["train_accuracy"], "temperature": round(fit.T, 3)}
            row |= {"nll": round(nll(logits, labels), 4), "nll_after_ts": round(nll(logits / fit.T, labels), 4)}
            print(row, flush=True)
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            table.to_csv(path, index=False)


if __name__ == "__main__":
    main()
