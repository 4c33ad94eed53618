"""A DCGAN: one network draws digits, another tells them from real ones, and both learn from it.

    python examples/from_pytorch/dcgan.py
    python examples/from_pytorch/dcgan.py --size small

The generator makes a picture of random numbers by transposed convolutions, the discriminator says
how real a picture looks, by convolutions with strides. Both begin with small random weights and
learn in turn, with Adam. The pictures are scikit-learn's, 8 × 8.

What had to change from PyTorch:

- the imports
- ``nn.init.normal_(m.weight.data, …)`` is ``nn.init.normal_(m.weight, …)``: ``data`` is a NumPy
  array
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import lucid as torch
import lucid.nn as nn
import lucid.optim as optim
from lucid.utils.data import DataLoader, TensorDataset

SIZES = {"small": 10, "full": 60}  # epochs
NZ, NGF, NDF = 16, 16, 16  # random numbers, and the narrowest width of each network


def weights_init(m):
    """Draw the weights of a layer anew."""
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight, 1.0, 0.02)
        nn.init.constant_(m.bias, 0)


class Generator(nn.Module):
    """Maps random numbers (N, NZ, 1, 1) to pictures (N, 1, 8, 8) from -1 to 1."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(NZ, NGF * 4, 2, 1, 0, bias=False),
            nn.BatchNorm2d(NGF * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF * 4, NGF * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NGF * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF * 2, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    """Maps pictures to the probability (N, 1, 1, 1) that they are real."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, NDF, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(NDF, NDF * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NDF * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(NDF * 2, 1, 2, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, input):
        return self.main(input)


def train(generator, discriminator, dataloader, epochs, device):
    """Let both learn, in turn."""
    criterion = nn.BCELoss()
    real_label, fake_label = 1.0, 0.0
    optimizer_d = optim.Adam(discriminator.parameters(), lr=0.001, betas=(0.5, 0.999))
    optimizer_g = optim.Adam(generator.parameters(), lr=0.002, betas=(0.5, 0.999))
    for epoch in range(epochs):
        for data in dataloader:
            # The discriminator: real pictures, and drawn ones.
            discriminator.zero_grad()
            real = data[0].to(device)
            b_size = real.size(0)
            label = torch.full((b_size,), real_label, dtype=torch.float, device=device)
            output = discriminator(real).view(-1)
            err_real = criterion(output, label)
            err_real.backward()
            d_x = output.mean().item()

            noise = torch.randn(b_size, NZ, 1, 1, device=device)
            fake = generator(noise)
            label.fill_(fake_label)
            output = discriminator(fake.detach()).view(-1)
            err_fake = criterion(output, label)
            err_fake.backward()
            err_d = err_real + err_fake
            optimizer_d.step()

            # The generator: drawn ones are to be taken for real.
            generator.zero_grad()
            label.fill_(real_label)
            output = discriminator(fake).view(-1)
            err_g = criterion(output, label)
            err_g.backward()
            d_g = output.mean().item()
            optimizer_g.step()
        print(
            f"[{epoch + 1}/{epochs}] loss D: {err_d.item():.3f}, G: {err_g.item():.3f}, "
            f"D(x): {d_x:.3f}, D(G(z)): {d_g:.3f}"
        )


def draw(picture):
    """Return the lines of a picture (8, 8) in letters."""
    return ["".join(" .:*#"[int(2.49 * (value + 1))] for value in row) for row in picture.tolist()]


def main(size="full"):
    """Return pictures (N, 8, 8), real and drawn ones."""
    torch.manual_seed(999)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    images = torch.tensor(load_digits().images.astype(np.float32)).unsqueeze(1) / 8 - 1
    dataloader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True, drop_last=True)
    generator = Generator().to(device)
    generator.apply(weights_init)
    discriminator = Discriminator().to(device)
    discriminator.apply(weights_init)
    train(generator, discriminator, dataloader, SIZES[size], device)

    fixed_noise = torch.randn(256, NZ, 1, 1, device=device)
    with torch.no_grad():
        fake = generator(fixed_noise).detach().cpu().squeeze(1)
    for lines in zip(*(draw(picture) for picture in fake[:6])):
        print("  ".join(lines))
    return images.squeeze(1).numpy(), fake.numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    main(parser.parse_args().size)
