"""What is measured of a trained network."""

from rethink_gen.catalog.component import entries, entry

MEASURES = entries(
    "measure",
    "measures.",
    [
        entry(
            "frobenius",
            "norms:frobenius",
            "Product or sum of the kernels' Frobenius norms.",
            combine="product",
            over_margin=False,
        ),
        entry(
            "spectral",
            "norms:spectral",
            "Product or sum of the layers' largest singular values; of dense layers.",
            combine="product",
            over_margin=False,
        ),
        entry(
            "l1_max",
            "norms:l1_max",
            "Product or sum of the layers' L1,∞ norms; of dense layers.",
            combine="product",
            over_margin=False,
        ),
        entry("path", "norms:path", "Norm of the products along all paths; of dense layers.", p=2, over_margin=False),
        entry(
            "distance_from_initial",
            "norms:distance_from_initial",
            "From the first weights; frobenius, or spectral.",
            norm="frobenius",
        ),
        entry(
            "spectral_complexity",
            "norms:spectral_complexity",
            "Of Bartlett et al. 2017; of dense layers.",
            from_initial=False,
            over_margin=False,
        ),
        entry(
            "spectral_frobenius",
            "norms:spectral_frobenius",
            "Of Neyshabur et al. 2018; of dense layers.",
            from_initial=True,
            over_margin=False,
        ),
        entry("margin", "margins:margin", "A percentile of the training margins.", percentile=5.0),
        entry(
            "normalized_margin",
            "margins:normalized_margin",
            "The same over the spectral complexity and the size of the inputs; of dense layers.",
            percentile=5.0,
            from_initial=False,
        ),
        entry(
            "effective_rank",
            "margins:effective_rank",
            "Of what the last hidden layer returns; of dense layers.",
        ),
        entry(
            "similarity",
            "margins:similarity",
            "Mean cosine of the logits of two training examples, before training or at its end (last).",
            at="initial",
        ),
        entry(
            "sharpness",
            "sharpness:sharpness",
            "Keskar's: the largest loss in a box around the weights, or in a random subspace of it.",
            epsilon=1e-3,
            dimensions=0,
            iterations=10,
        ),
        entry("fisher_rao", "sharpness:fisher_rao", "The norm of the weights in their own Fisher information."),
        entry(
            "top_eigenvalue",
            "sharpness:top_eigenvalue",
            "Of the Hessian of the training loss.",
            tolerance=1e-3,
        ),
        entry(
            "pac_bayes",
            "sharpness:pac_bayes",
            "Inverse variance of the noise on weights that costs so much training accuracy.",
            drop=0.1,
            draws=10,
            magnitude=True,
        ),
        entry(
            "reset_accuracy",
            "layers:reset_accuracy",
            "Accuracy with one layer as it was at first (initial), or drawn afresh (fresh).",
            layer=1,
            to="initial",
            split="train",
        ),
    ],
)
