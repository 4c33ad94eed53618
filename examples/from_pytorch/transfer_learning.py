"""Transfer learning: a network that knows five digits learns the other five from few pictures.

    python examples/from_pytorch/transfer_learning.py
    python examples/from_pytorch/transfer_learning.py --size small

A small residual network first learns scikit-learn's pictures of the digits 0 to 4. Then it gets a
new last layer, and learns 5 to 9 from three pictures each, in two ways: all weights are trained on,
or all but the last layer's are kept as they are. The rate is lowered by a schedule, and the weights
are kept that did best on held-out pictures. A network that begins with nothing is compared.

What had to change from PyTorch:

- the imports
"""

import argparse
import copy

import numpy as np
from sklearn.datasets import load_digits

import lucid as torch
import lucid.nn as nn
import lucid.nn.functional as F
import lucid.optim as optim
from lucid.optim import lr_scheduler
from lucid.utils.data import DataLoader, TensorDataset

SIZES = {"small": (4, 6), "full": (12, 20)}  # epochs: of the first digits, and of the others


class Block(nn.Module):
    """Two convolutions with batch norm, beside a way past them."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)


class SmallResNet(nn.Module):
    """Maps pictures (N, 1, 8, 8) to logits (N, classes)."""

    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(Block(1, 8, 1), Block(8, 16, 2), Block(16, 32, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        x = self.avgpool(self.layers(x))
        return self.fc(torch.flatten(x, 1))


def loaders(digits, train_size, batch_size):
    """Return loaders for training and validation, of some pictures of each digit."""
    images, labels = load_digits(return_X_y=True)
    parts = {"train": [], "val": []}
    for digit in digits:
        places = np.flatnonzero(labels == digit)
        parts["train"].extend(places[:train_size])
        parts["val"].extend(places[-60:])
    x = torch.from_numpy(images.astype(np.float32)).view(-1, 1, 8, 8) / 16
    y = torch.from_numpy(labels) - min(digits)
    return {
        phase: DataLoader(TensorDataset(x[part], y[part]), batch_size, shuffle=phase == "train")
        for phase, part in parts.items()
    }


def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs):
    """Train, and return the best accuracy on validation pictures; the model has those weights."""
    best_weights = copy.deepcopy(model.state_dict())
    best_acc = 0.0
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss = 0.0
            running_corrects = 0
            for inputs, labels in dataloaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data)
            if phase == "train":
                scheduler.step()
            count = len(dataloaders[phase].dataset)
            epoch_acc = running_corrects.double() / count
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc.item()
                best_weights = copy.deepcopy(model.state_dict())
        print(f"epoch {epoch}: loss {running_loss / count:.4f}, accuracy {epoch_acc:.4f}")
    model.load_state_dict(best_weights)
    return best_acc


def learn(model, parameters, dataloaders, epochs, lr=0.02):
    """Train some of the parameters with a rate that falls once."""
    optimizer = optim.SGD(parameters, lr=lr, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=epochs // 2, gamma=0.1)
    return train_model(model, dataloaders, F.cross_entropy, optimizer, scheduler, epochs)


def main(size="full"):
    """Return the accuracies: of fine-tuning, of a new last layer alone, and from nothing."""
    torch.manual_seed(0)
    first_epochs, epochs = SIZES[size]
    known = SmallResNet(5)
    learn(known, known.parameters(), loaders(range(5), 110, 25), first_epochs, lr=0.05)
    few = loaders(range(5, 10), 3, 5)
    accuracies = {}

    print("All weights are trained on.")
    model = copy.deepcopy(known)
    model.fc = nn.Linear(model.fc.in_features, 5)
    accuracies["fine-tuned"] = learn(model, model.parameters(), few, epochs)

    print("The last layer alone is trained.")
    model = copy.deepcopy(known)
    for param in model.parameters():
        param.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, 5)
    accuracies["last layer"] = learn(model, model.fc.parameters(), few, epochs)

    print("Nothing is known.")
    model = SmallResNet(5)
    accuracies["from nothing"] = learn(model, model.parameters(), few, epochs)
    for name, accuracy in accuracies.items():
        print(f"{name}: {100 * accuracy:.1f} %")
    return accuracies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    main(parser.parse_args().size)
