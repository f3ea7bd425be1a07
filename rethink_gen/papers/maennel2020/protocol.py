"""The protocol of Maennel et al. 2020, and our choices.

They train a network on random labels of some images, and then on true labels of others (of CIFAR-10 and ImageNet), with
VGG16, ResNet18 and small networks. The second training is compared with one from a fresh start, also where weights are
first scaled back to the norm that they were drawn with, since larger weights alone change how fast a network learns.
Their results are figures. They show that pre-training can help or hurt, and that the covariance of the weights of the
first layer comes to share eigenvectors with that of its inputs. We have read the abstract, the reviews and a
reproduction (sinankalkan/CENG501-Spring2021, project_BilginGungor), which gives the formula of the misalignment.

Our choices:

* At the laptop scale a fully connected network on the central 16×16 pixels of CIFAR-10, with a constant learning rate
  in both trainings. Its weights are drawn with a standard deviation of 0.02, about 0.4 of He's; the paper has such
  factors, 0.526 for one, which the reproduction could not explain.
* The last layer always begins as it is drawn. Where weights are scaled back, each array is, so biases are 0 again. SGD
  begins without momentum.
* How fast a network learns is its mean training accuracy at the measured epochs 1 to 5: 1, 2 and 4.
* The misalignment is in the space of the first 20 principal components of the inputs, since 512 units are too few for
  the covariance of 768 weights each. With so many units it is 1.02 of weights that are drawn.
* At the paper scale: VGG-16 as it is here, with batch norm, and 20,000 images of CIFAR-10 for each training.
"""

from dataclasses import replace

from rethink_gen.registry import canonical
from rethink_gen.runs import Run, grid

# The measures, as they name their columns, and what readers see.
WITH_INPUTS, WITH_RANDOM = MEASURES = (
    canonical("measure", "misalignment(components=20)"),
    canonical("measure", "misalignment(components=20,basis=random)"),
)
BASE = Run(
    dataset="cifar10",
    crop_size=16,
    train_size=2000,
    test_size=2000,
    model="mlp(hidden=512+256,initialization=normal0.02)",
    batch_size=128,
    epochs=30,
    learning_rate=0.05,
    schedule="constant",
    measurements=6,
    measures=MEASURES,
    record=("measures",),
)


def runs(base: Run, *, short: int, long: int, seeds: int) -> tuple[Run, ...]:
    """Five starts and the long pre-training itself, each with so many seeds.

    Args:
      base: the fresh start.
      short, long: epochs of pre-training; the long one fits its random labels.
    """
    pretrained = replace(base, pretrain_epochs=long)
    starts = (
        base,
        replace(base, pretrain_epochs=short, pretrain_rescale=True),
        replace(pretrained, pretrain_rescale=True),
        replace(pretrained, pretrain_rescale=True, pretrain_layers=1),
        pretrained,
    )
    assert pretrained.pretraining is not None
    kept = {name: getattr(base, name) for name in ("measurements", "measures", "record")}
    itself = replace(pretrained.pretraining, **kept)
    return tuple(each for run in (*starts, itself) for each in grid(run, seed=range(seeds)))
