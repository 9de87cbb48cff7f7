# ruff: noqa: ASYNC109 - a call's deadline travels to the server; asyncio.timeout would not tell it
"""What the asyncio client does with recorded reviews; the documentation of `FeedbackCalls` holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from lyra_adapters import feedback_pages, requests
from lyra_adapters.aio_transport import AsyncTransport
from lyra_adapters.errors import InvalidArgument
from lyra_adapters.models.feedback import DeletedFeedback, FeedbackSummary, RecordedReview
from lyra_adapters.models.service import FeedbackReceipt
from lyra_adapters.models.versions import Page


class AsyncFeedbackCalls(AsyncTransport):
    """Records, lists and counts reviews. See `FeedbackCalls`."""

    async def record_feedback(
        self, reviews: Iterable[requests.ReviewLike], *, actor: str = "", timeout: float | None = None
    ) -> FeedbackReceipt:
        """Stores reviews for later training; storing one twice changes nothing.

        Any number: they go in calls of at most 1,000, each stored as a whole. After an error, repeat it all.
        `timeout` is for each call.
        """
        receipts = []
        for page in feedback_pages.pages(reviews, actor=actor):
            try:
                receipts.append(await self._run(page.call, timeout))
            except InvalidArgument as error:
                raise page.located(error) from None
        return feedback_pages.joined(receipts)

    async def delete_feedback(
        self, *, task_ids: Iterable[str] = (), sample_ids: Iterable[str] = (), timeout: float | None = None
    ) -> DeletedFeedback:
        """Deletes users' texts for good: reviews with all revisions, and the copies kept with finished jobs.

        Args:
            task_ids: All of these tasks, the rows of their jobs too. At most 1,000.
            sample_ids: Those with these ids. At most 1,000.
            timeout: Seconds.

        Raises:
            FailedPrecondition: A job that waits or runs trains on such rows (reason ROWS_IN_USE).
        """
        return await self._run(requests.delete_feedback(task_ids, sample_ids), timeout)

    async def list_feedback(
        self,
        *,
        task_ids: Iterable[str] = (),
        domains: Iterable[str] = (),
        reviewed_after: datetime | None = None,
        reviewed_before: datetime | None = None,
        used_by: str = "",
        not_used_by: str = "",
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Page[RecordedReview]:
        """One page of recorded reviews, newest first; the filters are those of `feedback`."""
        call = requests.feedback(
            task_ids=task_ids,
            domains=domains,
            reviewed_after=reviewed_after,
            reviewed_before=reviewed_before,
            used_by=used_by,
            not_used_by=not_used_by,
            page_size=page_size,
            page_token=page_token,
        )
        return await self._run(call, timeout)

    async def feedback(
        self,
        *,
        task_ids: Iterable[str] = (),
        domains: Iterable[str] = (),
        reviewed_after: datetime | None = None,
        reviewed_before: datetime | None = None,
        used_by: str = "",
        not_used_by: str = "",
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[RecordedReview]:
        """All recorded reviews, newest first, page after page; arguments as `AdapterClient.feedback`."""
        token, task_ids, domains = "", tuple(task_ids), tuple(domains)
        while True:
            page = await self.list_feedback(
                task_ids=task_ids,
                domains=domains,
                reviewed_after=reviewed_after,
                reviewed_before=reviewed_before,
                used_by=used_by,
                not_used_by=not_used_by,
                page_size=page_size,
                page_token=token,
                timeout=timeout,
            )
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def feedback_summary(
        self,
        *,
        task_ids: Iterable[str] = (),
        domains: Iterable[str] = (),
        reviewed_after: datetime | None = None,
        reviewed_before: datetime | None = None,
        used_by: str = "",
        not_used_by: str = "",
        timeout: float | None = None,
    ) -> FeedbackSummary:
        """Counts of recorded reviews; the filters are those of `feedback`."""
        call = requests.feedback_summary(
            task_ids=task_ids,
            domains=domains,
            reviewed_after=reviewed_after,
            reviewed_before=reviewed_before,
            used_by=used_by,
            not_used_by=not_used_by,
        )
        return await self._run(call, timeout)
