# The rules that lead to an experiment's results, for the overview to draw.
from types import SimpleNamespace

from snakemake.io import apply_wildcards, is_callable


def rule_kind(rule):
    """What a rule is called in the graph; those of figures, and of tables for print, are one each."""
    kind = rule.name.partition("_")[0]
    return kind if kind in ("figure", "table") else rule.name


def reads(rule, matched):
    """The paths that a rule reads, for wildcards by name."""
    for item in rule.input:
        if not is_callable(item):
            yield apply_wildcards(str(item), matched)
            continue
        # Snakemake (9.27) wraps a function, and one that is flagged (unpack) twice.
        function = getattr(item, "_file", item)
        function = getattr(function, "callable", None) or function
        found = function(SimpleNamespace(**matched))
        found = found.values() if isinstance(found, dict) else found
        yield from [found] if isinstance(found, str) else found


def place(path):
    """The folder of results that a path lies in, and its name: together they tell which rule writes it."""
    parts = Path(path.removeprefix("results/").removeprefix("partial/")).parts
    return parts[0], parts[-1]


MAKERS = {}  # by place, as far as they were asked for


def maker(path):
    """The rule that writes a path; None where none does."""
    key = place(path)
    if key not in MAKERS:
        MAKERS[key] = next((r for r in workflow.rules if r.is_producer(path)), None)
    return MAKERS[key]


def rule_graph(wildcards):
    """The rules that lead to an experiment's results, as JSON: pairs of which the second reads what the first writes.

    One job stands for all of a rule; of trainings one for each model, since only some have weights that are fetched.
    """
    experiment, scope = wildcards.experiment, wildcards.scope
    models = {cell.model: cell for cell in CONFIG.cells(experiment)}
    left = [f"results/runs/{cell.path}/train.json" for cell in models.values()]
    left += [*drawn(experiment, scope), f"results/{scope}explorer.html"]
    edges, rules, seen = set(), set(), set()
    while left:
        path = left.pop()
        made_by = maker(path)
        if made_by is None:
            continue
        rules.add(made_by.name)
        for read in reads(made_by, made_by.get_wildcards(path)):
            if (before := maker(read)) is not None:
                edges.add((rule_kind(before), rule_kind(made_by)))
                if place(read) not in seen:
                    seen.add(place(read))
                    left.append(read)
    counts = {
        kind: sum(name.startswith(f"{kind}_") for name in rules)
        for kind in ("figure", "table")
    }
    return to_json({"edges": sorted(map(list, edges)), "counts": counts})
