"""Data sets as resident arrays: what they are, the order they are drawn in, and their addressed augmentations."""

from potstill.data.arrays import Arrays as Arrays
from potstill.data.augment import Augment as Augment
from potstill.data.augment import CropFlip as CropFlip
from potstill.data.augment import Warp as Warp
from potstill.data.draw import Draw as Draw
from potstill.data.draw import views_at as views_at
from potstill.data.order import SHARED as SHARED
from potstill.data.order import Views as Views
from potstill.data.order import mix as mix
from potstill.data.order import rows as rows
from potstill.data.resident import Resident as Resident
from potstill.data.resident import Split as Split
from potstill.data.resident import load as load
from potstill.data.sources import Published as Published
from potstill.data.sources import info as info
from potstill.data.sources import names as names
from potstill.data.spec import Data as Data
from potstill.data.spec import classes_of as classes_of
from potstill.data.spec import content as content
from potstill.data.spec import shape_of as shape_of
from potstill.data.spec import train_images as train_images
