"""What each verb takes; plain data, so that the command line's help needs nothing else."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """A verb of the command line."""

    summary: str
    options: tuple[str, ...]  # beside --checkpoint and --out
    examples: tuple[str, ...]  # without "deconvkit VERB"


OPTIONS = {
    "input": "images, or folders of them; a model of digits also takes a folder with MNIST's files. Without, "
    "what ships with the dependencies",
    "invert": "for digits in black on white; the models know white on black",
    "count": "how many to draw",
    "seed": "of all that is drawn at random",
    "names": "text file with the name of a class in each line",
    "proposals": "look at so many boxes of several sizes, at most, and join what is seen by the maximum at "
    "each pixel; 0: at the whole image once",
    "boxes": "text file of boxes to look at instead: in each line [NAME] LEFT TOP RIGHT BOTTOM in pixels, "
    "with the image's file name where they are of one",
    "ensemble": "a second model, which sees the image in one pass, or a .npy of probabilities (classes, "
    "height, width); the mean of both is taken",
    "crf": "smooth the labels by a dense CRF, which follows the edges of the image",
}

VERBS = {
    "sample": Verb(
        "Draw what a generator, a variational autoencoder or a decoder of classes makes up.",
        ("count", "seed", "names"),
        (
            "--checkpoint runs/vae/model.pt --out pictures",
            "--checkpoint runs/dcgan/model.pt --count 24 --seed 3 --out pictures",
        ),
    ),
    "reconstruct": Verb(
        "Draw images beside what an autoencoder makes of them.",
        ("input", "invert"),
        ("--checkpoint runs/sparse-autoencoder/model.pt --input photograph.jpg --out pictures",),
    ),
    "denoise": Verb(
        "Take the noise away from digits; without --input from some that noise is added to.",
        ("input", "invert", "seed"),
        ("--checkpoint runs/denoise/model.pt --out pictures",),
    ),
    "traverse": Verb(
        "Walk through the latents of a model and draw what changes.",
        ("input", "invert", "seed", "names"),
        ("--checkpoint runs/vae/model.pt --out pictures",),
    ),
    "analogies": Verb(
        "Draw the style of images in all classes (M2, M1+M2).",
        ("input", "invert", "names"),
        ("--checkpoint runs/m2/model.pt --out pictures",),
    ),
    "classify": Verb(
        "Name what images show (VGG, M2, M1+M2).",
        ("input", "invert", "names"),
        (
            "--checkpoint runs/m2/model.pt --input digits --out pictures",
            "--checkpoint vgg16.pth --names imagenet.txt --input cat.jpg --out pictures",
        ),
    ),
    "segment": Verb(
        "Draw a label map over images (DeconvNet).",
        ("input", "names", "proposals", "boxes", "ensemble", "crf"),
        (
            "--checkpoint runs/deconvnet/model.pt --input street.jpg --out pictures",
            "--checkpoint runs/deconvnet/model.pt --input cat.jpg --proposals 50 --crf --out pictures",
        ),
    ),
    "visualize": Verb(
        "See through a network: what the strongest channels of a VGG or a DeconvNet see, or what the units "
        "of a sparse autoencoder look for.",
        ("input",),
        ("--checkpoint vgg16.pth --input bicycle.jpg --out pictures",),
    ),
}
