"""A spatial transformer: a network finds the digit in a picture, and looks at that part alone.

    python examples/from_pytorch/spatial_transformer.py
    python examples/from_pytorch/spatial_transformer.py --size small

Each of scikit-learn's digits is put somewhere into a picture that is twice as high and wide. A
localisation network says where to look, as an affine map; the part that it names is sampled, and
two linear layers tell which digit it is. They cannot find a digit themselves: without the
localisation network the same layers name few of the digits.

What had to change from PyTorch:

- the imports
- ``layer.weight.data.zero_()`` is ``nn.init.zeros_(layer.weight)``, and
  ``layer.bias.data.copy_(…)`` is ``layer.bias.copy_(…)`` where no gradients are recorded: ``data``
  is a NumPy array
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import lucid as torch
import lucid.nn as nn
import lucid.nn.functional as F
import lucid.optim as optim
from lucid.utils.data import DataLoader, TensorDataset

SIZES = {"small": 11, "full": 60}  # epochs


class Net(nn.Module):
    """Maps pictures (N, 1, 16, 16) to the logarithms of probabilities (N, 10)."""

    def __init__(self, looks=True):
        super().__init__()
        self.looks = looks
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=5, padding=2),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
            nn.Conv2d(8, 10, kernel_size=5, padding=2),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
        )
        self.fc_loc = nn.Sequential(nn.Linear(10 * 4 * 4, 32), nn.ReLU(True), nn.Linear(32, 3 * 2))
        # It begins by looking at the middle, half as wide as the picture.
        nn.init.zeros_(self.fc_loc[2].weight)
        with torch.no_grad():
            self.fc_loc[2].bias.copy_(torch.tensor([0.5, 0, 0, 0, 0.5, 0], dtype=torch.float))
        self.fc1 = nn.Linear(64, 50)
        self.fc2 = nn.Linear(50, 10)

    def theta(self, x):
        """Return where to look: affine maps (N, 2, 3)."""
        xs = self.localization(x)
        xs = xs.view(-1, 10 * 4 * 4)
        theta = self.fc_loc(xs)
        if not self.looks:
            theta = self.fc_loc[2].bias.detach().expand(x.size(0), 6)
        return theta.view(-1, 2, 3)

    def stn(self, x):
        """Return the parts that are looked at, (N, 1, 8, 8)."""
        grid = F.affine_grid(self.theta(x), [x.size(0), 1, 8, 8], align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def forward(self, x):
        x = self.stn(x)
        x = F.relu(self.fc1(x.view(-1, 64)))
        x = F.dropout(x, 0.1, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


def place(images, rng):
    """Put pictures (N, 8, 8) into pictures (N, 1, 16, 16), somewhere."""
    large = np.zeros((len(images), 1, 16, 16), np.float32)
    for picture, image, (top, left) in zip(large, images, rng.integers(0, 9, (len(images), 2))):
        picture[0, top : top + 8, left : left + 8] = image / 16
    return large


def train(model, loader, optimizer):
    """Train for one epoch."""
    model.train()
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()


def test(model, loader):
    """Return the mean loss, and the part of the pictures that are told right."""
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.max(1, keepdim=True)[1]
            correct += pred.eq(target.view_as(pred)).sum().item()
    return test_loss / len(loader.dataset), correct / len(loader.dataset)


def learn(epochs, looks):
    """Train a network, and return its accuracy."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images, labels = load_digits().images, torch.tensor(load_digits().target)
    test_data = TensorDataset(torch.from_numpy(place(images[1400:], rng)), labels[1400:])
    test_loader = DataLoader(test_data, batch_size=128)
    model = Net(looks)
    # Where to look is learned slower, or the network soon looks where there is nothing.
    places = [*model.localization.parameters(), *model.fc_loc.parameters()]
    digits = [*model.fc1.parameters(), *model.fc2.parameters()]
    optimizer = optim.Adam([{"params": places, "lr": 2e-3}, {"params": digits}], lr=5e-3)
    for epoch in range(1, epochs + 1):
        data = torch.from_numpy(place(images[:1400], rng))  # elsewhere in every epoch
        loader = DataLoader(TensorDataset(data, labels[:1400]), batch_size=32, shuffle=True)
        train(model, loader, optimizer)
        loss, accuracy = test(model, test_loader)
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {100 * accuracy:.1f} %")
    return accuracy


def main(size="full"):
    """Return the accuracies with and without the localisation network."""
    print("The network looks where it wants to.")
    looking = learn(SIZES[size], True)
    print("It looks at the middle.")
    return looking, learn(SIZES[size], False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    main(parser.parse_args().size)
