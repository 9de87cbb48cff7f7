"""The short form of the campaign: at least 30 kills. The long one is `make test-crash`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from campaign import Campaign, prepare

# In an order that needs few trainings: once a directory has its name, its publication goes on without a trainer.
SHORT = (
    "accept.after",
    "lease.claim.before",
    "lease.claim.after",
    "lease.renew.before",
    "lease.renew.after",
    "acknowledge.before",
    "rollback.before",
    "rollback.after",
    "activate.before",
    "activate.after",
    "link.pointer.before",
    "link.pointer.after",
    "link.file.before",
    "link.file.after",
    "feedback.before",
    "feedback.after",
    "cancel.before",
    "cancel.after",
    "publish.reserve.after",
    "publish.rename.after",
    "publish.commit.before",
    "publish.commit.after",
    "link.flat.before",
    "link.flat.after",
    "event.before",
    "event.after",
    "fsync.file.before",
    "fsync.directory.after",
)


@pytest.mark.timeout(400)
def test_no_promise_is_broken_by_thirty_kills(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    try:
        prepare(campaign)
        for point in SHORT:
            campaign.kill_at(point)
        campaign.kill_at("adapter.write.after", "lease.release.before")
        campaign.kill_at_random("worker")
        campaign.kill_at_random("server")
        campaign.finish()
    finally:
        if campaign.server:
            campaign.reap()
        campaign.callers.end()
    print(campaign.counts().table())
    assert campaign.checker.violations == []
    assert campaign.missed == []
    assert campaign.kills.total() >= 30
