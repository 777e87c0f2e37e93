"""LeNet: the small digit classifier whose last hidden layer measures generated digits."""

import torch
import torch.nn.functional as F
from torch import nn


class LeNet(nn.Module):
    """Convolutional classifier of 28x28 digits with `num_features` = 128 features before the last layer.

    features(x) = relu(W_3 vec(pool(relu(C_2 pool(relu(C_1 x)))))),    logits = W_4 features(x),

    with 5x5 convolutions C_1 (1 to 16 channels) and C_2 (16 to 32), 2x2 maximum pooling, and, in training only, dropout
    of a share `dropout` in [0, 1) on the way to W_3 and to W_4. 80 thousand parameters.
    """

    num_features = 128
    num_classes = 10

    def __init__(self, dropout=0.25):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.hidden = nn.Linear(32 * 4 * 4, self.num_features)
        self.head = nn.Linear(self.num_features, self.num_classes)
        self.dropout = nn.Dropout(dropout)
        #: Unit of the features as a yardstick, set after training; see `gwf.metrics.lenet.extract`.
        self.register_buffer("scale", torch.ones(()))

    def features(self, x):
        """Non-negative features (n, 128) of images x (n, 1, 28, 28) in [-1, 1]."""
        x = F.max_pool2d(self.conv1(x), 2).relu()
        x = F.max_pool2d(self.conv2(x), 2).relu()
        return self.hidden(self.dropout(x.flatten(1))).relu()

    def logits(self, features):
        """Class scores (n, 10) of features (n, 128)."""
        return self.head(self.dropout(features))

    def forward(self, x):
        """Class scores (n, 10) of images x (n, 1, 28, 28) in [-1, 1]."""
        return self.logits(self.features(x))
