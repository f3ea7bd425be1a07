"""What is solved or fitted without SGD: features and kernels, learners, searches."""

from rethink_gen.catalog.component import entries, entry

# Random features that are computed at once. Of more, solvers keep the inner products of all images.
FILTERS_OF_A_BLOCK = 256  # on CPU the responses of 8 images fit into its caches, which is twice as fast
WAVES_OF_A_BLOCK = 1024

FEATURES = entries(
    "features",
    "solvers.features:",
    [
        entry("pixels", "pixels", "All values of an image, divided by 255."),
        entry("gabor_wavelets", "gabor_wavelets", "Moduli of Gabor wavelets of eight orientations, pooled."),
        entry(
            "random_convolutions",
            "random_convolutions",
            "Rectified responses to random patches, pooled; of both signs, or the positive.",
            two_sided=False,
        ),
        entry("fourier", "fourier", "Cosines of random directions, near a Gaussian kernel.", count=int, sigma=5.0),
    ],
)

KERNELS = entries(
    "kernel",
    "solvers.kernels:",
    [
        entry("gaussian", "gaussian", "Gaussian: exp(-γ‖x - x'‖²)."),
        entry("laplacian", "laplacian", "Laplacian: exp(-γ‖x - x'‖), with the Euclidean norm."),
        entry("linear", "linear", "Linear: ⟨x, x'⟩, without γ."),
    ],
)

LEARNERS = entries(
    "learner",
    "solvers.learners:",
    [
        entry(
            "random_forest", "random_forest", "Trees on bootstrap samples.", trees=100, bootstrap=True, leaves=100_000
        ),
        entry("extra_trees", "extra_trees", "Trees on all examples, with random thresholds.", trees=100),
        entry(
            "decision_tree",
            "decision_tree",
            "One tree, grown leaf by leaf; a split sees all values, or sqrt of them.",
            leaves=100_000,
            features="all",
        ),
        entry("adaboost", "adaboost", "AdaBoost with trees of a depth; 1 are stumps.", depth=1, rounds=200),
        entry(
            "gradient_boosting",
            "gradient_boosting",
            "Boosting of the cross-entropy, by histograms.",
            rounds=100,
            rate=0.1,
            leaves=31,
            least_in_leaf=20,
        ),
        entry(
            "lightgbm",
            "lightgbm",
            "The same by LightGBM, an optional package.",
            rounds=100,
            rate=0.1,
            leaves=31,
            least_in_leaf=20,
        ),
        entry(
            "l2_boosting",
            "l2_boosting",
            "Boosting of the squared error, and the mean of several such ensembles.",
            rounds=200,
            rate=0.85,
            leaves=10,
            members=1,
        ),
        entry("nearest_neighbors", "nearest_neighbors", "Majority of the nearest examples.", neighbors=1),
        entry("svm", "svm", "Support vector machine with an RBF kernel.", C=1.0),
        entry("logistic_regression", "logistic_regression", "Linear, with a penalty of 1/C.", C=1.0),
        entry(
            "stacking",
            "stacking",
            "Logistic regression on a forest, 5 neighbors and a linear model.",
            folds=5,
            trees=100,
        ),
    ],
)

SEARCHES = entries(
    "search",
    "solvers.searches:",
    [
        entry("guess_and_check", "guess_and_check", "Independent draws of all weights.", candidates=1000),
        entry(
            "random_greedy",
            "random_greedy",
            "Noise on all weights, kept if it is better; smaller after a while in vain.",
            candidates=100,
            step=0.01,
            patience=10,
        ),
        entry(
            "pattern_search",
            "pattern_search",
            "One weight up or down, kept if it is better; half the step when none is.",
            candidates=100,
            step=1.0,
        ),
        entry(
            "genetic_algorithm",
            "genetic_algorithm",
            "Gaussian mutations of the best; the very best stays.",
            candidates=100,
            parents=5,
            step=0.01,
        ),
        entry(
            "evolution_strategy",
            "evolution_strategy",
            "A gradient estimated from pairs of opposite noise, with Adam.",
            candidates=100,
            step=0.02,
            rate=0.01,
        ),
        entry(
            "evosax",
            "evosax",
            "An algorithm of evosax, an optional package, such as SNES or SimpleGA.",
            algorithm=str,
            candidates=100,
            step=0.02,
        ),
    ],
)
