from .mma_shape import Tile
def best(problem, product):
    return [(Tile(64, 64, 64, 2, 2), 10.0)]
