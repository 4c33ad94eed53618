"""A variational autoencoder: digits described by a few numbers, and drawn from them.

    python examples/from_pytorch/variational_autoencoder.py
    python examples/from_pytorch/variational_autoencoder.py --size small

The encoder gives a mean and a variance for each of the numbers, they are drawn from there, and the
decoder makes a picture of them. The loss is the binary cross-entropy of the picture and the
divergence of the numbers from a normal distribution. The pictures are scikit-learn's.

What had to change from PyTorch:

- the imports
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import lucid as torch
from lucid import nn, optim
from lucid.nn import functional as F
from lucid.utils.data import DataLoader, TensorDataset, random_split

SIZES = {"small": 12, "full": 60}  # epochs


class VAE(nn.Module):
    """Maps pictures (N, 64) to pictures, means and logarithms of variances."""

    def __init__(self, numbers=8):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc21 = nn.Linear(128, numbers)
        self.fc22 = nn.Linear(128, numbers)
        self.fc3 = nn.Linear(numbers, 128)
        self.fc4 = nn.Linear(128, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    """Return the sum of both parts of the loss over a batch."""
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def train(model, loader, optimizer):
    """Train for one epoch, and return the mean loss of a picture."""
    model.train()
    train_loss = 0
    for (data,) in loader:
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    return train_loss / len(loader.dataset)


def test(model, loader):
    """Return the mean loss of a held-out picture."""
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for (data,) in loader:
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
    return test_loss / len(loader.dataset)


def draw(picture):
    """Return the lines of a picture (64,) in letters."""
    shades = [" .:*#"[int(4.99 * value)] for value in picture.tolist()]
    return ["".join(shades[8 * row : 8 * row + 8]) for row in range(8)]


def main(size="full"):
    """Return the loss of held-out pictures, and that of one picture for all: their mean."""
    torch.manual_seed(1)
    images = torch.from_numpy(load_digits().data.astype(np.float32)) / 16
    train_data, test_data = random_split(TensorDataset(images), [1500, len(images) - 1500])
    train_loader = DataLoader(train_data, batch_size=32, shuffle=True)
    test_loader = DataLoader(test_data, batch_size=128)
    model = VAE()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, SIZES[size] + 1):
        train_loss = train(model, train_loader, optimizer)
        test_loss = test(model, test_loader)
        print(f"epoch {epoch}: loss {train_loss:.2f}, of held-out pictures {test_loss:.2f}")

    with torch.no_grad():
        sample = model.decode(torch.randn(6, 8)).cpu()
    for lines in zip(*(draw(picture) for picture in sample)):
        print("  ".join(lines))
    mean = images.mean(dim=0).expand(len(images), 64)
    return test_loss, F.binary_cross_entropy(mean, images, reduction="sum").item() / len(images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    main(parser.parse_args().size)
