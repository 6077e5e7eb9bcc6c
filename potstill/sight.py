"""What a network shows of an image before anything is trained: a dry run over two zero images."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.models import aliases
from potstill.taps import trace
from potstill.types import Trace


def look(
    who: str,
    network: nn.Module,
    taps: Sequence[str],
    shape: tuple[int, int, int],
    classes: int,
    whose: str = "the data has",
) -> Trace:
    """The trace of two zero images, eagerly and in evaluation mode, so that no statistic of the network moves.

    Args:
        who: What a refusal calls the network: "student", "teacher".
        network: Any network.
        taps: All activations that will be asked of it.
        shape: (C, H, W) of an image.
        classes: How many logits it should answer.
        whose: Who says so.

    Raises:
        UserError: it cannot read the images, a tap lies, or it does not answer one logit per class.
    """
    tracer = trace(network, aliases=aliases(network))
    tracer.check(taps)
    parameter = next(network.parameters(), None)
    zeros = torch.zeros(2, *shape, device=None if parameter is None else parameter.device)
    try:
        with torch.no_grad(), _evaluating(network):
            answer = tracer(zeros, taps)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        channels, height, width = shape
        if parameter is not None and parameter.dtype != zeros.dtype:
            reason += f" (images are {_told(zeros)}, its weights {_told(parameter)}: call .float() on it)"
        raise UserError(
            f"The {who} cannot read images of {channels} × {height} × {width} (channels × height × width): {reason}"
        ) from None
    expect_classes(who, answer, classes, whose)
    return answer


@contextmanager
def _evaluating(network: nn.Module) -> Generator[None]:
    """Evaluation mode, after which each module has its own mode again: some of a training network may not train."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _told(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def expect_classes(who: str, answer: Trace, classes: int, whose: str = "the data has") -> None:
    """Refuses answers to two images that are not one logit per class.

    Raises:
        UserError: they are not.
    """
    if answer.logits.shape != (2, classes):
        size = tuple(answer.logits.shape)
        answered = f"{size[1]} classes" if len(size) == 2 else f"two images with a tensor of shape {size}"
        reading = ", or a Reading that says which of its outputs mean them" if who.startswith("teacher") else ""
        raise UserError(
            f"The {who} answers {answered} but {whose} {classes} classes; "
            f"give one that answers one logit per class, ({classes},) an image{reading}."
        )
