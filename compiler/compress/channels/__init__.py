"""Channels removed: which belong together, what each costs, how many of each family go."""
