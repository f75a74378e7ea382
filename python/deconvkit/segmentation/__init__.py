"""What is made of the score maps of a network that segments. Needs SciPy, which the extra [demo] brings."""

from deconvkit.segmentation.dense_crf import dense_crf

__all__ = ["dense_crf"]
