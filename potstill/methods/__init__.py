"""The methods, one file each: the pure function over tensors, and the term that wires it."""

from potstill.methods.kd import KD as KD
from potstill.methods.kd import kd_loss as kd_loss
from potstill.methods.labels import Labels as Labels
from potstill.methods.labels import label_loss as label_loss
