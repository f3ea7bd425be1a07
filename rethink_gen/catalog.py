"""The catalog: the components that come with the package, of each kind, with their options and descriptions.

A built-in component is one entry here and one object elsewhere. Entries name objects by strings, so importing this
loads no jax. `registry` looks components up, and adds those of users.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Component:
    """One entry of the registry.

    target: the object, or "module:attribute" where it is built in.
    options: option → its default; a type in place of a default means that the option must be given.
    fixed: options that a preset sets: `mlp_1x512` is `mlp(hidden=512)`.
    files: options that name files, whose content counts.
    digest: of a user's code, where it came from another process; empty: computed when it is needed.
    """

    kind: str
    name: str
    target: Any
    about: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    built_in: bool = False
    digest: str = ""

    def load(self) -> Any:
        """The object itself."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


def _entries(kind: str, room: str, entries: Iterable[Component]) -> dict[str, Component]:
    table: dict[str, Component] = {}
    for each in entries:
        target = each.target
        if target in table:  # a preset of another entry
            base = table[target]
            each = dataclasses.replace(each, target=base.target, options=base.options, fixed=each.options)
        else:
            each = dataclasses.replace(each, target=f"rethink_gen.{room}{target}")
        table[each.name] = dataclasses.replace(each, kind=kind, built_in=True)
    return table


def _entry(name: str, target: str, about: str, files: tuple[str, ...] = (), **options: Any) -> Component:
    """An entry: "module:attribute" within its room and its options with their defaults; or, of a preset, the name of
    the entry that it is of, and the options that it sets.
    """
    return Component("", name, target, about, options, files=files)


# Model → the learning rate of a run that names none. Those of MLPs and AlexNet are the paper's (Appendix A), the
# others are our choice.
LEARNING_RATES = {
    "mlp": 0.01,
    "mlp_1x512": 0.01,
    "mlp_3x512": 0.01,
    "softmax_regression": 0.01,
    "small_alexnet": 0.01,
    "small_alexnet_he": 0.01,
    "small_inception_without_batch_norm": 0.01,
    "lenet": 0.01,
    "vgg": 0.05,
    "vgg_11": 0.05,
    "vgg_16": 0.05,
    "keskar_c2": 0.05,
    "mixer": 0.03,
    "vit": 0.03,  # with SGD; optimizer=adam with 0.001 fits in fewer epochs
    "convnext": 0.03,
}
LEARNING_RATE = 0.1  # of every other model; the paper's for the small Inception

# The values that options of built-in components can have, both ends included; of several numbers, each of them.
OPTION_RANGES: dict[str, tuple[float, float]] = {
    "hidden": (1, 10**6),
    "width": (0.01, 10**4),
    "depth": (0.01, 10**4),
    "blocks": (1, 10**3),
    "convolutions": (1, 10**3),
    "hidden_units": (0, 10**6),
    "stem": (0, 10**4),
    "growth": (1, 10**4),
    "last": (1, 10**5),
    "patch": (1, 10**3),
    "heads": (1, 10**3),
    "scale": (0, 1e3),
    "auxiliary_weight": (0, 1e3),
    "batch_norm_momentum": (0, 1),
    "batch_norm_epsilon": (0, 1),
    "statistics": (0, 3),
    "b1": (0, 0.999999),
    "b2": (0, 0.999999999),
    "decay": (0, 1),
    "eps": (0, 1),
    "trust": (0, 1e3),
    "memory": (1, 10**4),
    "warmup_epochs": (0, 1e6),
    "at": (0, 1e6),
    "factor": (0, 1e3),
    "final": (0, 1e3),
    "capacity": (1, 10**9),
    "times": (1, 10**6),
    "alpha": (0, 10**6),
    "side": (1, 4096),
    "q": (1e-6, 1),
    "beta": (0, 1),
    "keep": (1e-6, 1),
    "weight": (0, 1e3),
    "trees": (1, 10**6),
    "rounds": (1, 10**6),
    "members": (1, 10**4),
    "leaves": (2, 10**8),
    "least_in_leaf": (1, 10**9),
    "rate": (0, 1e3),
    "neighbors": (1, 10**9),
    "C": (1e-12, 1e12),
    "folds": (2, 10**6),
    "candidates": (2, 10**6),
    "parents": (1, 10**6),
    "patience": (1, 10**9),
    "step": (1e-12, 1e6),
}

