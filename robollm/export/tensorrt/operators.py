"""What TensorRT's ONNX parser says it takes: operators, types, restrictions. Facts, as data.

Source: the operator support matrix of onnx/onnx-tensorrt (Apache-2.0), docs/operators.md at
commit 7c51a63a719180eb5160c874c111746f3fb46a6b, which is the parser of TensorRT 11.1. The matrix
of TensorRT 10.15 differs in one operator: it lacks Swish.

The parser takes more than the matrix promises in places (its source of 10.1 reads the Resize mode
`cubic`). Here the promise counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

VERSION = "11.1"
MIN_OPSET = 9
MAX_OPSET = 24
TOPK_MAX = 3839
"""`K` of TopK must be less than 3840."""
TYPES = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "fp8": TensorProto.FLOAT8E4M3FN,
    "fp4": TensorProto.FLOAT4E2M1,
    "int4": TensorProto.INT4,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}
"""Every type of a tensor in a network. Double is not here: it is cast to fp32, values clamped."""


@dataclass(frozen=True, slots=True)
class Operator:
    """What the matrix says of one supported operator.

    Attributes:
        types: names in `TYPES`, of its data: what indices, shapes, sizes and scales may be is not
            said in the matrix and follows from ONNX.
        note: the restriction, in our words; empty when there is none.
    """

    types: frozenset[str]
    note: str


_HALF = "fp32 fp16"
_REAL = "fp32 fp16 bf16"
_NUMBER = f"{_REAL} int32 int64"
_ANY = f"{_NUMBER} bool"
_CONSTANT = f"{_ANY} fp8 fp4 int4"

_SUPPORTED = {
    _HALF: """BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression
        NonZero RoiAlign""",
    _REAL: """Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv
        ConvTranspose Cos Cosh CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool
        GlobalLpPool GlobalMaxPool GroupNormalization GRU HardSigmoid HardSwish Hardmax ImageScaler
        InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM
        LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization ParametricSoftplus PRelu
        QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal
        Resize RMSNormalization RNN RotaryEmbedding Round ScaledTanh Scan Selu Sigmoid Sin Sinh
        Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Upsample""",
    _NUMBER: """Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less
        LessOrEqual Max Min Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum
        ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
        Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK""",
    _ANY: """Concat Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot
        Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze
        Where""",
    "bool": "And Not Or Xor",
    f"{_ANY} uint8": "Cast CastLike",
    f"{_REAL} int8 fp8": "Attention",
    _CONSTANT: "Constant ConstantOfShape",
    "int8 fp8 fp4 int4": "DequantizeLinear",
    f"{_NUMBER} int8": "Gelu",
    f"{_NUMBER} fp8": "Mean",
    "fp32": "STFT",
    f"{_REAL} int32": "TensorScatter",
}

_AXES_STORED = "axes must be an initializer"
_AXES_CONSTANT = "axes must come down to a constant"
_SEED = "the seed is ignored"
_SAME_ACTIVATIONS = "a bidirectional one needs the same activations both ways"
_NOTES = {
    "Attention": "4-D q, k, v and mask; no caches, no softcap",
    "AveragePool": "2-D or 3-D, no dilations",
    "Constant": "no sparse values, no strings",
    "CumSum": "the axis must be a constant",
    "DeformConv": "1-D or 2-D, the same pads at both ends",
    "DequantizeLinear": "the zero point must be 0",
    "Dropout": "is_training must be an initializer, and false",
    "EyeLike": "the input must have a static shape",
    "GridSample": "4-D",
    "GRU": _SAME_ACTIVATIONS,
    "Hardmax": "the axis must have a constant length",
    "If": "branches give the same ranks, under different names",
    "LayerNormalization": "only the first output",
    "Loop": "scan outputs of a static length, carried values of one shape",
    "LSTM": f"{_SAME_ACTIVATIONS}; input_forget and layout must be 0",
    "LpPool": "no dilations",
    "MaxPool": "2-D or 3-D, no dilations, no indices",
    "OneHot": "the depth must be a constant",
    "QuantizeLinear": "the zero point must be 0",
    "RandomNormal": _SEED,
    "RandomNormalLike": _SEED,
    "RandomUniform": _SEED,
    "RandomUniformLike": _SEED,
    "Resize": "nearest or linear; no antialiasing, no tf_crop_and_resize, no kept aspect ratio",
    "RNN": _SAME_ACTIVATIONS,
    "RotaryEmbedding": "position_ids must be int64",
    "STFT": "frame_step and window must be initializers, the input real",
    "ScatterND": "no reduction",
    "Squeeze": _AXES_CONSTANT,
    "TensorScatter": "4-D cache and update, axis -2",
    "TopK": f"sorted must be 1, K at most {TOPK_MAX}",
    "Unsqueeze": _AXES_CONSTANT,
}
_NOTES |= {
    f"Reduce{kind}": _AXES_STORED
    for kind in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()
}

OPERATORS = {
    name: Operator(frozenset(types.split()), _NOTES.get(name, ""))
    for types, names in _SUPPORTED.items()
    for name in names.split()
}
"""Every supported operator. One that isn't here, TensorRT hasn't got."""
