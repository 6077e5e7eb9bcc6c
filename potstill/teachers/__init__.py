"""Who teaches: a file for each kind, with what it is and how it works. Where none of them stands, nobody does."""

from potstill.teachers.average import EMA as EMA
from potstill.teachers.controls import Shuffled as Shuffled
from potstill.teachers.controls import Uniform as Uniform
from potstill.teachers.controls import Untrained as Untrained
from potstill.teachers.ensemble import Ensemble as Ensemble
from potstill.teachers.past import OwnPast as OwnPast
from potstill.teachers.peers import Peers as Peers
from potstill.teachers.sampled import Sampled as Sampled
from potstill.teachers.teacher import Given as Given
from potstill.teachers.teacher import Teacher as Teacher
