"""What is done to data: corruptions and augmentations."""

from rethink_gen.catalog.component import entries, entry

CORRUPTIONS = entries(
    "corruption",
    "data.",
    [
        entry("true_labels", "corruptions:true_labels", "The data set as it is."),
        entry("random_labels", "corruptions:random_labels", "Labels drawn uniformly from all classes."),
        entry("random_signs", "corruptions:random_signs", "Labels that are fair coin flips of two classes."),
        entry(
            "shuffled_pixels",
            "corruptions:shuffled_pixels",
            "One permutation of the pixels for all images.",
            channels_together=True,
        ),
        entry(
            "shuffled_pixels_channels_apart",
            "shuffled_pixels",
            "The same over all values of an image, channels apart.",
            channels_together=False,
        ),
        entry(
            "random_pixels",
            "corruptions:random_pixels",
            "A permutation of the pixels of its own for each image.",
            channels_together=True,
        ),
        entry(
            "random_pixels_channels_apart",
            "random_pixels",
            "The same over all values of an image, channels apart.",
            channels_together=False,
        ),
        entry(
            "gaussian",
            "corruptions:gaussian_pixels",
            "Gaussian noise with the mean and variance of the images.",
            statistics=(0, 1, 2, 3),
        ),
        entry("gaussian_per_channel", "gaussian", "The same, statistics per channel.", statistics=(0, 1, 2)),
        entry("gaussian_per_pixel", "gaussian", "The same, statistics per pixel.", statistics=(0,)),
        entry("gaussian_standard", "corruptions:gaussian_standard", "Standard normal noise, for whitening=false."),
        entry("uniform_wrong", "label_noise:uniform_wrong", "Labels drawn uniformly from the other classes."),
        entry("pair_flip", "label_noise:pair_flip", "Each class becomes the next."),
        entry("asymmetric", "label_noise:asymmetric", "Similar classes exchanged.", map="cifar10"),
        entry(
            "class_conditional",
            "label_noise:class_conditional",
            "Labels redrawn from the rows of a matrix in a file.",
            files=("matrix",),
            matrix=str,
        ),
        entry(
            "class_conditional_cifar10n",
            "class_conditional",
            "The same, as people confuse the classes of CIFAR-10: the worst labels of CIFAR-10N, 40.2 % wrong.",
            matrix="cifar10n_worst",
        ),
        entry(
            "extra_noisy_copies",
            "label_noise:extra_noisy_copies",
            "Copies of each image with random labels.",
            alpha=1,
        ),
        entry("human", "label_noise:human", "Labels that people gave: CIFAR-10N.", set="worst"),
    ],
)

AUGMENTATIONS = entries(
    "augmentation",
    "data.augmentations:",
    [
        entry("random_crop", "random_crop", "A window of the crop size at a random place.", padding=0),
        entry("flip", "flip", "Left and right exchanged with probability one half."),
        entry("rotation", "rotation", "Turned by a uniform angle of up to ±25 degrees."),
        entry("crop", "crop", "A window of 10 to 100 % of the area, resized and flipped: for ImageNet."),
        entry("color", "color", "Random brightness, saturation, hue and contrast of RGB images."),
        entry("gaussian_noise", "gaussian_noise", "Gaussian noise on every value.", deviation=64.0),
        entry("input_dropout", "input_dropout", "Each pixel black with some probability.", rate=0.2),
        entry("cutout", "cutout", "A square of the mean color at a random place.", side=8),
        entry(
            "channel_permutation",
            "channel_permutation",
            "The channels of each image in a random order.",
        ),
        entry("mixup", "mixup", "Weighted means of two examples, images and targets alike.", alpha=1.0),
        entry(
            "cutmix",
            "cutmix",
            "A rectangle of another example pasted in, targets by area.",
            alpha=1.0,
        ),
    ],
)
