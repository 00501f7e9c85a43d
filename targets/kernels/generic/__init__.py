"""Rows for any shape in any layout: what runs where no faster row does.

The package above imports the rows: `choice.py` is what all templates share, and loads none of them.
"""
