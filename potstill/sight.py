"""What a network shows of an image before anything is trained: a dry run over two zero images, on a copy."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

from potstill.errors import UserError
from potstill.models import aliases
from potstill.taps import trace
from potstill.types import Trace


def look(who: str, network: nn.Module, taps: Sequence[str], shape: tuple[int, int, int], classes: int) -> Trace:
    """The trace of two zero images, eagerly, through a copy, so that no counter of the network moves.

    Args:
        who: What a refusal calls the network: "student", "teacher".
        network: Any network.
        taps: All activations that will be asked of it.
        shape: (C, H, W) of an image.
        classes: K of the data.

    Raises:
        UserError: it cannot read the images, a tap lies, or it does not answer one logit per class.
    """
    copy = trace(deepcopy(network).eval(), aliases=aliases(network))
    copy.check(taps)
    parameter = next(network.parameters(), None)
    zeros = torch.zeros(2, *shape, device=None if parameter is None else parameter.device)
    try:
        with torch.no_grad():
            answer = copy(zeros, taps)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        channels, height, width = shape
        raise UserError(
            f"The {who} cannot read images of {channels} × {height} × {width} (channels × height × width): {reason}"
        ) from None
    expect_classes(who, answer, classes)
    return answer


def expect_classes(who: str, answer: Trace, classes: int) -> None:
    """Refuses answers to two images that are not one logit per class.

    Raises:
        UserError: they are not.
    """
    if answer.logits.shape != (2, classes):
        size = tuple(answer.logits.shape)
        answered = f"{size[1]} classes" if len(size) == 2 else f"two images with a tensor of shape {size}"
        raise UserError(
            f"The {who} answers {answered} but the data has {classes} classes; "
            f"give a {who} that answers one logit per class, ({classes},) an image."
        )
