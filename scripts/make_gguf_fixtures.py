#!/usr/bin/env python3
"""Writes the GGUF fixtures of the adapters crate: tests/fixtures/gguf/.

blocks.gguf           every value type of the metadata, and random blocks of every tensor type that is supported,
                      written by gguf-py's writer
expected.safetensors  the same tensors as 32-bit floats, by gguf-py's dequantize; and a matrix with its rows in
                      llama.cpp's order and in Hugging Face's, by numpy
quantized.safetensors numbers of many magnitudes, and the bytes that gguf-py's quantisers make of them

Needs gguf, numpy and safetensors (made with gguf 0.19.0, numpy 2.4.6, safetensors 0.8.0). Run from anywhere.
"""
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T, GGUFReader, GGUFValueType as V, GGUFWriter, dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "gguf"
ROWS, COLS = 3, 512
# Byte offsets of the half-precision scales in a block; everything else in it may be any byte.
SCALES = {
    T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}
# What gguf-py can write.
WRITTEN = [T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q5_0]
rng = np.random.default_rng(20261122)


def scales(n: int) -> np.ndarray:
    """Half-precision numbers of every magnitude, subnormal and zero too, but finite."""
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000
    special = [0x0000, 0x8000, 0x0001, 0x7BFF][: n // 4]
    bits[: len(special)] = special
    return bits


def random_blocks(tensor_type: T) -> np.ndarray:
    size, block_bytes = GGML_QUANT_SIZES[tensor_type]
    n_blocks = ROWS * COLS // size
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
    for offset in SCALES[tensor_type]:
        blocks[:, offset : offset + 2] = rng.permutation(scales(n_blocks)).view(np.uint8).reshape(n_blocks, 2)
    return blocks.reshape(ROWS, -1)


def metadata(w: GGUFWriter) -> None:
    w.add_uint8("test.u8", 200)
    w.add_int8("test.i8", -100)
    w.add_uint16("test.u16", 60000)
    w.add_int16("test.i16", -30000)
    w.add_uint32("test.u32", 4000000000)
    w.add_int32("test.i32", -2000000000)
    w.add_float32("test.f32", 0.1)
    w.add_uint64("test.u64", 1 << 63)
    w.add_int64("test.i64", -(1 << 62))
    w.add_float64("test.f64", 0.1)
    w.add_bool("test.bool", True)
    w.add_string("test.string", "déjà vu")
    w.add_array("test.strings", ["<s>", "", "Ġgreffon"])
    w.add_array("test.floats", [0.5, -1.5])
    w.add_array("test.ints", [3, -1, 6])
    w.add_array("test.bools", [True, False])
    w.add_key_value("test.bytes", bytes([1, 2, 255]), V.ARRAY, V.UINT8)
    w.add_array("test.nested", [[1, 2], [3]])


def permute(weights: np.ndarray, n_head: int) -> np.ndarray:
    """The order of rows that llama.cpp's converter gives q and k."""
    rows = weights.reshape(n_head, 2, weights.shape[0] // n_head // 2, *weights.shape[1:])
    return rows.swapaxes(1, 2).reshape(weights.shape)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "blocks.gguf"
    w = GGUFWriter(path, "llama")
    metadata(w)
    w.add_tensor("F32", rng.standard_normal((ROWS, COLS), dtype=np.float32))
    w.add_tensor("F16", scales(ROWS * COLS).view(np.float16).reshape(ROWS, COLS))
    bf16 = (rng.standard_normal((ROWS, COLS)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    w.add_tensor("BF16", bf16.view(np.uint8), raw_dtype=T.BF16)
    for tensor_type in SCALES:
        w.add_tensor(tensor_type.name, random_blocks(tensor_type), raw_dtype=tensor_type)
    # Not supported, to be refused by name.
    w.add_tensor("Q2_K", np.zeros((1, GGML_QUANT_SIZES[T.Q2_K][1]), dtype=np.uint8), raw_dtype=T.Q2_K)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

    expected = {}
    for tensor in GGUFReader(path).tensors:
        if tensor.tensor_type != T.Q2_K:
            shape = [int(dim) for dim in tensor.shape[::-1]]
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
            expected[tensor.name] = np.ascontiguousarray(values)
            assert np.isfinite(values).all(), tensor.name
    weights = rng.standard_normal((24, 5), dtype=np.float32)
    expected["rows.hugging_face"] = weights
    expected["rows.llama_cpp.3_heads"] = np.ascontiguousarray(permute(weights, 3))
    save_file(expected, FOLDER / "expected.safetensors")
    numbers = (rng.standard_normal((ROWS, COLS)) * 10.0 ** rng.integers(-4, 2, (ROWS, COLS // 32)).repeat(32, 1))
    numbers = numbers.astype(np.float32)
    numbers[0, :32] = 0.0
    quantized = {tensor_type.name: quantize(numbers, tensor_type).view(np.uint8) for tensor_type in WRITTEN}
    save_file({"numbers": numbers, **quantized}, FOLDER / "quantized.safetensors")


if __name__ == "__main__":
    main()
