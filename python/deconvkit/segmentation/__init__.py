"""What is made of the score maps of a network that segments. Needs SciPy, which the extra [demo] brings."""

from deconvkit.segmentation.dense_crf import dense_crf
from deconvkit.segmentation.ensemble import ensemble
from deconvkit.segmentation.proposals import aggregate, clip_boxes, proposals

__all__ = ["aggregate", "clip_boxes", "dense_crf", "ensemble", "proposals"]
