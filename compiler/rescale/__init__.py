"""How sums of products of bytes become bytes again: numbers with which fewer instructions give the same."""
