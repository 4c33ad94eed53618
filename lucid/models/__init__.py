"""MobileNetV4: the model, its published architectures and weights, and the registry of models.

``weights`` is one of

- True (or ``pretrained=True``): the recommended ones of :func:`list_pretrained`;
- a tag such as ``"e2400_r224_in1k"``, a name with its tag, or a Hugging Face repo id such as
  ``"timm/mobilenetv4_conv_small.e2400_r224_in1k"``: these are fetched into the hub's usual cache
  (extra ``hub``), and their sha256 is compared with the one that the hub reports;
- a path to a ``.safetensors`` or ``.npz`` file, or to one of PyTorch's (``.pth``, ``.pt``,
  ``.bin``, ``.pth.tar``), in lucid's names or in timm's, which are told apart.

The form is that of the weights: lucid's names build the released form for released weights, and the
model's ``name`` tells. timm's names take no weights of the page's form. A file that ``lucid.save``
makes keeps its form. Arrays of other dtypes become float32.

The number of classes is that of the weights, 11,821 for those tagged ``in12k``. Another number
leaves the classifier fresh, with a warning. Other ``in_channels`` (``in_chans``) than 3 adapt the
first convolution as timm does: a single channel gets the sum over the three, more get them repeated
and scaled. A file that does not fit raises a ValueError that names it and the first such entry.

``model.pretrained_cfg`` then tells what the images should be. It is read from the repository's
``config.json``, or from one beside a local file if it is in timm's layout and not another
architecture's; what it does not say is taken from a table of the published checkpoints, by the
name of the repository or file. ``model.default_cfg`` has all of timm's keys, also without weights.
"""

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
