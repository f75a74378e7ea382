"""What the networks of the lecture minimise: functions of tensors, each with its formula and source."""

from deconvkit.losses.adversarial import adversarial_value, discriminator_loss, generator_loss
from deconvkit.losses.segmentation import IGNORED, pixel_cross_entropy
from deconvkit.losses.semi_supervised import m2_labelled, m2_objective, m2_unlabelled, weight_prior
from deconvkit.losses.sparse import SparseAutoencoderLoss, sparse_autoencoder_cost
from deconvkit.losses.variational import bernoulli_log_likelihood, gaussian_kl, gaussian_log_likelihood

__all__ = [
    "IGNORED",
    "SparseAutoencoderLoss",
    "adversarial_value",
    "bernoulli_log_likelihood",
    "discriminator_loss",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "generator_loss",
    "m2_labelled",
    "m2_objective",
    "m2_unlabelled",
    "pixel_cross_entropy",
    "sparse_autoencoder_cost",
    "weight_prior",
]
