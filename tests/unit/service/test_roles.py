"""Every RPC declares the role it asks for; one that does not is refused."""

from __future__ import annotations

import pytest
from lyra_adapters.v1 import adapter_service_pb2 as pb
from lyra_adapters_server.errors import Kind, Refusal
from lyra_adapters_server.service.auth.authority import Authority
from lyra_adapters_server.service.auth.caller import ANONYMOUS, Role
from lyra_adapters_server.service.auth.gate import Gate
from lyra_adapters_server.service.auth.roles import ADAPTER_SERVICE, ROLES, role_of

SERVICE = pb.DESCRIPTOR.services_by_name["AdapterService"]


def test_each_rpc_declares_its_role_and_nothing_else_does() -> None:
    assert f"/{SERVICE.full_name}/" == ADAPTER_SERVICE
    assert set(ROLES) == {method.name for method in SERVICE.methods}, "declare new RPCs in service/auth/roles.py"


@pytest.mark.parametrize("method", [ADAPTER_SERVICE + "Undeclared", "/other.Service/Status", "Status", ""])
def test_what_is_not_declared_is_refused_whoever_asks(method: str) -> None:
    assert role_of(method) is None
    with pytest.raises(Refusal) as refused:
        Gate(Authority(None, certificates=False)).admit(method, ANONYMOUS)
    assert (refused.value.kind, refused.value.reason) == (Kind.PERMISSION_DENIED, "RPC_NOT_DECLARED")


def test_each_role_includes_those_before_it() -> None:
    assert Role.READ < Role.TRAIN < Role.OPERATE
