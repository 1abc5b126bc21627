"""Generate pages of the documentation from what they describe: specs, the command line, the report's captions.

``python docs/hooks.py`` writes those that are tracked, docs/configuration.md and docs/reading.md, so that they can be
read next to the sources as well, and the schema by which editors check and complete config.yaml. The others are
generated when the site is built.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SCHEMA = "workflow/schemas/config.schema.yaml"
SHIM = "https://unpkg.com/iframe-worker/shim"  # which the theme asks for; docs/iframe-worker.js is a copy
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration, as the classes of its sections say."""
    from halobench.core.spec_codec import adapter
    from halobench.experiment.grid import Config

    made = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | untitled(adapter(Config).json_schema())
    for part in made["$defs"].values():
        if part["properties"].pop("options", None):  # of a plug-in: every key that is not the class's own
            part["additionalProperties"] = True
    for section in made["properties"].values():
        if "patternProperties" in section:  # of names
            section["additionalProperties"] = False
    made["$defs"]["ProbeEntry"].pop("required")  # by default, kind is the probe's name
    return made | {"title": "halobench configuration"}


def untitled(node: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names."""
    if isinstance(node, dict):
        return {key: untitled(value) for key, value in node.items() if key != "title"}
    return [untitled(value) for value in node] if isinstance(node, list) else node


def resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node of the schema with its reference followed; keys next to the reference win."""
    if "$ref" not in node:
        return dict(node)
    target: Any = schema
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return resolved(target, schema) | {key: value for key, value in node.items() if key != "$ref"}


def values(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return the values that a key takes, in words."""
    if "anyOf" in node:
        return " or ".join(values(resolved(each, schema), schema) for each in node["anyOf"])
    if "enum" in node:
        return ", ".join(f"`{json.dumps(value) if value is None else value}`" for value in node["enum"])
    kind = node.get("type", "")
    if kind == "array":
        return f"list of {values(resolved(node['items'], schema), schema)}"
    if "examples" in node:
        return ", ".join(f"`{value}`" for value in node["examples"]) + " or another name"
    bounds = [bound.format(node[key]) for key, bound in BOUNDS.items() if key in node]
    return " ".join([{"null": "`null`", "object": "mapping"}.get(kind, kind), *bounds[:1]]) + "".join(
        f", {bound}" for bound in bounds[1:]
    )


def keys(
    node: Mapping[str, Any], schema: Mapping[str, Any], lead: str = ""
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield every key of the configuration: its dotted name, its node, and whether it is required.

    ``NAME`` stands for a name that the configuration chooses, and ``[]`` for the entries of a list.
    """
    node = resolved(node, schema)
    for key, child in node.get("properties", {}).items():
        child = resolved(child, schema)
        name = f"{lead}.{key}" if lead else key
        yield name, child, key in node.get("required", [])
        yield from keys(child, schema, name)
    for named in (*node.get("patternProperties", {}).values(), node.get("additionalProperties")):
        if isinstance(named, Mapping):
            yield from keys(named, schema, f"{lead}.NAME")
    if isinstance(node.get("items"), Mapping):
        yield from keys(node["items"], schema, f"{lead}[]")
    for either in node.get("anyOf", ()):
        yield from keys(either, schema, lead)


def configuration(schema: Mapping[str, Any]) -> str:
    """Return the page on the configuration: a section for each top-level key, in the schema's order."""
    parts = [OPENING]
    rows: dict[str, list[str]] = {}
    for name, node, required in keys(schema, schema):
        top = name.partition(".")[0].partition("[")[0]
        if name == top:
            rows[top] = [f"## `{top}`", node.get("description", "")]
            if not any(key in node for key in ("properties", "patternProperties")):
                rows[top].append(f"Takes {values(node, schema)}." + default(node))
            continue
        if ".recipe." in name:  # described once, under train
            continue
        if not rows[top][-1].startswith("| key"):
            rows[top].append("| key | takes | default | what |\n|---|---|---|---|")
        shown = "**required**" if required else f"`{json.dumps(node['default'])}`" if has_default(node) else "–"
        what = node.get("description", "").replace("|", "\\|")
        rows[top][-1] += f"\n| `{name.partition('.')[2]}` | {values(node, schema)} | {shown} | {what} |"
    parts += ["\n\n".join(filter(None, section)) for section in rows.values()]
    return "\n\n".join(parts) + "\n"


def has_default(node: Mapping[str, Any]) -> bool:
    """Return True if a key has a default that says more than that it may be left out."""
    return "default" in node and node["default"] not in (None, []) and not isinstance(node["default"], dict)


def default(node: Mapping[str, Any]) -> str:
    """Return a key's default as a sentence; empty if it has none."""
    return f" Default: `{json.dumps(node['default'])}`." if has_default(node) else ""


OPENING = """# Configuration

This page lists every key of `config.yaml`. The same keys are used in files that are merged into it with `halobench
run --configfile FILE`. Mappings are merged key by key, and setting an entry to `null` removes it. `NAME` stands for a
name that you choose. Configuration errors are reported before any job starts: the report gives the key, its value and
what was expected. Keys and values from earlier versions still work; a note says what each of them is called now.
The `config.yaml` of the repository is an example, with comments.

The `recipe` of a model or data set takes the keys of [`train`](#train). The recipe of a cell starts from `train`. The
model's recipe overrides it, and the data set's recipe overrides both."""


def command_line() -> str:
    """Return the page on the commands: the usage, arguments and examples of each."""
    from halobench.cli.main import build_parser

    parser = build_parser()
    subparsers = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    parts = ["# Commands", f"```text\n{parser.format_help().strip()}\n```"]
    for name, each in subparsers.choices.items():
        usage = each.format_usage().removeprefix("usage: ").strip().replace("\n       ", "\n")
        parts += [f"## `halobench {name}`", each.description or "", f"```text\n{usage}\n```"]
        if rows := [_argument(each, action) for action in each._actions if action.dest != "help"]:
            parts.append("\n".join(["| argument | what |", "|---|---|", *rows]))
        if each.epilog:
            parts.append(f"```text\n{each.epilog.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the row of one argument."""
    formatter = parser._get_formatter()
    text = formatter._expand_help(action) if action.help else ""
    return f"| `{_plain(formatter._format_action_invocation(action))}` | {_plain(text)} |"


def _plain(text: str) -> str:
    """Return text in which no sign ends a cell of a table."""
    return text.replace("|", "\\|")


FIGURES = {
    "The claims": ("summary", "claims"),
    "Neighbourhoods": ("neighbourhood", "confidence_radius", "radii", "halo", "logit_gaps"),
    "Calibration": ("calibration", "reliability", "reliability_posthoc", "repair"),
    "Training": ("training",),
    "Theory": ("overlap", "log_k", "phase", "predicted", "gaussians"),
}
PAGES = ("overview", "cells")
TABLES = ("claims_table", "paper_images", "paper_images_posterior", "paper_gaussians", "paper_gaussians_posterior")
TABLES += ("images_posthoc", "repair_metrics")

READING = """# Reading the figures

This page shows each figure and table of an experiment with its caption from the report. The pictures are from the
demo. Figures and tables that would have nothing to show are left out of an experiment. `results/explorer.html` shows
the same numbers by data set, model and loss."""


PAGES_TEXT = """### report

![The report's first screen](report.png)

`results/report.html` opens from disk, without a network connection. Its front page says what was run, on which data
and hardware, how much time it took, and what was found. The menu on the left lists the figures and tables by
category, and each of them has its caption. `halobench report` creates the report with the configuration of the last
run. It covers the experiments of that run and all others whose results are complete.

### The pages of an experiment

`results/tables/EXPERIMENT/overview.html` is the first of several pages that share a header: overview, claims,
leaderboard, cells, explorer, figures, tables and how to cite. The pages can be opened from disk and printed, and they
have a light and a dark mode. Claims link to their figures and cells, cells link to the cards of their seeds in the
explorer, and each page links to the files that contain its numbers. The filters of a page are stored in its address:
`cells.html#dataset=digits-noise50&loss=mixup2`.

The leaderboard ranks losses and calibrations for each data set. They are ranked by KL from the known posterior, which
is the NLL minus the posterior's own NLL, or by NLL if no posterior is known. Ranks show only what the differences
support. A method is placed before another only if the 95% t interval of their difference, paired over seeds and
models, excludes 0. A rank of *1-3*, for example, means that two other methods may or may not be better. The
comparisons are not corrected for multiple testing.

### explorer

![The explorer's first screen](explorer.png)

`results/explorer.html` is also a single page. The menus at the top choose what is shown. Bars are means over seeds,
with 95% t intervals over seeds. Circles are single cells, with bootstrap intervals over test samples as brackets.
Hover over a point to see which cell it is, and click it to open the cell's card. The card shows the metrics, the
temperatures and whether each is proved optimal, the training curve, the spec, and the commands that reproduce the
cell. To compare two cards, click *Compare* on one and then on the other. The table at the end has the same numbers,
and it opens the same cards from the keyboard. The selection is stored in the address of the page, so you can share it:
`#cell=digits/mlp/mixup2/seed0` opens one card, `#compare=CELL,CELL` opens two, and `EXPERIMENT:CELL` refers to a cell
of another experiment. For a grid of 10,000 cells, the page was 38 MiB and opened in 7 seconds on two cores.
`halobench show CELL` prints a card in the terminal:

![A card in the terminal](show.png)"""


WILDCARD = "{{ snakemake.wildcards.experiment }}"
WIDTH = 118  # characters of a line of Markdown


def caption(name: str) -> str:
    """Return a caption of the report as Markdown, for any experiment."""
    text = (ROOT / f"workflow/report/{name}.rst").read_text().strip()
    text = text.removeprefix(f"Experiment {WILDCARD}: ")
    text = " ".join(text.split())
    for before, after in (("Experiment", "The experiment"), ("experiment", "an experiment"), ("", "EXPERIMENT")):
        text = text.replace(f"{before} {WILDCARD}".strip(), after)
    text = re.sub(r"`([^`<]+?)\s*<([^>]+)>`_", r"[\1](\2)", text)
    text = text[0].upper() + text[1:].replace("``", "`")
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


NAMES_TEXT = (
    """Figures, pages, tables and commands use one name for each thing; files and configurations use its key."""
)


def names_tables() -> Iterator[str]:
    """Yield a table for each kind of thing that has names: label, key and what it is."""
    from halobench.results import names

    kinds = {"calibration": names.CALIBRATIONS, "loss": names.LOSSES, "probe": names.PROBES, "metric": names.METRICS}
    for kind, listed in (kinds | {"verdict": names.VERDICTS}).items():
        rows = [f"| {name.axis} | `{key}` | {name.sentence} |" for key, name in listed.items()]
        yield "\n".join([f"| {kind} | key | what it is |", "|---|---|---|", *rows])


def reading() -> str:
    """Return the page on how to read each figure and table, from the report's captions."""
    parts = [READING]
    for title, figures in FIGURES.items():
        parts.append(f"## {title}")
        for name in figures:
            parts.append(f"### {name}")
            if (ROOT / f"docs/figures/{name}.png").exists():
                parts.append(f"![{name} of the demo](figures/{name}.png)")
            parts.append(caption(name))
    parts += ["## Names", NAMES_TEXT, *names_tables(), "## Pages", PAGES_TEXT]
    for name in PAGES:
        parts += [f"### {name}", caption(name)]
    parts.append("## Tables")
    for name in TABLES:
        parts += [f"### {name}", caption(name)]
    return "\n\n".join(parts) + "\n"


LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".toml": "toml", ".cff": "yaml"}


def page_of(path: str) -> str:
    """Return the site's page for a file of the repository: Markdown itself, or a page that shows another file."""
    return "files/" + path.removesuffix(".md") + ".md"


def shown_file(path: str) -> str:
    """Return the page of a file of the repository."""
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return text if "/" in path else text.replace("](docs/", "](../")
    return f"# {path}\n\n```{LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n```\n"


def front() -> str:
    """Return the README as the site's first page."""
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"\]\((?!docs/|https?:|#)([\w./-]+)\)", lambda match: f"]({page_of(match[1])})", text)
    return text.replace("](docs/", "](")


def linked(text: str) -> set[str]:
    """Return the files of the repository outside docs that a page links to."""
    return set(re.findall(r"\]\(\.\./([\w./-]+)\)", text))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave docs to the pages that show those files."""
    if "/" in page.file.src_uri:
        return markdown
    return re.sub(r"\]\(\.\./([\w./-]+)\)", lambda match: f"]({page_of(match[1])})", markdown)


def on_config(config: Any) -> Any:
    """Show the version at the foot of each page."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    config.copyright = f"halobench {version}"
    return config


def on_page_content(html: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers show without a script."""
    from latex2mathml.converter import convert

    inline = re.compile(r'<span class="arithmatex">\\\((.+?)\\\)</span>', re.DOTALL)
    block = re.compile(r'<div class="arithmatex">\\\[(.+?)\\\]</div>', re.DOTALL)
    html = inline.sub(lambda match: convert(unescape(match[1])), html)
    return block.sub(lambda match: f'<div class="formula">{convert(unescape(match[1]), display="block")}</div>', html)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Load the script that searches a site in a folder from that folder."""
    return output.replace(SHIM, "../" * page.url.count("/") + "iframe-worker.js")


def on_post_template(output_content: str, **_: Any) -> str:
    """Do the same for pages that no Markdown makes."""
    return output_content.replace(SHIM, "iframe-worker.js")


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and the files of the repository that pages link to."""
    from mkdocs.structure.files import File

    generated = {"index.md": front(), "commands.md": command_line()}
    paths = set(re.findall(r"\]\((?!docs/|https?:|#)([\w./-]+)\)", (ROOT / "README.md").read_text()))
    for page in (ROOT / "docs").glob("*.md"):
        paths |= linked(page.read_text())
    generated |= {page_of(path): shown_file(path) for path in sorted(paths)}
    pictures = [path.relative_to(ROOT) for path in (ROOT / "benchmarks").glob("*.png")]
    for name, text in generated.items():
        files.append(File.generated(config, name, content=text))
    for picture in pictures:
        files.append(File.generated(config, f"files/{picture}", abs_src_path=str(ROOT / picture)))
    return files


def tracked() -> dict[str, str]:
    """Return the generated files that are tracked, by path."""
    made = schema()
    text = "# Generated by `python docs/hooks.py` from halobench.experiment.grid.Config.\n"
    text += yaml.safe_dump(made, sort_keys=False, default_flow_style=None, width=WIDTH, allow_unicode=True)
    return {SCHEMA: text, "docs/configuration.md": configuration(made), "docs/reading.md": reading()}


if __name__ == "__main__":
    for path, content in tracked().items():
        (ROOT / path).write_text(content)
