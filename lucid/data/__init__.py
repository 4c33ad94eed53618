"""Datasets, transforms and the loader of batches."""

from lucid.data import datasets as datasets
from lucid.data import transforms as transforms
from lucid.data._cached import Cached as Cached
from lucid.data._classes import imagenet_classes as imagenet_classes
from lucid.data._collate import default_collate as default_collate
from lucid.data._dataset import ConcatDataset as ConcatDataset
from lucid.data._dataset import Dataset as Dataset
from lucid.data._dataset import Subset as Subset
from lucid.data._dataset import TensorDataset as TensorDataset
from lucid.data._load_images import Images as Images
from lucid.data._load_images import load_images as load_images
from lucid.data._loader import DataLoader as DataLoader
from lucid.data._readable import UnreadableError as UnreadableError
from lucid.data._readable import readable as readable
from lucid.data._sampler import DistributedSampler as DistributedSampler
from lucid.data._sampler import RandomSampler as RandomSampler
from lucid.data._sampler import Sampler as Sampler
from lucid.data._sampler import SequentialSampler as SequentialSampler
from lucid.data._sampler import WeightedRandomSampler as WeightedRandomSampler
from lucid.data._sampler import balanced as balanced
from lucid.data._sources import Item as Item
from lucid.data._sources import Source as Source
from lucid.data._sources import open_source as open_source
from lucid.data._split import hold_out as hold_out
from lucid.data._split import random_split as random_split
