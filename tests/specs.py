"""Two runs that between them fill every kind of field a specification has: a teacher, and a student in two stages."""

from potstill.data import CropFlip, Data
from potstill.methods import KD, Labels
from potstill.models import Network, ReusedHead
from potstill.optim import MultiStep, OneCycle, Optimizer, Warmup
from potstill.run import Run, result_of
from potstill.stage import EarlyStopping, Stage

TEACHER = Run(
    name="teacher",
    student=Network("digits_conv", classes=10, channels=1),
    data=Data(name="digits", validation=0.25),
    stages=(
        Stage(
            terms=(Labels(smoothing=0.1),),
            epochs=3,
            optimizer=Optimizer(name="AdamW", learning_rate=1e-3, options={"weight_decay": 0.05, "amsgrad": True}),
            schedule=OneCycle(peak=0.4),
        ),
    ),
    seed=7,
)
STUDENT = Run(
    name="student",
    student=Network("digits_conv", classes=10, channels=1, options={"width": 8}, reused=ReusedHead(student="stage2")),
    data=Data(name="digits", validation=0.25, augment=CropFlip(padding=1, flip=False), views=4, sharing="per-seed"),
    stages=(
        Stage(terms=(KD(temperature=2.0),), epochs=1, optimizer=Optimizer(), train=("student.0.*",), name="first"),
        Stage(
            terms=(Labels(weight=0.2), KD(weight=0.8, warmup=2.0, reduction="mean", name="soft")),
            epochs=4,
            optimizer=Optimizer(options={"momentum": 0.9, "nesterov": True}),
            schedule=Warmup(then=MultiStep(milestones=(2, 3.5), gamma=0.2), epochs=0.5),
            stop=EarlyStopping(monitor="validation_accuracy", min_delta=0.001, patience=3),
        ),
    ),
    teacher=result_of(TEACHER),
    batch_size=50,
    seed=3,
    precision="fp32",
    deterministic=True,
)
