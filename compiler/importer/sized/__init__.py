"""Values whose size depends on data: which operators may read them, and what becomes of the count."""
