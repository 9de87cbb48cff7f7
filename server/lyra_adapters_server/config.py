"""The server's settings: one frozen object from flags, `LYRA_ADAPTERS_*` variables and a TOML file, in that order."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSuppress,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from lyra_adapters_server.flags import flags_source
from lyra_adapters_server.trainer.spec import BaseModelConfig
from lyra_adapters_server.types import Label, Prompt

ENV_PREFIX = "LYRA_ADAPTERS_"
# Variables with the prefix that belong to the client or to failpoints.py, or name the file itself.
OTHER_VARIABLES = frozenset(
    {"SERVER", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY", "CONFIG", "FAILPOINTS", "FAILPOINTS_LOG"}
)


class PromptSettings(Prompt):
    """A base model's prompt in the TOML file: `[prompts.ALIAS]` with name, template and label_words."""

    label_words: dict[Label, str]


class Settings(BaseSettings):
    """Runs the server. Each setting can also come from LYRA_ADAPTERS_NAME or from the TOML file that --config names.

    Flags win over variables, variables over the file; unknown keys are refused, wherever they come from.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_prog_name="lyra-adapters serve",
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=True,
        cli_implicit_flags=True,
    )

    listen: str = Field(
        "127.0.0.1:50051",
        description="Address to listen on, HOST:PORT; port 0 takes a free one. Beyond loopback only with TLS and "
        "tokens (or client certificates), because whoever reaches the port could train and roll back.",
    )
    tls_cert: Path | None = Field(
        None,
        description="File with the server's certificate and its chain (PEM), read again when it is replaced. Without: "
        "no TLS, which loopback does not need.",
    )
    tls_key: Path | None = Field(None, description="File with the key of `tls_cert` (PEM, without a password).")
    tls_client_ca: Path | None = Field(
        None,
        description="File with the authorities of clients' certificates (PEM). With it a client without a good "
        "certificate gets no connection (mutual TLS); without, clients show none.",
    )
    tokens_file: Path | None = Field(
        None,
        description="File that says who may call, as what, with which adapters; `lyra-adapters tokens new` makes it. "
        "Read again when it is replaced. Without: everyone who can connect may do everything.",
    )
    insecure: bool = Field(
        False,
        description="Listen beyond loopback although TLS or tokens are missing. Only where something else keeps "
        "strangers out.",
    )
    health_listen: str = Field(
        "",
        description="A second address, HOST:PORT, that serves gRPC health and nothing else; empty: none. It may be "
        "beyond loopback, so that an orchestrator's probes reach it.",
    )
    metrics_listen: str = Field(
        "",
        description="An address, HOST:PORT, that serves metrics to Prometheus at /metrics over HTTP; empty: none. It "
        "may be beyond loopback: metrics hold counts and times, no names of adapters, no callers and no texts.",
    )
    home: Path = Field(
        Path("~/.lyra/adapters"),
        description="Where versions and the registry are kept. One place a user, so that client tools find them.",
    )
    cache_dir: Path = Field(
        Path("~/.cache/lyra-adapters"),
        description="Where converted base models and digests are kept. Can be deleted at any time; apart from home, "
        "so that backups stay small.",
    )
    base_model: Annotated[tuple[str, ...], NoDecode] = Field(
        ("demo",),
        description="A base model that may be trained on: ALIAS=SOURCE or SOURCE, where SOURCE is a Hugging Face id, "
        "a local directory or `demo`. Repeatable; the first is the default, so that a request need not name one. In "
        "the environment: separated by commas.",
    )
    prompts: CliSuppress[dict[str, PromptSettings]] = Field(
        {},
        description="Prompt of a base model, by alias: name, template with {premise} and {hypothesis}, label_words "
        "(one token each). Default: the built-in one, which works with any causal model.",
    )
    labels: CliSuppress[dict[str, dict[Label, str]]] = Field(
        {},
        description="What the head of an encoder calls each label, by the base model's alias, such as `SUPPORTS = "
        '"LABEL_0"`. Default: its own names, such as entailment, neutral and contradiction; only names without a '
        "meaning need this.",
    )
    general_rows: CliSuppress[dict[str, Path]] = Field(
        {},
        description="General rows of a base model, by alias: JSON Lines with premise, hypothesis, correct_label and "
        "group (the document), chosen by no model's errors. Two thirds of the documents show the gate what learning "
        "cost, at least 40 rows with every label among them; the others are trained on against forgetting. Default: "
        "rows in English and Japanese that come with the server.",
    )
    max_loaded_bases: int = Field(
        0,
        ge=0,
        le=1000,
        description="Base models in memory at a time; 0: as many as fit. Others are loaded when they are used, in the "
        "place of the one that was not used the longest.",
    )
    formats: Annotated[tuple[Literal["gguf", "ollama", "merged"], ...], NoDecode] = Field(
        (),
        description="Forms in which a version is made when it is published, beside PEFT's: gguf, ollama, merged. "
        "Repeatable. None by default: a form is made when it is first downloaded; ahead of that it is for hosts that "
        "read the files themselves. In the environment: separated by commas.",
    )
    ollama_models: CliSuppress[dict[str, str]] = Field(
        {},
        description="What FROM names in a Modelfile, by the base model's alias: what Ollama calls this base, such as "
        "`qwen2.5:3b-instruct-fp16`. Default: a GGUF file of the base beside the Modelfile.",
    )
    device: str = Field(
        "auto",
        description="Device of the trainer: auto, cpu, cuda, cuda:1, mps. auto takes CUDA, then MPS, then the CPU.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="Number format of the frozen base. auto takes bfloat16 where the device computes it fast.",
    )
    classify_dtype: Literal["base", "float32"] = Field(
        "float32",
        description="Precision in which a causal base answers Classify. float32: what transformers and peft compute "
        "from the same weights in float32, whatever --dtype is (float32 weights that --dtype rounds to bfloat16 when "
        "they are loaded stay rounded). base: that of --dtype; in bfloat16 about half the time, but its "
        "rounding can move a probability by some hundredths.",
    )
    compiled_kernels: Literal["auto", "off"] = Field(
        "auto",
        description="Faster forms of some of the trainer's parts, for x86-64 CPUs that multiply bfloat16. auto: the "
        "machine's own g++ compiles them into --cache-dir when they are first needed, within seconds; without g++, or "
        "on another processor, torch's functions do the same. off: these always.",
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of the trainer; 0 takes one a core.")
    nice: int = Field(
        5,
        ge=0,
        le=19,
        description="Niceness of the trainer process, so that the server answers at once while training takes every "
        "core.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="How often the trainer or the server may die over a job before it fails: enough to ride out a "
        "crash, too few to loop on it. Orderly stops don't count.",
    )
    checkpoint_steps: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="A checkpoint after so many optimizer steps; 0: by time alone.",
    )
    checkpoint_seconds: float = Field(
        30.0,
        ge=0.0,
        le=86_400.0,
        description="A checkpoint after so many seconds: what a crash costs at most. It is written less often where "
        "writing takes more than a fiftieth of the time. 0: by steps alone.",
    )
    hang_s: float = Field(
        600.0,
        ge=1.0,
        le=86_400.0,
        description="A trainer that has work and gives no sign of life for so many seconds is killed, and its job goes "
        "on in a new one. Signs come with the work, about once a second, so this must be longer than the longest "
        "micro-batch.",
    )
    hang_loading_s: float = Field(
        1800.0,
        ge=1.0,
        le=86_400.0,
        description="As hang_s, while the trainer starts or reads a base model's weights.",
    )
    lease_s: float = Field(
        15.0,
        ge=1.0,
        le=3600.0,
        description="How long a job belongs to a server that gives no sign of life. Longer survives longer pauses; "
        "shorter lets the next server go on sooner.",
    )
    keep_versions: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Versions kept per adapter; the files of older ones are deleted, but never those of the version in "
        "force and of the one that a rollback would return to. 0: all are kept, because only you know what you need.",
    )
    keep_job_days: float = Field(
        0.0,
        ge=0.0,
        le=36_500.0,
        description="Days after its end for which a job's events and the rows it trained on are kept. 0: for good. The "
        "job itself, its version and its scores stay in the lists.",
    )
    heartbeat_s: float = Field(
        15.0,
        gt=0.0,
        le=600.0,
        description="A quiet stream gets a heartbeat after so many seconds; proxies cut silent streams after 60.",
    )
    progress_interval_s: float = Field(
        0.5,
        ge=0.0,
        le=60.0,
        description="Least seconds between two progress events of a job: smooth for a person, small in the database.",
    )
    classify_waiting: int = Field(
        16,
        ge=1,
        le=1000,
        description="Classify calls that may wait for the model at a time; further ones are refused, so that checking "
        "never holds a training up for long.",
    )
    classify_wait_s: float = Field(
        20.0,
        gt=0.0,
        le=600.0,
        description="Longest wait of a Classify call for the model; then it is told to try again.",
    )
    max_queued_jobs: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Most jobs that may wait in all; a further Train is refused and creates nothing. Each waiting job "
        "keeps its rows on disk, and a queue this long takes days.",
    )
    max_queued_jobs_per_principal: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="Most jobs of one caller that may wait, so that one caller can't fill the queue.",
    )
    max_streams: int = Field(
        4000,
        ge=1,
        le=100_000,
        description="Most streams that may be open in all; a further one is refused before it does anything. One takes "
        "about 100 KiB of the server's memory.",
    )
    max_streams_per_principal: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="Most streams that one caller may have open, so that one caller can't take them all.",
    )
    max_message_mib: int = Field(
        20,
        ge=1,
        le=256,
        description="Largest request in MiB: 16 MiB of samples and what goes with them.",
    )
    reflection: bool = Field(True, description="Serve reflection, so that grpcurl needs no proto file.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto logs for people on a terminal, JSON lines otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")

    @field_validator("base_model", "formats", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("home", "cache_dir", "tls_cert", "tls_key", "tls_client_ca", "tokens_file")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else None

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; set both")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("tls_client_ca needs tls_cert and tls_key: without TLS clients show no certificates")
        return self

    @field_validator("base_model")
    @classmethod
    def _aliases_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("needs at least one base model")
        aliases = [_alias(entry) for entry in value]
        if len(set(aliases)) != len(aliases):
            raise ValueError(f"aliases must differ: {', '.join(aliases)}")
        return value

    @field_validator("ollama_models")
    @classmethod
    def _fits_on_a_line(cls, value: dict[str, str]) -> dict[str, str]:
        for alias, model in value.items():
            if not model or not model.isprintable() or model != model.strip():
                raise ValueError(f"{alias}: {model!r} is no name of a model")
        return value

    @field_validator("labels")
    @classmethod
    def _labels_are_told_apart(cls, value: dict[str, dict[Label, str]]) -> dict[str, dict[Label, str]]:
        for alias, names in value.items():
            if set(names) != set(Label) or len({name.strip().lower() for name in names.values()}) != len(Label):
                raise ValueError(f"[labels.{alias}] needs a name of its own for each of {', '.join(Label)}")
        return value

    @model_validator(mode="after")
    def _aliases_exist(self) -> Self:
        aliases = [_alias(entry) for entry in self.base_model]
        tables = (
            ("prompts", self.prompts),
            ("labels", self.labels),
            ("general_rows", self.general_rows),
            ("ollama_models", self.ollama_models),
        )
        for table, keys in tables:
            for key in keys:
                if key not in aliases:
                    raise ValueError(f"[{table}.{key}]: no base model has this alias; there are {', '.join(aliases)}")
        return self

    @property
    def bases(self) -> tuple[BaseModelConfig, ...]:
        """The allow-list; the first is the default."""
        return tuple(
            BaseModelConfig(
                alias=_alias(entry),
                source=entry.partition("=")[2] or entry,
                prompt=self.prompts.get(_alias(entry)),
                labels=self.labels.get(_alias(entry)),
            )
            for entry in self.base_model
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags (init) before the environment before the file."""
        file = os.environ.get(ENV_PREFIX + "CONFIG")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, toml_file=file)) if file else sources


