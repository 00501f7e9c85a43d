"""Where data lie: offsets in the arena, constants, and the regions of boards that have several memories."""
