import torch

from methods import response
from potstill.methods import KD, kd_loss
from potstill.methods.right import teacher_right


def test_the_teacher_is_right_where_its_largest_logit_is_the_labels():
    teacher = torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 1.0], [0.0, -1.0, 0.5]])
    assert teacher_right(teacher, torch.tensor([1, 2, 2])).tolist() == [True, False, True]
    assert teacher_right(teacher.bfloat16(), torch.tensor([0, 0, 0])).tolist() == [False, True, False]


def test_soft_targets_can_be_weighed():
    response.assert_weighs(
        lambda s, t, y, w: kd_loss(s, t, temperature=3, weight=w), lambda s, t, y: kd_loss(s, t, temperature=3)
    )


def test_soft_targets_only_where_the_teacher_is_right():
    response.assert_only_right(KD(temperature=3, only_right=True), lambda s, t, y: kd_loss(s, t, temperature=3))
