"""Short programs after what tutorials do, which run on `nbbn` and on `keras` alike.

Each is a function of the library that gives numbers. Weights are set and rows are not shuffled
where the numbers are to be the same.
"""

from keras_programs import callbacks, generative, images, loops, nested, series, tables
from keras_programs.common import PROGRAMS

__all__ = ["PROGRAMS", "callbacks", "generative", "images", "loops", "nested", "series", "tables"]
