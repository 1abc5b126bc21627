"""TorchCP's TSTrainer with its defaults, from a temperature of 1, on a model that returns its inputs."""

import torch
from torch.utils.data import DataLoader, TensorDataset
from torchcp.classification.trainer import TSTrainer

TITLE = "TorchCP"
REQUIRES = ("torch<2.14", "torchvision", "transformers", "torch_geometric", "scikit-learn", "pandas", "tqdm")
ALONE = ("torchcp==1.2.1",)
UPSTREAM = "https://github.com/ml-stat-Sustech/TorchCP"
ADVICE = 'a loop of `torch.optim.LBFGS([T], max_iter=100, line_search_fn="strong_wolfe")` on float64 logits.'


def fit(logits, labels):
    samples = TensorDataset(torch.from_numpy(logits), torch.from_numpy(labels))
    trainer = TSTrainer(torch.nn.Identity(), init_temperature=1.0, device=torch.device("cpu"), verbose=False)
    return trainer.train(DataLoader(samples, batch_size=10_000)).get_temperature()
