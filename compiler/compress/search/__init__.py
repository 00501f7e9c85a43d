"""The search for a model within limits: candidates, their figures, and what is said of them."""
