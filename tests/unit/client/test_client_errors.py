"""One table maps a server's status to an exception; details come along."""

from typing import Any

import grpc
import pytest
from lyra_adapters import AdapterError, InvalidArgument, NotDue, Unavailable, errors
from lyra_adapters.testing import Fault


class Context:
    """Stands where a server's context and then the client's error would."""

    def __init__(self) -> None:
        self.metadata: Any = None

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.metadata = metadata

    def abort(self, code: grpc.StatusCode, message: str) -> None:
        self._code, self._message = code, message
        raise RuntimeError

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> Any:
        return self.metadata


def raised(fault: Fault) -> AdapterError:
    context = Context()
    with pytest.raises(RuntimeError):
        fault.abort(context)  # type: ignore[arg-type]
    return errors.from_call(context)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_has_an_exception_of_its_own(code: grpc.StatusCode) -> None:
    error = raised(Fault(code=code, message="m"))
    assert type(error) is errors.BY_CODE[code]
    assert isinstance(error, AdapterError)
    assert (error.code, error.message, error.reason) == (code, "m", "")


def test_details_are_read() -> None:
    error = raised(
        Fault(
            code=grpc.StatusCode.INVALID_ARGUMENT,
            message="Two fields are wrong.",
            reason="INVALID_FIELD",
            metadata={"limit": "256"},
            violations={"lora.rank": "must be 1 to 256", "samples[1].premise": "is empty"},
            retry_after=1.5,
            help_url="https://example.org/help",
        )
    )
    assert type(error) is InvalidArgument
    assert isinstance(error, ValueError)
    assert error.metadata == {"limit": "256"}
    assert [violation.field for violation in error.violations] == ["lora.rank", "samples[1].premise"]
    assert error.retry_after == 1.5
    assert error.links == ("https://example.org/help",)
    assert str(error) == "Two fields are wrong.\n  lora.rank: must be 1 to 256\n  samples[1].premise: is empty"
    assert error.to_dict()["violations"][0] == {"field": "lora.rank", "description": "must be 1 to 256"}


@pytest.mark.parametrize(
    ("reason", "have", "need"), [("NOT_ENOUGH_SAMPLES", 12, 50), ("ERROR_RATE_TOO_LOW", 0.05, 0.1)]
)
def test_training_that_is_not_due_says_what_there_is_and_what_is_needed(reason: str, have: float, need: float) -> None:
    metadata = {"have": str(have), "need": str(need)}
    error = raised(Fault(code=grpc.StatusCode.FAILED_PRECONDITION, reason=reason, metadata=metadata))
    assert isinstance(error, NotDue)
    assert isinstance(error, errors.FailedPrecondition)
    assert (error.have, error.need) == (have, need)


def test_details_that_cannot_be_read_are_no_details() -> None:
    context = Context()
    with pytest.raises(RuntimeError):
        Fault(code=grpc.StatusCode.UNAVAILABLE, message="m").abort(context)  # type: ignore[arg-type]
    context.metadata = ((errors.DETAILS_KEY, b"\xff\xff"),)
    assert type(errors.from_call(context)) is Unavailable
