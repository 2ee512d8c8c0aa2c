"""Versions: split, layout, card, report, and reading them back (show, diff, why)."""
