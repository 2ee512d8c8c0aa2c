"""Tests of curate/source."""
