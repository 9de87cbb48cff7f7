"""Where the server is, and when a token may travel."""

import pytest
from lyra_adapters.channel import DEFAULT_SERVER, SERVER_VARIABLE, Connection, is_loopback


def test_the_address_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)
    assert Connection().address == DEFAULT_SERVER
    monkeypatch.setenv(SERVER_VARIABLE, "gpu:50051")
    assert Connection().address == "gpu:50051"
    assert Connection(target="other:1").address == "other:1"


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.0.1:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("ipv6:[::1]:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("dns:///localhost:50051", True),
        ("unix:/run/lyra.sock", True),
        ("10.0.0.1:50051", False),
        ("127.0.0.1.example.org:50051", False),
        ("127.evil.org:50051", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("localhost.example.org:50051", False),
        ("[fd00::1]:50051", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_a_token_does_not_travel_in_the_clear() -> None:
    with pytest.raises(ValueError, match="unencrypted"):
        Connection(target="gpu:50051", token="secret")
    assert Connection(target="gpu:50051", token="secret", tls=True).metadata("id") == (("x-request-id", "id"),)
    local = Connection(target="127.0.0.1:1", token="secret")
    assert ("authorization", "Bearer secret") in local.metadata("id")


def test_a_token_file_is_read_for_each_call(tmp_path) -> None:
    file = tmp_path / "token"
    connection = Connection(target="localhost:1", token_file=file)
    for token in ("one", "two"):
        file.write_text(token + "\n")
        assert ("authorization", f"Bearer {token}") in connection.metadata("id")


def test_settings_that_cannot_work_together_are_refused() -> None:
    with pytest.raises(ValueError, match="either"):
        Connection(token="a", token_file="b")
    with pytest.raises(ValueError, match="key"):
        Connection(cert="c")


def test_what_is_not_given_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"):
        monkeypatch.setenv(f"LYRA_ADAPTERS_{name}", "")
    assert not Connection(target="gpu:1").secure
    monkeypatch.setenv("LYRA_ADAPTERS_TOKEN", "one")
    monkeypatch.setenv("LYRA_ADAPTERS_TOKEN_FILE", "file")
    local = Connection(target="127.0.0.1:1")
    assert (local.token, local.token_file) == ("one", None)
    # What is given is meant more than a variable that happens to be set.
    assert Connection(target="127.0.0.1:1", token_file="mine").token is None
    with pytest.raises(ValueError, match="unencrypted"):
        Connection(target="gpu:1")
    monkeypatch.delenv("LYRA_ADAPTERS_TOKEN")
    assert Connection(target="127.0.0.1:1").token_file == "file"
    monkeypatch.setenv("LYRA_ADAPTERS_CA", "ca.pem")
    monkeypatch.setenv("LYRA_ADAPTERS_CERT", "cert.pem")
    monkeypatch.setenv("LYRA_ADAPTERS_KEY", "key.pem")
    remote = Connection(target="gpu:1")
    assert remote.secure
    assert (remote.ca, remote.cert, remote.key) == ("ca.pem", "cert.pem", "key.pem")


def test_a_token_travels_in_the_clear_if_told() -> None:
    told = Connection(target="gpu:50051", token="secret", insecure=True)
    assert ("authorization", "Bearer secret") in told.metadata("id")
