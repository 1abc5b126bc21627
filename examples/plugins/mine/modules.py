from torch import nn


class Smoothed(nn.Module):
    def __init__(self, amount=0.1):
        super().__init__()
        self.loss = nn.CrossEntropyLoss(label_smoothing=amount)

    def forward(self, logits, labels):
        return self.loss(logits, labels)
