"""Compiled bundles run from Python: opened, executed and timed through the C runtime, or handed to an emulator."""
