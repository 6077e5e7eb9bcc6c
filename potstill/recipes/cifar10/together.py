"""Networks that learn from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.recipes.cifar10 import parts

if TYPE_CHECKING:
    from potstill.sweep import Sweep
    from potstill.teachers import Teacher
    from potstill.term import Term


def mutual(temperature: float = 1.0) -> Sweep:
    """Peers from scratch: what do networks learn from each other that none of them was taught?

    Students of plain convolutions (298,000 parameters) alone, and with one or three more of their kind: by each other's
    answers, together or in turn; by a gated ensemble; by the best of them on each batch; by their attention; by the
    relations between images. One has a larger companion (1.19 M), a teacher that learns from scratch together with it.
    Of each group the student that is best on a tenth of the training images, kept for validation, ships. Every peer
    costs as much as the student, or more: compare with that in mind.

    Args:
        temperature: T of the mutual terms.
    """
    from potstill.methods import KDCL, ONE, Attention, Labels, Mutual, Similarity
    from potstill.models import Network
    from potstill.optim import Cosine
    from potstill.sweep import Arm, Sweep
    from potstill.teachers import Peers

    network = Network("plain_conv", classes=10)
    larger = Network("plain_conv", classes=10, options={"width": 64})
    pair, in_turn, four = Peers((network,)), Peers((network,), "in turn"), Peers((network,) * 3)

    def arm(name: str, label: str, *terms: Term, teacher: Teacher | None = None) -> Arm:
        stage = parts.stage(50, 0.05, Cosine(), Labels(), *terms)
        return Arm(name=name, run=parts.run(f"mutual-{label}", network, stage, teacher=teacher, validation=0.1))

    stages = ("stage1", "stage2", "stage3")
    answers = Mutual(temperature=temperature)
    return Sweep(
        arms=(
            arm("alone", "alone"),
            arm("two, together", "two", answers, teacher=pair),
            arm("two, in turn", "turn", answers, teacher=in_turn),
            arm("beside a larger one", "larger", answers, teacher=Peers((larger,))),
            arm("four, together", "four", answers, teacher=four),
            # The published ramp takes 80 epochs of 300.
            arm("four, gated ensemble", "one", ONE(ramp=50 * 80 / 300), teacher=four),
            arm("four, the best on each batch", "kdcl", KDCL(temperature=2.0), teacher=four),
            # At the usual 1,000, which suits a trained teacher, both agree on maps that know nothing of the image.
            arm("two, attention", "attention", Attention(student=stages, teacher=stages, weight=10.0), teacher=pair),
            arm(
                "two, relations between images",
                "similarity",
                Similarity(student=("stage3",), teacher=("stage3",)),
                teacher=pair,
            ),
        ),
        seeds=(0, 1, 2),
    )
