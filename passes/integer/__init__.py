"""How quantized graphs become arithmetic on integers: what the pass `integers` (../integers.py) is made of."""
