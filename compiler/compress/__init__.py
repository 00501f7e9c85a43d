"""Compression of float graphs: channels removed, weights split or made sparse, and the repair of what is left."""
