"""Only where the teacher is right.

A weight of images, not a loss: 1 where the teacher's answer is the label, 0 elsewhere. The losses that are means over
images take it as `weight`; every term has it as the option `only_right`, which looks at the right images alone. The sum
is divided by all images of the batch.

Errata: a teacher is right on nearly all images that it was trained on, so expect little of it there.
"""

from potstill.divergence import teacher_right as teacher_right
