"""The command line: verbs on things, tables for people, --json for programs."""
