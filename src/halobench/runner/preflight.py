"""Checks before any job: of earlier results, and of the claims."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError, describe_error
from halobench.core.spec_codec import to_json
from halobench.experiment.config_loader import ConfigError
from halobench.experiment.grid import Config
from halobench.experiment.jobs import expected_records
from halobench.runner.dry_run import Records
from halobench.storage import files, records

MOST_TOLD = 20  # lines on results that don't fit: there can be one a cell


def check_results(config: Config, results: Path, most: int = 1_000_000_000) -> None:
    """Check what an earlier run left for the experiments that will run.

    A file newer than its record may be damaged: Snakemake would take it for a new input, and delete what was computed
    from the sound one before the jobs that read it have failed. Files of more than `most` bytes are left to the stages
    that read them, as are older ones. A record must tell of the spec and code that Snakemake noted, else Snakemake
    takes for current what was made otherwise; where there is no note, it must tell of the present ones.

    Raises
    ------
    ConfigError
        A line for each record that can't be read or doesn't fit, and each file that isn't the one that its record
        tells of.
    """
    asked = expected_records(config, results)
    others = [results / f"{scope}tables/{name}" for scope in ("", "partial/") for name in config.run]
    tables = [folder / name for folder in others for name in ("aggregate.json", "claims.json")]
    notes, problems = Records(Path()), []
    for record in (*asked, *tables):
        try:
            written = record.stat().st_mtime_ns
            made = records.read_record(record, ["spec", "seed", "code"])
            for name, digest in made["outputs"].items():
                file = record.parent / name
                if file.is_file() and file.stat().st_mtime_ns > written and file.stat().st_size <= most:
                    files.check_sum(file, digest, f"the bytes that {record.name} records")
            if record in asked:
                _check_note(record, made, asked[record], notes)
        except (FileNotFoundError, NotADirectoryError):
            continue  # nothing was computed there yet
        except SpecError as error:
            problems.append(str(error))
    for scope, name in itertools.product(("", "partial/"), config.run):
        manifest = results / f"{scope}manifests/{name}.json"
        try:
            if manifest.exists():
                records.check_seal(manifest, files.read_json(manifest, ["cells"]))
        except SpecError as error:
            problems.append(str(error))
    if problems:
        told = problems[:MOST_TOLD]
        raise ConfigError([*told, f"and {len(problems) - len(told)} more"] if len(problems) > len(told) else told)


def _check_note(
    path: Path, made: Mapping[str, Any], asked: tuple[Any, int | None, dict[str, str]], notes: Records
) -> None:
    """Raise SpecError where Snakemake couldn't see that a record is of another spec, seed or code than it should."""
    spec, seed, code = asked
    if made["seed"] != seed:
        raise SpecError(str(path), f"a record of seed {made['seed']}", f"seed {seed} {files.REMEDY}")
    if notes.incomplete(str(path)):
        return  # it is made again anyway
    params = notes.params(str(path))
    if params is None:
        differ = [what for what, now in (("spec", spec), ("code", code)) if to_json(made[what]) != to_json(now)]
        expected = f"the present {' and '.join(differ)}, since Snakemake's own notes on it are lost {files.REMEDY}"
    else:
        differ = [what for what in ("spec", "code") if repr(to_json(made[what])) not in params]
        expected = f"the {' and '.join(differ)} that Snakemake noted when it was made {files.REMEDY}"
    if differ:
        raise SpecError(str(path), f"made with another {' and '.join(differ)}", expected)


def check_claims(path: Path | str) -> None:
    """Check the file of claims, which are judged only when all else is computed.

    Raises
    ------
    ConfigError
        With its first problem.
    """
    from halobench.results.claims import load_claims

    try:
        load_claims(path)
    except OSError as error:
        raise ConfigError([f"{path}: expected a file of claims ({describe_error(error)})"]) from None
    except SpecError as error:
        raise ConfigError([str(error)]) from None
