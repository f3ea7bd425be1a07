"""How networks are trained: optimizers, schedules, losses, orders of examples."""

from rethink_gen.catalog.component import entries, entry

OPTIMIZERS = entries(
    "optimizer",
    "optimization.optimizers:",
    [
        entry("sgd", "sgd", "SGD with momentum; weight decay as L2.", nesterov=False, decay_biases=False),
        entry("adam", "adam", "Adam; weight decay as L2.", b1=0.9, b2=0.999, eps=1e-8),
        entry("adamw", "adamw", "Adam with decoupled weight decay.", b1=0.9, b2=0.999, eps=1e-8),
        entry("lars", "lars", "SGD with a rate per kernel; weight decay as L2.", trust=0.001, eps=0.0),
        entry("lamb", "lamb", "Adam with a trust ratio per kernel; decoupled decay.", b1=0.9, b2=0.999, eps=1e-6),
        entry("lion", "lion", "Steps by sign; decoupled weight decay.", b1=0.9, b2=0.99),
        entry("rmsprop", "rmsprop", "RMSProp with momentum; weight decay as L2.", decay=0.9, eps=1e-8),
        entry("lbfgs", "lbfgs", "L-BFGS with a line search, full batch; L2.", memory=10),
    ],
)

SCHEDULES = entries(
    "schedule",
    "optimization.schedules:",
    [
        entry(
            "exponential",
            "exponential",
            "A constant factor per epoch, learning_rate_decay: the paper's.",
            staircase=True,
            warmup_epochs=0.0,
        ),
        entry("constant", "constant", "The same rate throughout.", warmup_epochs=0.0),
        entry("step", "step", "Multiplied by a factor at some epochs.", at=(60, 120), factor=0.1, warmup_epochs=0.0),
        entry("cosine", "cosine", "Half a cosine over the run.", final=0.0, warmup_epochs=0.0),
        entry(
            "inverse_sqrt",
            "inverse_sqrt",
            "Falls as 1 / √(1 + growth · periods passed); a period in epochs.",
            period=1.0,
            growth=1.0,
            warmup_epochs=0.0,
        ),
    ],
)

LOSSES = entries(
    "loss",
    "optimization.losses:",
    [
        entry("cross_entropy", "cross_entropy", "Of softmax, in nats; with label_smoothing."),
        entry("squared_error", "squared_error", "Summed over classes, on one-hot or smoothed targets."),
        entry(
            "generalized_cross_entropy",
            "generalized_cross_entropy",
            "Between cross-entropy and mean absolute error: unlikely labels count less.",
            q=0.7,
        ),
        entry(
            "bootstrapping",
            "bootstrapping",
            "Cross-entropy of targets mixed with what the network says.",
            beta=0.95,
            hard=False,
        ),
        entry("small_loss", "small_loss", "Cross-entropy of the smallest losses of a batch alone.", keep=0.8),
        entry(
            "early_learning",
            "early_learning",
            "Cross-entropy, kept near what the network said before.",
            weight=3.0,
            decay=0.7,
        ),
    ],
)

ORDERS = entries(
    "order",
    "optimization.orders:",
    [
        entry("reshuffle", "reshuffle", "A new permutation in each epoch."),
        entry("shuffle_once", "shuffle_once", "One permutation for the whole run."),
        entry("stored", "stored", "As the data are stored."),
        entry("with_replacement", "with_replacement", "Independent uniform draws."),
        entry("buffer", "buffer", "A shuffle buffer, as tf.data has it.", capacity=1000),
        entry("echo", "echo", "Each batch or example used several times.", times=2, of="batch"),
        entry("subset", "subset", "A random part of the examples; the others are never seen.", share=0.7),
    ],
)
