"""A page for the browser that classifies pictures with an exported model."""

from lucid.web._write import write_page as write_page
