"""Logit standardization.

Shangquan Sun, Wenqi Ren, Jingzhi Li, Rui Wang, Xiaochun Cao: Logit Standardization in Knowledge Distillation. CVPR
2024, arXiv:2403.01427, algorithm 1 (the Z-score).

A transform of both sides' logits, not a loss: `KD`, `DKD` and `CTKD` have it as the option `standardize`.
Cross-entropy on labels keeps the raw logits.

Errata: the authors' switch for CTKD does the opposite of what it says (issue 15 of their repository), and the factor
that their tables call the weight of DKD multiplies both of its parts.
"""

from potstill.divergence import standardize as standardize
