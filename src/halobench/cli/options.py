"""Add commands and options to parsers."""

from __future__ import annotations

import argparse
from typing import Any

from halobench.runner.stage_options import OPTIONS, flag


def add(parser: argparse.ArgumentParser, name: str, **options: Any) -> None:
    """Add an option to a parser, with settings that may differ from those of stages."""
    settings: dict[str, Any] = {"required": True, "dest": name, **OPTIONS[name].settings, **options}
    parser.add_argument(flag(name), **settings)


def command(commands: Any, name: str, summary: str, epilog: str = "", **defaults: Any) -> argparse.ArgumentParser:
    """Add a command to the parsers `commands`, and return its parser; its epilog keeps line breaks."""
    form = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=epilog, formatter_class=form, allow_abbrev=False
    )
    parser.set_defaults(**defaults)
    return parser
