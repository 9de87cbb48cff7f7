"""`lyra-adapters serve`'s flags: one for each setting, with help that says what kind of value each takes."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any, get_args

from pydantic_settings import BaseSettings, CliSettingsSource

# What stands for a value in the help, where its type alone would say too little.
_PLACEHOLDERS = {
    "listen": "HOST:PORT",
    "health_listen": "HOST:PORT",
    "metrics_listen": "HOST:PORT",
    "base_model": "[ALIAS=]SOURCE",
    "cache_dir": "DIR",
    "home": "DIR",
    "formats": "FORM",
}
_OF_TYPES = {int: "N", float: "NUMBER", Path: "PATH"}


def flags_source(settings: type[BaseSettings]) -> CliSettingsSource[Any]:
    """The source that reads the flags; called with `args`, it parses them.

    Args:
        settings: The class whose fields become flags. `--config` is read before, and stands here for the help alone.
    """
    parser = argparse.ArgumentParser(
        prog=settings.model_config.get("cli_prog_name"),
        description=inspect.cleandoc(settings.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="A TOML file with settings, named as the flags, with _ for -.")
    source: CliSettingsSource[Any] = CliSettingsSource(settings, root_parser=parser)
    for action in parser._actions:
        field = settings.model_fields.get(action.dest)
        if field is not None and action.nargs != 0 and not str(action.metavar).startswith("{"):
            seconds = "SECONDS" if action.dest.endswith("_s") else None
            action.metavar = _PLACEHOLDERS.get(action.dest) or seconds or _kind(field.annotation)
    return source


def _kind(annotation: Any) -> str:
    """The placeholder of a type; of a value that may be absent, that of the value."""
    kinds = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
    return next((_OF_TYPES[one] for one in kinds if one in _OF_TYPES), "NAME")
