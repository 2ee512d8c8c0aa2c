"""Turn prompts or preference data into preference datasets that can be trusted."""

__version__ = "0.1.0"
