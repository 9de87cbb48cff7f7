"""The general rows of each base model, from the settings or as they are shipped."""

from __future__ import annotations

from lyra_adapters_server.config import ConfigError, Settings
from lyra_adapters_server.feedback.general import GeneralRows, GeneralRowsUnusable, read_rows, shipped_rows
from lyra_adapters_server.registry.anchor import MIN_ANCHOR_ROWS


def general_rows(settings: Settings) -> dict[str, GeneralRows]:
    """By the base model's alias. Raises ConfigError."""
    shipped = shipped_rows()
    try:
        own = {alias: read_rows(path, MIN_ANCHOR_ROWS) for alias, path in settings.general_rows.items()}
    except GeneralRowsUnusable as error:
        raise ConfigError(f"[general_rows]: {error}") from None
    return {base.alias: own.get(base.alias, shipped) for base in settings.bases}
