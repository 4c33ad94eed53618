"""MobileNetV4: the model, its published architectures and weights, and the registry of models."""

from lucid.models import configs as configs
from lucid.models._load_model import load_model as load_model
from lucid.models._mobilenet_v4 import MobileNet_V4 as MobileNet_V4
from lucid.models._published import Pretrained as Pretrained
from lucid.models._published import list_pretrained as list_pretrained
from lucid.models._registry import UnknownModelError as UnknownModelError
from lucid.models._registry import create_model as create_model
from lucid.models._registry import list_models as list_models
from lucid.models._registry import register as register
from lucid.models._variants import mobilenet_v4_conv_large as mobilenet_v4_conv_large
from lucid.models._variants import mobilenet_v4_conv_medium as mobilenet_v4_conv_medium
from lucid.models._variants import mobilenet_v4_conv_small as mobilenet_v4_conv_small
from lucid.models._variants import mobilenet_v4_hybrid_large as mobilenet_v4_hybrid_large
from lucid.models._variants import mobilenet_v4_hybrid_medium as mobilenet_v4_hybrid_medium
from lucid.models._variants import mobilenetv4_conv_aa_large as mobilenetv4_conv_aa_large
from lucid.models._variants import mobilenetv4_conv_aa_medium as mobilenetv4_conv_aa_medium
from lucid.models._variants import mobilenetv4_conv_blur_medium as mobilenetv4_conv_blur_medium
from lucid.models._variants import mobilenetv4_conv_large as mobilenetv4_conv_large
from lucid.models._variants import mobilenetv4_conv_medium as mobilenetv4_conv_medium
from lucid.models._variants import mobilenetv4_conv_small as mobilenetv4_conv_small
from lucid.models._variants import mobilenetv4_conv_small_035 as mobilenetv4_conv_small_035
from lucid.models._variants import mobilenetv4_conv_small_050 as mobilenetv4_conv_small_050
from lucid.models._variants import mobilenetv4_hybrid_large as mobilenetv4_hybrid_large
from lucid.models._variants import mobilenetv4_hybrid_large_075 as mobilenetv4_hybrid_large_075
from lucid.models._variants import mobilenetv4_hybrid_medium as mobilenetv4_hybrid_medium
from lucid.models._variants import mobilenetv4_hybrid_medium_075 as mobilenetv4_hybrid_medium_075
