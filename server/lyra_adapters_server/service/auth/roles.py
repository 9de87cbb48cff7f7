"""The one table of which role each RPC asks for. An RPC that is not in it is refused."""

from __future__ import annotations

from lyra_adapters_server.service.auth.caller import Role

ADAPTER_SERVICE = "/lyra_adapters.v1.AdapterService/"

ROLES: dict[str, Role] = {
    "Status": Role.READ,
    "Watch": Role.READ,
    "WatchAdapter": Role.READ,
    "List": Role.READ,
    "ListJobs": Role.READ,
    "ListFeedback": Role.READ,
    "Report": Role.READ,
    "Classify": Role.READ,
    "Download": Role.READ,
    "Train": Role.TRAIN,
    "Cancel": Role.TRAIN,
    "RecordFeedback": Role.TRAIN,
    "Activate": Role.OPERATE,
    "Rollback": Role.OPERATE,
    "DeleteVersion": Role.OPERATE,
    "DeleteFeedback": Role.OPERATE,
}

# The contract is no secret, but a stranger need not learn which server this is.
_OTHERS: dict[str, Role] = {
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.READ,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Role.READ,
}

# Asked by probes, which have no token.
FREE = frozenset({f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch", "List")})


def role_of(method: str) -> Role | None:
    """The least role that may call a full method name (`/package.Service/Method`); None: nobody may."""
    if method.startswith(ADAPTER_SERVICE):
        return ROLES.get(method.removeprefix(ADAPTER_SERVICE))
    return _OTHERS.get(method)
