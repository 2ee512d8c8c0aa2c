"""Entry point of a full run, for `prefect deploy`: see prefect.yaml beside it."""

from curate.flow import curation

__all__ = ["curation"]
