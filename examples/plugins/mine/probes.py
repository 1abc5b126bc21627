import torch


def axes(points, labels, training_points, *, count, rng):
    """Along single pixels, brighter or darker."""
    size = points.shape[1]
    directions = torch.zeros(len(points), count, size)
    pixels = torch.from_numpy(rng.integers(size, size=(len(points), count)))
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], size=(len(points), count))).float()
    return directions.scatter_(2, pixels[:, :, None], signs[:, :, None])
