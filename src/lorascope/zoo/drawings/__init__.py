"""Drawings: procedural faces and objects with known attributes, the pictures of the image zoos."""

from lorascope.zoo.drawings.faces import ATTRIBUTES, TRAITS, draw_faces
from lorascope.zoo.drawings.objects import CLASSES, COLOURS, draw_objects

__all__ = ["ATTRIBUTES", "CLASSES", "COLOURS", "TRAITS", "draw_faces", "draw_objects"]
