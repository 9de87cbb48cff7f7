"""Whatever a text holds, the command line shows it and does not let it command the terminal."""

import json
from pathlib import Path

import pytest
from lyra_adapters import AdapterClient
from lyra_adapters.cli import main, output
from lyra_adapters.cli.report.page import page
from lyra_adapters.cli.visible import one_line, visible
from lyra_adapters.models import Label, Review, Sample
from lyra_adapters.testing import FakeAdapterServer, training_script
from test_report import ROWS, made, row

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\u202eevil\u2066\x9b1m\x7f"
SHOWN = r"\u001b[2J\u001b]0;owned\u0007\u000d\u202eevil\u2066\u009b1m\u007f"


def test_what_commands_a_terminal_is_shown() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("睡眠\n\tlines\r\nof a document é\u200d") == "睡眠\n\tlines\nof a document é\u200d"
    assert one_line("two\nlines,\ta tab\x1b") == r"two lines, a tab\u001b"


def test_lines_notes_tables_and_json_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(HOSTILE)
    output.table(("A", "B"), [(HOSTILE, "two\nlines")], title=HOSTILE)
    output.note(HOSTILE)
    output.emit_json({"text": HOSTILE})
    said = capsys.readouterr()
    everything = said.out + said.err
    assert everything.count(SHOWN) == 4
    assert not set(HOSTILE) & set(everything) - set(SHOWN)
    assert "two lines" in said.out
    assert json.loads(said.out.splitlines()[-1]) == {"text": HOSTILE}


def test_the_report_shows_them_in_lines_and_on_its_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from lyra_adapters.convert import encode

    hostile = row(9, correct=0, original=1, before=1, after=0, text=HOSTILE)
    html = page(made([*ROWS, hostile]))
    assert SHOWN in html
    assert not set(HOSTILE) & set(html) - set(SHOWN)
    with FakeAdapterServer() as fake:
        fake.add_job(training_script(adapter="sleep"))
        fake.report_rows.append(encode(hostile))
        assert main(["report", "sleep", "v1", "--server", fake.target, "--png", str(tmp_path / "r.jpg")]) == 0
    said = capsys.readouterr().out
    assert r"\u001b[2J\u001b]0;owned\u0007" in said
    assert "\x1b" not in said
    # Always what the option says, whatever the file is called.
    assert (tmp_path / "r.jpg").read_bytes().startswith(b"\x89PNG")


def test_an_export_to_the_terminal_is_safe_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeAdapterServer() as fake, AdapterClient(fake.target) as client:
        client.record_feedback([Review(sample=Sample(premise=HOSTILE, hypothesis="h", correct_label=Label.SUPPORTS))])
        assert main(["feedback", "export", "--server", fake.target]) == 0
    said = capsys.readouterr().out
    assert not set(HOSTILE) & set(said) - set(SHOWN)
    assert json.loads(said)["premise"] == HOSTILE


def test_a_reason_is_shown_in_the_history(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeAdapterServer() as fake:
        fake.add_job(training_script(adapter="sleep"))
        with AdapterClient(fake.target) as client:
            client.rollback("sleep", reason=HOSTILE, actor=HOSTILE)
        assert main(["list", "sleep", "--history", "--server", fake.target]) == 0
        said = capsys.readouterr().out
        assert said.count(SHOWN) == 2
        assert main(["rollback", HOSTILE, "--server", fake.target]) != 0
        assert "\x1b" not in capsys.readouterr().err
