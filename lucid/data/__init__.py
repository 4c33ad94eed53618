"""Datasets, transforms and the loader of batches."""

from lucid.data import datasets as datasets
from lucid.data import transforms as transforms
from lucid.data._collate import default_collate as default_collate
from lucid.data._dataset import Dataset as Dataset
from lucid.data._dataset import Subset as Subset
from lucid.data._dataset import TensorDataset as TensorDataset
from lucid.data._dataset import random_split as random_split
from lucid.data._loader import DataLoader as DataLoader
