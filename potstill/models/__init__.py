"""Networks by name: our own zoo, torchvision, timm, anything importable, or a module the caller built."""

from potstill.models.aliases import aliases as aliases
from potstill.models.network import Network as Network
from potstill.models.network import ReusedHead as ReusedHead
from potstill.models.network import identity_of as identity_of
from potstill.models.sources import build as build
from potstill.models.summary import summarize as summarize
from potstill.models.zoo import names as names
