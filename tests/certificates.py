"""Certificates made on the spot, with trustme."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

HOST = "127.0.0.1"


class Certificates:
    """An authority and what it issued, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def issue(
        self, name: str, *identities: str, expired: bool = False, common_name: str | None = None
    ) -> tuple[Path, Path]:
        """Certificate and key for the identities (default: this host), as `NAME.pem` and `NAME.key`."""
        end = datetime.now(UTC) - timedelta(days=1) if expired else None
        leaf = self._authority.issue_cert(*(identities or (HOST, "localhost")), common_name=common_name, not_after=end)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        fresh = cert.with_suffix(".new")
        fresh.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        fresh.replace(cert)
        fresh.write_bytes(leaf.private_key_pem.bytes())
        fresh.replace(key)
        return cert, key
