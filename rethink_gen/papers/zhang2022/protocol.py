"""The MNIST protocol of Zhang, Bengio and Singer 2022, and our choices where we differ.

They train fully connected networks of ReLU layers, such as three of 256 units, for 100 epochs with SGD, momentum 0.9
and batches of 128. Then one layer at a time is set back to its first weights (re-initialization), or drawn afresh
(re-randomization), and the network is evaluated as it is, without more training. Their results are figures.

Our choices:

* The learning rate: constant, and low enough to fit random labels in the same number of epochs. Theirs is 0.1, divided
  by 10 three times; we quote this from memory.
* Besides true labels, random ones, of which the accuracy on the training images tells what is left. The paper has none
  of this experiment.
* A layer is set back with its biases. There is one fresh draw for each layer and seed.
* Images are whitened one by one, as in all runs here.
"""

from rethink_gen.registry import canonical
from rethink_gen.runs import Run

LAYERS = (1, 2, 3, 4)  # three hidden ones, and the last
# (layer, reset, split) → the measure, as it names its column.
MEASURES = {
    (layer, to, split): canonical("measure", f"reset_accuracy(layer={layer},to={to},split={split})")
    for layer in LAYERS
    for to in ("initial", "fresh")
    for split in ("train", "test")
}
BASE = Run(
    dataset="mnist",
    model="mlp(hidden=256+256+256)",
    batch_size=128,
    epochs=100,
    learning_rate=0.02,
    schedule="constant",
    measures=tuple(MEASURES.values()),
)
