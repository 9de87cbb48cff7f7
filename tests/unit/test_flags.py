"""`lyra-adapters serve --help`, and Ctrl-C before a command has begun."""

from __future__ import annotations

import re

import pytest
from lyra_adapters import cli
from lyra_adapters_server.config import Settings, load_settings


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        load_settings(["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_setting_and_the_file(told: str) -> None:
    assert "--config FILE" in told
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        # What only the file can say (tables of prompts and labels) has no flag.
        assert (flag in told) == ("SUPPRESS" not in repr(field.metadata)), flag


def test_help_says_what_a_value_looks_like_not_its_python_type(told: str) -> None:
    placeholders = set(re.findall(r"--[a-z-]+ ([^\s\]]+)", told.split("options:")[0]))
    assert "HOST:PORT" in placeholders
    assert not {word for word in placeholders if re.match(r"(str|int|float|Path|tuple|dict|bool)\b", word)}


def test_ctrl_c_while_packages_load_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["status"]) == 130