BUILT_IN: dict[str, dict[str, Component]] = {
    "model": _entries(
        "model",
        "models.",
        [
            _entry("mlp", "mlp:MLP", "Hidden layers of ReLU units.", hidden=(512,), initialization="he"),
            _entry("mlp_1x512", "mlp", "One hidden layer of 512 units: 1,209,866 parameters.", hidden=(512,)),
            _entry("mlp_3x512", "mlp", "Three of them: 1,735,178 parameters.", hidden=(512, 512, 512)),
            _entry(
                "small_alexnet",
                "alexnet:SmallAlexNet",
                "Two (convolution, max-pool, response normalization) modules, then 384, 192 and K units.",
                initialization="he",
                last_layer="small",
            ),
            _entry(
                "small_alexnet_he", "small_alexnet", "The same, its last layer drawn like the others.", last_layer="he"
            ),
            _entry(
                "small_inception",
                "inception:SmallInception",
                "Figure 3: a convolution, eight Inception and two downsample modules, mean pooling.",
                batch_norm=True,
                initialization="he",
                last_layer="small",
            ),
            _entry(
                "small_inception_without_batch_norm",
                "small_inception",
                "The same, with a bias in place of batch normalization.",
                batch_norm=False,
            ),
            _entry(
                "softmax_regression", "mlp:SoftmaxRegression", "No hidden layer: one linear map.", initialization="he"
            ),
            _entry("lenet", "families.cnn:LeNet", "LeNet-5: two 5×5 convolutions, then 120, 84 and K units.", width=6),
            _entry(
                "mcnn",
                "families.cnn:FiveLayerCNN",
                "Nakkiran's 5-layer network: convolutions of k, 2k, 4k and 8k channels, k the width.",
                width=64,
            ),
            _entry(
                "vgg",
                "families.vgg:VGG",
                "Stacks of 3×3 convolutions with batch norm; by default VGG-11.",
                convolutions=(1, 1, 2, 2, 2),
                width=64,
                hidden_units=0,
            ),
            _entry("vgg_11", "vgg", "VGG-11.", convolutions=(1, 1, 2, 2, 2), hidden_units=0),
            _entry("vgg_16", "vgg", "VGG-16.", convolutions=(2, 2, 3, 3, 3), hidden_units=0),
            _entry(
                "keskar_c2",
                "vgg",
                "Keskar's C2: VGG-16 with a hidden layer of 512 units.",
                convolutions=(2, 2, 3, 3, 3),
                hidden_units=512,
            ),
            _entry(
                "resnet",
                "families.resnet:ResNet",
                "Residual network, by default ResNet-20.",
                blocks=(3, 3, 3),
                width=16,
                stem=0,
                preactivation=False,
                projection=False,
            ),
            _entry("resnet_20", "resnet", "ResNet-20 for CIFAR: 0.27 million parameters.", blocks=(3, 3, 3)),
            _entry("resnet_32", "resnet", "ResNet-32 for CIFAR: 0.46 million.", blocks=(5, 5, 5)),
            _entry("resnet_44", "resnet", "ResNet-44 for CIFAR: 0.66 million.", blocks=(7, 7, 7)),
            _entry(
                "resnet_18",
                "families.resnet:ResNet18",
                "ResNet-18 for small images: 11.17 million parameters.",
                blocks=(2, 2, 2, 2),
                width=64,
                preactivation=False,
            ),
            _entry("preact_resnet_18", "resnet_18", "The same with pre-activation.", preactivation=True),
            _entry(
                "wide_resnet",
                "families.resnet:WideResNet",
                "Wide residual network, by default WRN-28-1; width=160: WRN-28-10.",
                blocks=(4, 4, 4),
                width=16,
            ),
            _entry(
                "densenet",
                "families.densenet:DenseNet",
                "DenseNet, by default DenseNet-40 with 12 new channels a layer: 1.0 million parameters.",
                depth=40,
                growth=12,
                bottleneck=False,
            ),
            _entry("mobilenet_v2", "families.mobilenet:MobileNetV2", "Inverted bottlenecks.", width=1.0, depth=1.0),
            _entry(
                "efficientnet",
                "families.efficientnet:EfficientNet",
                "Inverted bottlenecks with squeeze-and-excitation; by default B0.",
                width=1.0,
                depth=1.0,
            ),
            _entry(
                "shufflenet_v2",
                "families.shufflenet:ShuffleNetV2",
                "Half of the channels pass a block, then a shuffle.",
                width=116,
                blocks=(4, 8, 4),
                last=1024,
            ),
            _entry(
                "idlenet",
                "families.shufflenet:IdleNet",
                "MobileNetV2 with idle blocks: half of the channels pass, then a shuffle.",
                width=1.0,
                depth=1.0,
            ),
            _entry(
                "xception",
                "families.xception:Xception",
                "Residual blocks of separable convolutions.",
                width=1.0,
                depth=8,
            ),
            _entry(
                "mixer",
                "families.mixer:Mixer",
                "MLP-Mixer: perceptrons over patches and over channels.",
                patch=4,
                width=128,
                depth=8,
            ),
            _entry(
                "vit",
                "families.vit:VisionTransformer",
                "Vision transformer, by default ViT-Tiny with patches of 4×4.",
                patch=4,
                width=192,
                depth=12,
                heads=3,
            ),
            _entry(
                "convnext",
                "families.convnext:ConvNeXt",
                "ConvNeXt, by default of the size of ConvNeXt-Atto.",
                patch=2,
                blocks=(2, 2, 6, 2),
                width=40,
                scale=1e-6,
            ),
            _entry(
                "inception_v3",
                "inception_v3:InceptionV3",
                "Inception V3 as in TF-slim, for 299×299 pixels: 23,817,352 parameters and an auxiliary head.",
                auxiliary_weight=0.4,
                batch_norm_momentum=0.9997,
                batch_norm_epsilon=1e-3,
            ),
        ],
    ),
    "corruption": _entries(
        "corruption",
        "data.",
        [
            _entry("true_labels", "corruptions:true_labels", "The data set as it is."),
            _entry("random_labels", "corruptions:random_labels", "Labels drawn uniformly from all classes."),
            _entry("random_signs", "corruptions:random_signs", "Labels that are fair coin flips of two classes."),
            _entry(
                "shuffled_pixels",
                "corruptions:shuffled_pixels",
                "One permutation of the pixels for all images.",
                channels_together=True,
            ),
            _entry(
                "shuffled_pixels_channels_apart",
                "shuffled_pixels",
                "The same over all values of an image, channels apart.",
                channels_together=False,
            ),
            _entry(
                "random_pixels",
                "corruptions:random_pixels",
                "A permutation of the pixels of its own for each image.",
                channels_together=True,
            ),
            _entry(
                "random_pixels_channels_apart",
                "random_pixels",
                "The same over all values of an image, channels apart.",
                channels_together=False,
            ),
            _entry(
                "gaussian",
                "corruptions:gaussian_pixels",
                "Gaussian noise with the mean and variance of the images.",
                statistics=(0, 1, 2, 3),
            ),
            _entry("gaussian_per_channel", "gaussian", "The same, statistics per channel.", statistics=(0, 1, 2)),
            _entry("gaussian_per_pixel", "gaussian", "The same, statistics per pixel.", statistics=(0,)),
            _entry("gaussian_standard", "corruptions:gaussian_standard", "Standard normal noise, for whitening=false."),
            _entry("uniform_wrong", "label_noise:uniform_wrong", "Labels drawn uniformly from the other classes."),
            _entry("pair_flip", "label_noise:pair_flip", "Each class becomes the next."),
            _entry("asymmetric", "label_noise:asymmetric", "Similar classes exchanged.", map="cifar10"),
            _entry(
                "class_conditional",
                "label_noise:class_conditional",
                "Labels redrawn from the rows of a matrix in a file.",
                files=("matrix",),
                matrix=str,
            ),
            _entry(
                "extra_noisy_copies",
                "label_noise:extra_noisy_copies",
                "Copies of each image with random labels.",
                alpha=1,
            ),
            _entry("human", "label_noise:human", "Labels that people gave: CIFAR-10N.", set="worst"),
        ],
    ),
    "augmentation": _entries(
        "augmentation",
        "data.augmentations:",
        [
            _entry("random_crop", "random_crop", "A window of the crop size at a random place."),
            _entry("flip", "flip", "Left and right exchanged with probability one half."),
            _entry("rotation", "rotation", "Turned by a uniform angle of up to ±25 degrees."),
            _entry("crop", "crop", "A window of 10 to 100 % of the area, resized and flipped: for ImageNet."),
            _entry("color", "color", "Random brightness, saturation, hue and contrast of RGB images."),
            _entry("cutout", "cutout", "A square of the mean color at a random place.", side=8),
            _entry(
                "channel_permutation",
                "channel_permutation",
                "The channels of each image in a random order.",
            ),
            _entry("mixup", "mixup", "Weighted means of two examples, images and targets alike.", alpha=1.0),
            _entry(
                "cutmix",
                "cutmix",
                "A rectangle of another example pasted in, targets by area.",
                alpha=1.0,
            ),
        ],
    ),
    "features": _entries(
        "features",
        "solvers.features:",
        [
            _entry("pixels", "pixels", "All values of an image, divided by 255."),
            _entry("gabor_wavelets", "gabor_wavelets", "Moduli of Gabor wavelets of eight orientations, pooled."),
            _entry("random_convolutions", "random_convolutions", "Rectified responses to random patches, pooled."),
            _entry("fourier", "fourier", "Cosines of random directions, near a Gaussian kernel.", count=int, sigma=5.0),
        ],
    ),
    "kernel": _entries(
        "kernel",
        "solvers.kernels:",
        [
            _entry("gaussian", "gaussian", "Gaussian: exp(-γ‖x - x'‖²)."),
            _entry("laplacian", "laplacian", "Laplacian: exp(-γ‖x - x'‖), with the Euclidean norm."),
            _entry("linear", "linear", "Linear: ⟨x, x'⟩, without γ."),
        ],
    ),
    "learner": _entries(
        "learner",
        "solvers.learners:",
        [
            _entry("random_forest", "random_forest", "Trees on bootstrap samples.", trees=100, bootstrap=True),
            _entry("extra_trees", "extra_trees", "Trees on all examples, with random thresholds.", trees=100),
            _entry(
                "decision_tree",
                "decision_tree",
                "One tree, grown leaf by leaf; a split sees all values, or sqrt of them.",
                leaves=100_000,
                features="all",
            ),
            _entry("adaboost", "adaboost", "AdaBoost with trees of a depth; 1 are stumps.", depth=1, rounds=200),
            _entry(
                "gradient_boosting",
                "gradient_boosting",
                "Boosting of the cross-entropy, by histograms.",
                rounds=100,
                rate=0.1,
                leaves=31,
                least_in_leaf=20,
            ),
            _entry(
                "l2_boosting",
                "l2_boosting",
                "Boosting of the squared error, and the mean of several such ensembles.",
                rounds=200,
                rate=0.85,
                leaves=10,
                members=1,
            ),
            _entry("nearest_neighbors", "nearest_neighbors", "Majority of the nearest examples.", neighbors=1),
            _entry("svm", "svm", "Support vector machine with an RBF kernel.", C=1.0),
            _entry("logistic_regression", "logistic_regression", "Linear, with a penalty of 1/C.", C=1.0),
            _entry(
                "stacking",
                "stacking",
                "Logistic regression on a forest, 5 neighbors and a linear model.",
                folds=5,
                trees=100,
            ),
        ],
    ),
    "search": _entries(
        "search",
        "solvers.searches:",
        [
            _entry("guess_and_check", "guess_and_check", "Independent draws of all weights.", candidates=1000),
            _entry(
                "random_greedy",
                "random_greedy",
                "Noise on all weights, kept if it is better; smaller after a while in vain.",
                candidates=100,
                step=0.01,
                patience=10,
            ),
            _entry(
                "pattern_search",
                "pattern_search",
                "One weight up or down, kept if it is better; half the step when none is.",
                candidates=100,
                step=1.0,
            ),
            _entry(
                "genetic_algorithm",
                "genetic_algorithm",
                "Gaussian mutations of the best; the very best stays.",
                candidates=100,
                parents=5,
                step=0.01,
            ),
            _entry(
                "evolution_strategy",
                "evolution_strategy",
                "A gradient estimated from pairs of opposite noise, with Adam.",
                candidates=100,
                step=0.02,
                rate=0.01,
            ),
        ],
    ),
    "optimizer": _entries(
        "optimizer",
        "optimization.optimizers:",
        [
            _entry("sgd", "sgd", "SGD with momentum; weight decay as L2.", nesterov=False),
            _entry("adam", "adam", "Adam; weight decay as L2.", b1=0.9, b2=0.999, eps=1e-8),
            _entry("adamw", "adamw", "Adam with decoupled weight decay.", b1=0.9, b2=0.999, eps=1e-8),
            _entry("lars", "lars", "SGD with a rate per kernel; weight decay as L2.", trust=0.001, eps=0.0),
            _entry("lamb", "lamb", "Adam with a trust ratio per kernel; decoupled decay.", b1=0.9, b2=0.999, eps=1e-6),
            _entry("lion", "lion", "Steps by sign; decoupled weight decay.", b1=0.9, b2=0.99),
            _entry("rmsprop", "rmsprop", "RMSProp with momentum; weight decay as L2.", decay=0.9, eps=1e-8),
            _entry("lbfgs", "lbfgs", "L-BFGS with a line search, full batch; L2.", memory=10),
        ],
    ),
    "schedule": _entries(
        "schedule",
        "optimization.schedules:",
        [
            _entry(
                "exponential",
                "exponential",
                "A constant factor per epoch, learning_rate_decay: the paper's.",
                staircase=True,
                warmup_epochs=0.0,
            ),
            _entry("constant", "constant", "The same rate throughout.", warmup_epochs=0.0),
            _entry(
                "step", "step", "Multiplied by a factor at some epochs.", at=(60, 120), factor=0.1, warmup_epochs=0.0
            ),
            _entry("cosine", "cosine", "Half a cosine over the run.", final=0.0, warmup_epochs=0.0),
            _entry(
                "inverse_sqrt",
                "inverse_sqrt",
                "Falls as 1 / √(1 + growth · periods passed); a period in epochs.",
                period=1.0,
                growth=1.0,
                warmup_epochs=0.0,
            ),
        ],
    ),
    "loss": _entries(
        "loss",
        "optimization.losses:",
        [
            _entry("cross_entropy", "cross_entropy", "Of softmax, in nats; with label_smoothing."),
            _entry("squared_error", "squared_error", "Summed over classes, on one-hot or smoothed targets."),
            _entry(
                "generalized_cross_entropy",
                "generalized_cross_entropy",
                "Between cross-entropy and mean absolute error: unlikely labels count less.",
                q=0.7,
            ),
            _entry(
                "bootstrapping",
                "bootstrapping",
                "Cross-entropy of targets mixed with what the network says.",
                beta=0.95,
                hard=False,
            ),
            _entry("small_loss", "small_loss", "Cross-entropy of the smallest losses of a batch alone.", keep=0.8),
            _entry(
                "early_learning",
                "early_learning",
                "Cross-entropy, kept near what the network said before.",
                weight=3.0,
                decay=0.7,
            ),
        ],
    ),
    "order": _entries(
        "order",
        "optimization.orders:",
        [
            _entry("reshuffle", "reshuffle", "A new permutation in each epoch."),
            _entry("shuffle_once", "shuffle_once", "One permutation for the whole run."),
            _entry("stored", "stored", "As the data are stored."),
            _entry("with_replacement", "with_replacement", "Independent uniform draws."),
            _entry("buffer", "buffer", "A shuffle buffer, as tf.data has it.", capacity=1000),
            _entry("echo", "echo", "Each batch or example used several times.", times=2, of="batch"),
        ],
    ),
    "dataset": {},
}
