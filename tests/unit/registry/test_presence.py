"""Servers that live hold a lock; one that is dead holds none, however it died."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from lyra_adapters_server.registry.presence import Presence, forget_dead, gone, living
from lyra_adapters_server.registry.repair import expire_leases_of_the_dead
from lyra_adapters_server.storage import jobs
from lyra_adapters_server.storage.database import now_us
from made_registry import MadeRegistry

OTHER = """
import sys
from pathlib import Path
from lyra_adapters_server.registry.presence import Presence
with Presence(Path(sys.argv[1])) as presence:
    print(presence.owner, flush=True)
    sys.stdin.read()
"""


def test_a_killed_server_is_known_to_be_gone(registry: MadeRegistry) -> None:
    directory = registry.layout.servers
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    owner = other.stdout.readline().strip()
    registry.add_job(ended=False, job_id="held")
    now = now_us()
    registry.database.write_now(lambda c: jobs.claim(c, owner, now, now + 3600 * 1_000_000))
    with Presence(directory) as me:
        assert living(directory) == sorted([me.owner, owner])
        assert not gone(directory, owner)
        assert registry.database.write_now(lambda c: expire_leases_of_the_dead(registry.layout, c)) == 0
        other.kill()
        other.communicate()
        time.sleep(0.05)
        assert gone(directory, owner)
        assert registry.database.write_now(lambda c: expire_leases_of_the_dead(registry.layout, c)) == 1
        job = registry.database.write_now(lambda c: jobs.claim(c, me.owner, now_us(), now_us() + 10**9))
        assert job
        assert (job.job_id, job.interruptions) == ("held", 1)
        assert forget_dead(directory) == 1
    assert living(directory) == []


def test_nothing_is_known_of_a_server_without_a_file(tmp_path: Path) -> None:
    assert not gone(tmp_path, "somebody")
