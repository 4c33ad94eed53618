"""Sources of pictures: folders, lists, archives; their pictures by name, one after the other."""

from lucid.data._sources._item import Item as Item
from lucid.data._sources._source import Source as Source
from lucid.data._sources._source import open_source as open_source
