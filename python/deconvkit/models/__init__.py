"""Networks built from the operators: nn.Modules only, no training loops."""

from deconvkit.losses.sparse import SparseAutoencoderLoss
from deconvkit.models.class_decoder import ClassDecoder
from deconvkit.models.dcgan import DCGANDiscriminator, DCGANGenerator
from deconvkit.models.deconvnet import DeconvNet
from deconvkit.models.mlp import MLPDiscriminator, MLPGenerator
from deconvkit.models.semi_supervised import M1, M2, StackedM1M2
from deconvkit.models.sparse_autoencoder import SparseAutoencoder, SparseAutoencoderOutput
from deconvkit.models.switch_visualizer import Projection, SwitchVisualizer
from deconvkit.models.vae import VAE, ConvVAE, Gaussian, VAEOutput
from deconvkit.models.vgg import VGG, vgg16, vgg16_bn, vgg19, vgg19_bn

__all__ = [
    "M1",
    "M2",
    "VAE",
    "VGG",
    "ClassDecoder",
    "ConvVAE",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DeconvNet",
    "Gaussian",
    "MLPDiscriminator",
    "MLPGenerator",
    "Projection",
    "SparseAutoencoder",
    "SparseAutoencoderLoss",
    "SparseAutoencoderOutput",
    "StackedM1M2",
    "SwitchVisualizer",
    "VAEOutput",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]
