"""The tokens file: what it may say, when it is refused, when it is taken up, and the command that writes it."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from lyra_adapters_server.errors import Refusal
from lyra_adapters_server.scope import EVERYTHING, Scope
from lyra_adapters_server.service.auth import command
from lyra_adapters_server.service.auth.authority import Authority
from lyra_adapters_server.service.auth.caller import ANONYMOUS, Caller, Role
from lyra_adapters_server.service.auth.tokens import TokensFileError, digest_of, new_token, read_tokens
from structlog.testing import capture_logs

TOKEN = "lyra_a-token-of-the-test"


class Call:
    """What an Authority sees of a call."""

    def __init__(self, *headers: str, names: dict[str, list[bytes]] | None = None) -> None:
        self._metadata = [("user-agent", "test"), *(("authorization", header) for header in headers)]
        self._names = names or {}

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._names


def entry(token: str = TOKEN, **fields: Any) -> str:
    fields = {"principal": "ada", "role": "train", "adapters": ["team_a_*"], "sha256": digest_of(token)} | fields
    lines = [f"{key} = {value if key == 'expires' else json.dumps(value)}" for key, value in fields.items()]
    return "\n".join(["[[token]]", *lines, ""])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.touch(mode=0o600)
    file.write_text(entry())
    return file


def reason(authority: Authority, call: Call) -> str:
    with pytest.raises(Refusal) as refused:
        authority.authenticate(call)  # type: ignore[arg-type]
    assert refused.value.kind == "UNAUTHENTICATED"
    assert TOKEN not in refused.value.message
    return refused.value.reason


def who(authority: Authority, call: Call) -> Caller:
    return authority.authenticate(call)  # type: ignore[arg-type]


def test_a_token_says_who_calls(path: Path) -> None:
    authority = Authority(path, certificates=False)
    assert who(authority, Call(f"Bearer {TOKEN}")) == Caller("ada", Role.TRAIN, Scope(("team_a_*",)))
    assert who(authority, Call(f"bearer  {TOKEN} ")).principal == "ada"
    assert reason(authority, Call()) == "TOKEN_MISSING"
    assert reason(authority, Call("Bearer nonsense")) == "TOKEN_UNKNOWN"
    assert reason(authority, Call(f"Bearer {digest_of(TOKEN)}")) == "TOKEN_UNKNOWN"
    for header in ("", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", "Bearer " + "x" * 5000):
        assert reason(authority, Call(header)) == "TOKEN_MALFORMED", header
    assert reason(authority, Call(f"Bearer {TOKEN}", "Bearer other")) == "TOKEN_MALFORMED"


def test_without_a_file_nobody_is_asked() -> None:
    authority = Authority(None, certificates=False)
    assert who(authority, Call()) is ANONYMOUS
    assert who(authority, Call("Bearer whatever")) is ANONYMOUS
    assert authority.holds(ANONYMOUS)


def test_tokens_end(path: Path) -> None:
    soon = time.time() + 0.5
    ends = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(soon)) + f".{int(soon % 1 * 1e6):06d}Z"
    path.write_text(entry(expires=ends))
    authority = Authority(path, certificates=False)
    caller = who(authority, Call(f"Bearer {TOKEN}"))
    assert authority.holds(caller)
    time.sleep(0.6)
    assert reason(authority, Call(f"Bearer {TOKEN}")) == "TOKEN_EXPIRED"
    assert not authority.holds(caller)


def test_certificates_stand_for_tokens(path: Path) -> None:
    named = '[[certificate]]\nprincipal = "lyra"\nrole = "operate"\nadapters = ["*"]\nname = "lyra.internal"\n'
    path.write_text(entry() + named)
    with pytest.raises(TokensFileError, match="tls_client_ca"):
        Authority(path, certificates=False)
    authority = Authority(path, certificates=True)
    shown = {"x509_common_name": [b"somebody"], "x509_subject_alternative_name": [b"lyra.internal"]}
    assert who(authority, Call(names=shown)) == Caller("lyra", Role.OPERATE, EVERYTHING)
    assert who(authority, Call(names={"x509_common_name": [b"lyra.internal"]})).principal == "lyra"
    assert reason(authority, Call(names={"x509_common_name": [b"somebody"]})) == "CERTIFICATE_UNKNOWN"
    # A token that is shown decides, and a wrong one is not forgiven.
    assert who(authority, Call(f"Bearer {TOKEN}", names=shown)).principal == "ada"
    assert reason(authority, Call("Bearer nonsense", names=shown)) == "TOKEN_UNKNOWN"

    alone = Authority(None, certificates=True)
    assert who(alone, Call(names=shown)) == Caller("somebody", Role.OPERATE, EVERYTHING)
    assert who(alone, Call(names={"x509_subject_alternative_name": [b"lyra.internal"]})).principal == "lyra.internal"
    for names in ({}, {"x509_common_name": [b"anonymous"]}, {"x509_common_name": [b"a\nb"]}):
        assert reason(alone, Call(names=names)) == "CERTIFICATE_UNKNOWN"


def test_a_new_file_is_taken_up_at_once_and_a_broken_one_is_not(path: Path) -> None:
    authority = Authority(path, certificates=False)
    first = who(authority, Call(f"Bearer {TOKEN}"))
    path.write_text(entry(role="read"))
    assert who(authority, Call(f"Bearer {TOKEN}")).role == Role.READ
    assert not authority.holds(first)
    path.write_text(entry("another"))
    assert reason(authority, Call(f"Bearer {TOKEN}")) == "TOKEN_UNKNOWN"
    for breaking in (
        lambda: path.write_text("[[token"),
        lambda: path.write_text(entry(role="root")),
        lambda: path.write_text(""),
        lambda: (path.write_text(entry()), path.chmod(0o644)),
        path.unlink,
    ):
        with capture_logs() as logs:
            breaking()
            assert who(authority, Call("Bearer another")).principal == "ada"
            assert who(authority, Call("Bearer another")).principal == "ada"
        assert [(line["event"], line["log_level"]) for line in logs] == [("tokens_refused", "error")]
        assert "stay in force" in logs[0]["message"]
    path.touch(mode=0o600)
    path.write_text(entry())
    assert who(authority, Call(f"Bearer {TOKEN}")).principal == "ada"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[token", "no TOML"),
        ("\n", "is empty"),
        (entry() + entry(principal="bob"), "twice"),
        (entry(role="root"), "read, train, operate"),
        (entry(adapters=[]), "at least one pattern"),
        (entry(adapters=["Team-*"]), "pattern"),
        (entry(adapters=["team_[ab]_*"]), "pattern"),
        (entry(adapters="*"), "list"),
        (entry(sha256="abc"), "64 hexadecimal"),
        (entry(principal="a b"), "letters"),
        (entry(principal="anonymous"), "anonymous"),
        (entry(scope="*"), "scope"),
        (entry(expires="2027-01-01T00:00:00"), "offset"),
        (entry(expires='"soon"'), "expires"),
    ],
)
def test_what_a_file_may_not_say(path: Path, text: str, says: str) -> None:
    path.write_text(text)
    with pytest.raises(TokensFileError, match=says) as refused:
        read_tokens(path)
    assert digest_of(TOKEN) not in str(refused.value)


def test_a_token_put_in_the_place_of_its_digest_is_not_repeated(path: Path) -> None:
    path.write_text(entry(sha256=TOKEN))
    with pytest.raises(TokensFileError) as refused:
        read_tokens(path)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o666, 0o620])
def test_files_that_others_may_touch_are_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(TokensFileError, match=f"{mode:04o}.*chmod 600"):
        read_tokens(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_files_that_only_owner_and_group_read_are_fine(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert read_tokens(path).by_digest


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        (["team_a_*"], ["team_a_x", "team_a_"], ["team_a", "team_b_x", "xteam_a_x", "base", "teamXaXx"]),
        (["one", "two_*"], ["one", "two_x"], ["on", "one_", "two"]),
        (["*"], ["anything"], []),
        (["a*c"], ["ac", "abc"], ["ab"]),
    ],
)
def test_scopes(patterns: list[str], inside: list[str], outside: list[str]) -> None:
    scope = Scope(tuple(patterns))
    assert all(name in scope for name in inside)
    assert not any(name in scope for name in outside)


def test_new_tokens_are_long_and_differ() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("lyra_") and len(token) >= 48 for token in tokens)


# ------------------------------------------------------------------------------------------------ the command


def tokens(capsys: pytest.CaptureFixture[str], path: Path, *words: str, code: int = 0) -> Any:
    assert command.main([*words, "--tokens-file", str(path), "--json"]) == code
    out, err = capsys.readouterr()
    # Before it, what the Authority of the test logs.
    return json.loads(out.splitlines()[-1]) if code == 0 else err


def test_new_list_and_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens.toml"
    old = os.umask(0)
    try:
        made = tokens(capsys, path, "new", "team-a", "--role", "train", "--adapters", "team_a_*", "--expires", "90d")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made["token"] not in path.read_text()
    authority = Authority(path, certificates=False)
    caller = who(authority, Call(f"Bearer {made['token']}"))
    assert (caller.principal, caller.role, str(caller.scope)) == ("team-a", Role.TRAIN, "team_a_*")
    assert caller.expires
    assert 89.9 * 86400 < caller.expires - time.time() <= 90 * 86400

    path.write_text("# Ours.\n" + path.read_text() + "# The operator:")
    second = tokens(capsys, path, "new", "ada", "--role", "operate", "--adapters", "base_nli", "--adapters", "team_*")
    third = tokens(capsys, path, "new", "ada", "--role", "read", "--adapters", "*")
    assert who(authority, Call(f"Bearer {second['token']}")).scope == Scope(("base_nli", "team_*"))
    listed = tokens(capsys, path, "list")
    assert [(one["principal"], one["role"]) for one in listed] == [
        ("team-a", "train"),
        ("ada", "operate"),
        ("ada", "read"),
    ]
    assert "token" not in listed[0]

    tokens(capsys, path, "revoke", second["id"])
    assert reason(authority, Call(f"Bearer {second['token']}")) == "TOKEN_UNKNOWN"
    assert who(authority, Call(f"Bearer {third['token']}")).principal == "ada"
    tokens(capsys, path, "revoke", "ada")
    assert [one["principal"] for one in tokens(capsys, path, "list")] == ["team-a"]
    assert who(authority, Call(f"Bearer {made['token']}")).principal == "team-a"
    assert path.read_text().startswith("# Ours.\n[[token]]")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "no token" in tokens(capsys, path, "revoke", "ada", code=2)
    # The last one too: a file that lets nobody in is in force as any other.
    tokens(capsys, path, "revoke", "team-a")
    assert reason(authority, Call(f"Bearer {made['token']}")) == "TOKEN_UNKNOWN"


def test_people_see_the_token_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens.toml"
    assert command.main(["new", "ada", "--role", "read", "--adapters", "*", "--tokens-file", str(path)]) == 0
    out, err = capsys.readouterr()
    assert digest_of(out.strip()) in path.read_text()
    assert out.strip() not in err
    assert "not shown again" in err
    assert command.main(["list", "--tokens-file", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "ada" in shown
    assert digest_of(out.strip()) not in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["new", "a b", "--role", "read", "--adapters", "*"], "principal: must be"),
        (["new", "ada", "--role", "read", "--adapters", "No"], "adapters: must be"),
        (["new", "ada", "--role", "read", "--adapters", "*", "--expires", "soon"], "90d"),
        (["new", "ada", "--role", "read", "--adapters", "*", "--expires", "2001-01-01T00:00:00Z"], "to come"),
    ],
)
def test_what_the_command_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    path = tmp_path / "tokens.toml"
    assert says in tokens(capsys, path, *words, code=2)
    assert not path.exists()


def test_the_command_leaves_a_broken_file_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("[[token")
    assert "no TOML" in tokens(capsys, path, "new", "ada", "--role", "read", "--adapters", "*", code=2)
    assert path.read_text() == "[[token"


def test_a_file_has_to_be_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(command.VARIABLE, raising=False)
    with pytest.raises(SystemExit):
        command.main(["list"])
    assert "--tokens-file" in capsys.readouterr().err
