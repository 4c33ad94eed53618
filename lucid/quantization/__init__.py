"""int8: post-training quantisation, and quantisation-aware training."""

from lucid.quantization._fake_quantize import FakeQuantize as FakeQuantize
from lucid.quantization._files import integer_state as integer_state
from lucid.quantization._files import restore as restore
from lucid.quantization._layers import QuantizedLayer as QuantizedLayer
from lucid.quantization._layers import Quantizer as Quantizer
from lucid.quantization._layers import quantized_layers as quantized_layers
from lucid.quantization._noise import LayerNoise as LayerNoise
from lucid.quantization._noise import NoiseTable as NoiseTable
from lucid.quantization._noise import layer_noise as layer_noise
from lucid.quantization._quantize import disable_observer as disable_observer
from lucid.quantization._quantize import enable_observer as enable_observer
from lucid.quantization._quantize import prepare_qat as prepare_qat
from lucid.quantization._quantize import quantize as quantize
