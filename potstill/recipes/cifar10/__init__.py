"""CIFAR-10: kinds of knowledge, and kinds of teachers."""

from potstill.recipes.cifar10.knowledge import fitnets as fitnets
from potstill.recipes.cifar10.knowledge import lab5 as lab5
from potstill.recipes.cifar10.oneself import self as self
from potstill.recipes.cifar10.several import assistant as assistant
from potstill.recipes.cifar10.several import multi_teacher as multi_teacher
from potstill.recipes.cifar10.together import mutual as mutual
