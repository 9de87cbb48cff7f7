"""Where a job runs: a local worker process."""
