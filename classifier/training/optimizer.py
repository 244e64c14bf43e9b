"""The optimizer that a recipe asks for, and its learning rate from step to step."""

import keras
import numpy as np
from keras import ops

from classifier.training.recipes import Recipe


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises from 0 in a straight line, then falls to 0 along half a cosine.

    The rates are those of Keras' CosineDecay, in a table: where weights decay, TensorFlow traces a
    schedule once a weight, and with CosineDecay the first step came after 19 s, not 11 (2 cores).

    Args:
        rate: the highest.
        warmup: steps in which it rises; 0 for none.
        steps: all of them, those of the warm-up included.
    """

    def __init__(self, rate: float, warmup: int, steps: int):
        self.config = {"rate": rate, "warmup": warmup, "steps": steps}
        step = np.arange(steps + 1)
        rising = step / max(1, warmup)
        progress = (step - warmup) / max(1, steps - warmup)
        falling = (1 + np.cos(np.pi * progress)) / 2
        self.rates = ops.convert_to_tensor(
            rate * np.where(step < warmup, rising, falling), "float32"
        )

    def __call__(self, step):
        return self.rates[ops.minimum(step, self.config["steps"])]

    def get_config(self):
        return self.config


class OneKernelSGD(keras.optimizers.SGD):
    """SGD with Nesterov momentum in TensorFlow's one kernel for it, instead of six."""

    def update_step(self, gradient, variable, learning_rate):
        import tensorflow as tf

        momentum = self.momentums[self._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=True,
        )


def make_optimizer(recipe: Recipe, steps: int) -> keras.Optimizer:
    """Return the optimizer of a recipe; `steps` is the run's whole number of steps."""
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = WarmupCosine(rate, round(recipe.warmup * steps), steps)
    decay = recipe.weight_decay or None
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, weight_decay=decay)
    tensorflow = keras.backend.backend() == "tensorflow"
    sgd = OneKernelSGD if tensorflow else keras.optimizers.SGD
    return sgd(rate, momentum=0.9, nesterov=True, weight_decay=decay)
