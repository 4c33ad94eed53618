"""Training a classifier: a small convolutional network learns to read digits.

    python examples/from_pytorch/classifier.py                # 12 epochs
    python examples/from_pytorch/classifier.py --size small   # 6

The program has a dataset of its own class, a loader, a network of two convolutions, cross-entropy,
SGD with momentum, a loop that prints the running loss, weights that are saved and read again, and
the accuracy of each class. The pictures are scikit-learn's.

What had to change from PyTorch:

- the imports
- weights are saved to a file that ends in ``.npz``
"""

import argparse
import os
import tempfile

from sklearn.datasets import load_digits

import lucid as torch
import lucid.nn as nn
import lucid.nn.functional as F
import lucid.optim as optim

SIZES = {"small": 6, "full": 12}  # epochs


class Digits(torch.utils.data.Dataset):
    """Pictures (1, 8, 8) from -1 to 1, with their labels; every fifth is for testing."""

    def __init__(self, train):
        images, labels = load_digits(return_X_y=True)
        chosen = [i for i in range(len(labels)) if (i % 5 != 0) == train]
        self.images = torch.tensor(images[chosen], dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
        self.labels = torch.tensor(labels[chosen], dtype=torch.long)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


class Net(nn.Module):
    """Two convolutions, each with pooling, and three linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 2 * 2, 60)
        self.fc2 = nn.Linear(60, 40)
        self.fc3 = nn.Linear(40, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def train(net, loader, epochs, device):
    """Train, and print the mean loss of every 100 batches."""
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(epochs):
        running_loss = 0.0
        for i, data in enumerate(loader, 0):
            inputs, labels = data[0].to(device), data[1].to(device)
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            if i % 100 == 99:
                print(f"[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 100:.3f}")
                running_loss = 0.0


def accuracies(net, loader, device):
    """Return the accuracy of each class."""
    correct = dict.fromkeys(range(10), 0)
    total = dict.fromkeys(range(10), 0)
    net.eval()
    with torch.no_grad():
        for images, labels in loader:
            outputs = net(images.to(device))
            _, predictions = torch.max(outputs, 1)
            for label, prediction in zip(labels, predictions.cpu()):
                correct[label.item()] += int(label == prediction)
                total[label.item()] += 1
    return {digit: correct[digit] / total[digit] for digit in total}


def main(size="full"):
    """Train, save, read, and return the accuracy of the worst class."""
    torch.manual_seed(0)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    train_loader = torch.utils.data.DataLoader(
        Digits(True), batch_size=8, shuffle=True, num_workers=0
    )
    test_loader = torch.utils.data.DataLoader(Digits(False), batch_size=64, shuffle=False)
    net = Net().to(device)
    train(net, train_loader, SIZES[size], device)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.npz")
        torch.save(net.state_dict(), path)
        net = Net()
        net.load_state_dict(torch.load(path, weights_only=True))

    found = accuracies(net.to(device), test_loader, device)
    for digit, accuracy in found.items():
        print(f"accuracy of {digit}: {100 * accuracy:.1f} %")
    return min(found.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    main(parser.parse_args().size)
