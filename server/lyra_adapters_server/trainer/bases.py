"""The allow-list of base models: described at the start, loaded at first use, let go when memory asks for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lyra_adapters_server.trainer.base import Base, load_base
from lyra_adapters_server.trainer.between import call_between_layers
from lyra_adapters_server.trainer.describe import Description, Files, describe, find_files
from lyra_adapters_server.trainer.errors import TrainerError
from lyra_adapters_server.trainer.events import BaseChanged
from lyra_adapters_server.trainer.kernels import ops
from lyra_adapters_server.trainer.memory import available_bytes, give_back
from lyra_adapters_server.trainer.spec import BaseModelConfig, WorkerConfig
from lyra_adapters_server.types import BaseCard, BaseState

LOG = logging.getLogger(__name__)

# Beside the weights, a base needs room for what is computed with it.
_MARGIN, _MARGIN_BYTES = 1.1, 256 << 20

# How long a turn waits for files that are on their way, so that other work gets its turn.
_WAIT_S = 0.01


class Bases:
    """The base models, by alias. Those in memory are kept until room is needed for another.

    Work first does `yield from prepare(alias)`, which may take many turns, then `with use(alias) as base`, during which
    the base stays.
    """

    def __init__(
        self,
        config: WorkerConfig,
        tell: Callable[[BaseChanged], None] = lambda _: None,
        between_layers: Callable[[], None] | None = None,
    ) -> None:
        """Takes the settings; loads nothing yet.

        Args:
            config: The worker's settings.
            tell: Called with each change of a base model's state.
            between_layers: Called over and over while a base computes; see call_between_layers.
        """
        self._config = config
        self._between_layers = between_layers
        self._configs = {base.alias: base for base in config.bases}
        self._tell = tell
        self._searches: dict[str, _Search] = {}
        self._described: dict[str, Description] = {}
        # In the order of their last use.
        self._loaded: dict[str, Base] = {}
        self._users: dict[str, int] = {}

    def start(self) -> Generator[None, None, None]:
        """Describes every base model, and loads the first. A base that fails says why and harms no other."""
        for number, alias in enumerate(self._configs):
            try:
                yield from self.prepare(alias) if number == 0 else self.describe(alias)
                if number == 0:
                    self.get(alias)
            except TrainerError as error:
                LOG.warning("base model %s: %s", alias, error.message)

    def describe(self, alias: str) -> Generator[None, None, BaseCard]:
        """Gives a base model's card, from its files. Yields while they are fetched.

        Raises:
            TrainerError: BASE_MODEL_UNKNOWN, if it is not allow-listed; and what `describe` in describe.py raises.
        """
        return (yield from self._describe(alias)).card

    def description(self, alias: str) -> Generator[None, None, Description]:
        """Gives all that is known of a base model from its files, without loading it. As `describe`."""
        return (yield from self._describe(alias))

    def prepare(self, alias: str) -> Generator[None, None, None]:
        """Describes a base model, and makes room for its weights. Yields while other work has to end first.

        Raises:
            TrainerError: See `describe`; BASE_MODEL_NO_MEMORY, if there will not be room whatever is let go.
        """
        description = yield from self._describe(alias)
        if alias not in self._loaded:
            give_back(description.device)
        while alias not in self._loaded and not self._make_room(description):
            yield

    @contextmanager
    def use(self, alias: str) -> Iterator[Base]:
        """Gives a base model, loading it if need be, and keeps it in memory meanwhile. See `get`."""
        base = self.get(alias)
        self._users[alias] = self._users.get(alias, 0) + 1
        try:
            yield base
        finally:
            self._users[alias] -= 1

    def get(self, alias: str) -> Base:
        """Gives a base model, loading it if need be.

        Raises:
            TrainerError: See `describe`; BASE_MODEL_LOAD_FAILED.
        """
        description = _last(self._describe(alias))
        if alias not in self._loaded:
            self._loaded[alias] = self._load(description)
        self._loaded[alias] = self._loaded.pop(alias)
        return self._loaded[alias]

    def _describe(self, alias: str) -> Generator[None, None, Description]:
        if alias not in self._configs:
            raise TrainerError("BASE_MODEL_UNKNOWN", f"base model `{alias}` is not on the list")
        if alias in self._described:
            return self._described[alias]
        if alias not in self._searches:
            self._searches[alias] = _Search(self._configs[alias], Path(self._config.cache_dir))
        search = self._searches[alias]
        try:
            while not search.ended():
                yield
            if alias not in self._described:
                self._described[alias] = describe(self._configs[alias], self._config, search.result())
                self._say(alias, BaseState.UNLOADED)
        except TrainerError as error:
            # The next use tries again.
            self._searches.pop(alias, None)
            self._say(alias, BaseState.FAILED, error.message)
            raise
        return self._described[alias]

    def _make_room(self, description: Description) -> bool:
        # Whether there is room now; if not, running work has to end first.
        limit, need = self._config.max_loaded_bases, description.weight_bytes * _MARGIN + _MARGIN_BYTES
        while True:
            crowded = bool(limit) and len(self._loaded) >= limit
            available = available_bytes(description.device)
            if not crowded and available >= need:
                return True
            idle = next((alias for alias in self._loaded if not self._users.get(alias)), None)
            if idle is not None:
                self._let_go(idle)
            elif self._loaded:
                return False
            else:
                message = (
                    f"it needs {need / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB are free on "
                    f"{description.card.device}"
                )
                self._say(description.card.alias, BaseState.FAILED, message)
                raise TrainerError("BASE_MODEL_NO_MEMORY", f"{description.card.alias} can't be loaded: {message}")

    def _load(self, description: Description) -> Base:
        card = description.card
        self._say(card.alias, BaseState.LOADING)
        is_low = description.device.type == "cpu" and description.dtype == torch.bfloat16
        if is_low and self._config.compiled_kernels == "auto":
            ops.load(Path(self._config.cache_dir))
        try:
            base = load_base(description)
        except Exception as error:
            told = error.message if isinstance(error, TrainerError) else f"{type(error).__name__} while it was loaded"
            self._say(card.alias, BaseState.FAILED, told)
            raise
        if self._between_layers is not None:
            call_between_layers(base.model, self._between_layers)
        self._say(card.alias, BaseState.READY)
        LOG.info("base model %s loaded on %s in %s", card.alias, card.device, card.dtype)
        return base

    def _let_go(self, alias: str) -> None:
        device = self._loaded.pop(alias).device
        give_back(device)
        self._say(alias, BaseState.UNLOADED)
        LOG.info("base model %s let go", alias)

    def _say(self, alias: str, state: BaseState, error: str = "") -> None:
        description = self._described.get(alias)
        self._tell(BaseChanged(alias=alias, state=state, card=description.card if description else None, error=error))


class _Search:
    """A base model's files on their way: a download or a digest of gigabytes must not hold other work up."""

    def __init__(self, config: BaseModelConfig, cache_dir: Path) -> None:
        self._result: Files | Exception | None = None

        def search() -> None:
            try:
                self._result = find_files(config.source, cache_dir)
            except Exception as error:
                self._result = error

        # A daemon: the process may end in the middle of it.
        self._thread = threading.Thread(target=search, name=f"search-{config.alias}", daemon=True)
        self._thread.start()

    def ended(self) -> bool:
        """Whether there is a result, after waiting a moment."""
        self._thread.join(_WAIT_S)
        return not self._thread.is_alive()

    def result(self) -> Files:
        """The files. Raises what the search raised."""
        if isinstance(self._result, TrainerError):
            raise self._result
        if isinstance(self._result, Exception):
            raise TrainerError("BASE_MODEL_LOAD_FAILED", f"its files can't be read: {self._result}") from self._result
        assert self._result is not None
        return self._result


def _last(work: Generator[None, None, Any]) -> Any:
    """Runs a generator to its end, for its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value