class ConfigError(Exception):
    """The settings can't be used; the message says which, why, and what would do."""


def load_settings(argv: Sequence[str]) -> Settings:
    """The settings from the command line, the environment and the file that `--config` names.

    Raises ConfigError. `--help` and unusable flags end the process, as argparse does.
    """
    pre = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    pre.add_argument("--config", default=os.environ.get(ENV_PREFIX + "CONFIG"))
    known, rest = pre.parse_known_args(list(argv))
    _refuse_unknown_variables()
    if known.config:
        if not Path(known.config).is_file():
            raise ConfigError(f"--config {known.config}: there is no such file")
        os.environ[ENV_PREFIX + "CONFIG"] = known.config
    try:
        # An option of the constructor that the type checker takes for a field.
        return Settings(_cli_settings_source=flags_source(Settings)(args=rest))  # type: ignore[call-arg]
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_url=False, include_context=False):
            key = ".".join(str(part) for part in detail["loc"])
            lines.append(f"{key}: {detail['msg']}" + ("" if detail["type"] == "extra_forbidden" else _given(detail)))
        raise ConfigError("the settings can't be used:\n  " + "\n  ".join(lines)) from None
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the settings can't be read: {error}") from None


def _given(detail: Any) -> str:
    return f" (given: {detail['input']!r})"


def _refuse_unknown_variables() -> None:
    known = {name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    for variable in os.environ:
        name = variable.removeprefix(ENV_PREFIX)
        if name != variable and name.split("__")[0].upper() not in known:
            names = ", ".join(ENV_PREFIX + field.upper() for field in Settings.model_fields)
            raise ConfigError(f"{variable} is no setting of this server; there are {names}")


def _alias(entry: str) -> str:
    return entry.partition("=")[0]
