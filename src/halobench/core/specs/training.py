"""Define the specs of losses and of how models are trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from halobench.core.errors import require
from halobench.core.specs.codec import Count, Flag, NotNegative, Number, Text, spec
from halobench.core.specs.plugin import PluginSpec, suggested


@spec
class LossSpec(PluginSpec):
    """A loss (a file in ``halobench/losses`` or ``module:object``) and its options."""

    KIND = "losses"
    name: Text = Field(description="Name of the loss, or module:object.", json_schema_extra=suggested("losses"))
    options: dict[str, Any] = Field(default_factory=dict)


# The recipe keys that a probe reads, and the keys that matter for a model that isn't trained.
PROBE_KEYS = ("precision", "channels_last", "eval_batch", "device", "threads")
EVALUATION_KEYS = (*PROBE_KEYS, "deterministic")
# The recipe keys that apply only to images.
IMAGE_KEYS = ("random_crop", "flip", "channels_last")


@spec
class Recipe:
    """The keys of a recipe, each checked on its own, since a single layer of a configuration need not be consistent.

    `random_crop` and `flip` are augmentations, drawn for each image in each epoch. With `micro_batch`, which saves
    memory, batch norm sees only parts of a batch. Without `deterministic`, kernels may be chosen by timing and may sum
    in any order, so results may differ in their last bits from run to run.
    """

    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="PyTorch optimiser; its fused implementation is used."
    )
    lr: Number = Field(default=1e-3, gt=0, description="Learning rate at the end of the warm-up.")
    weight_decay: Number = Field(default=0.0, ge=0, description="Weight decay, passed to the PyTorch optimiser.")
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd; the other optimisers ignore it.")
    batch: Count = Field(
        default=50,
        description="Training samples per step, or all if there are fewer. An incomplete last batch is skipped.",
    )
    epochs: Count = Field(default=50, description="Passes over the training samples.")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine",
        description="Schedule of the learning rate, set at each step; cosine falls to nearly 0.",
    )
    warmup: NotNegative = Field(
        default=2, description="Epochs of linear warm-up, at most one less than epochs; larger values are reduced."
    )
    random_crop: NotNegative = Field(
        default=0,
        description="Pixels by which training images are padded, by repeating the border, before they are cropped at"
        " random to their original size.",
    )
    flip: Flag = Field(default=False, description="Mirror each training image with probability 1/2.")
    micro_batch: Count | None = Field(
        default=None,
        description="Number of samples that pass through the model at once; a batch's gradients are summed over its"
        " parts.",
    )
    compile: Flag = Field(default=False, description="Compile training steps with torch.compile.")
    deterministic: Flag = Field(
        default=True, description="Make every run on the same machine give byte-identical results; slower on a GPU."
    )
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="bf16 uses autocast; the weights stay in float32."
    )
    channels_last: Flag = Field(
        default=False, description="Use the channels-last memory layout, which is often faster for convolutions."
    )
    eval_batch: Count = Field(default=250, description="Batch size for evaluation and probing.")
    device: Text = Field(
        default="auto",
        pattern="^(auto|cpu|cuda(:[0-9]+)?)$",
        description="`auto` (CUDA if available, otherwise the CPU), `cpu`, `cuda` or `cuda:N`.",
    )
    threads: Count = Field(default=1, description="Number of CPU threads, which can change the last bits of a result.")


@spec
class TrainSpec(Recipe):
    """A recipe whose keys are consistent with one another."""

    def __post_init__(self):
        fits = self.micro_batch is None or self.micro_batch <= self.batch
        require(fits, "micro_batch", self.micro_batch, f"at most the batch size, {self.batch}")
        # Set in the spec, so that it states what is actually done, and a recipe with few epochs needs no special
        # warm-up.
        object.__setattr__(self, "warmup", min(self.warmup, self.epochs - 1))
