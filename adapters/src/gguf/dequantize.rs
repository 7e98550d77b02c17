//! From the blocks of a GGUF tensor to 32-bit floats, bit for bit as gguf-py does it.
//!
//! One function a type, each from the bytes of one block to its values; blocks are independent, so they are spread
//! over the cores. Products are rounded before sums, as in the reference: no fused multiply-add.
//! Source: ggml's `ggml-quants.c` and gguf-py's `quants.py`, <https://github.com/ggml-org/llama.cpp>.

use half::{bf16, f16};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::types::GgmlType;

/// The types that can be converted to 32-bit floats.
pub const SUPPORTED: [GgmlType; 11] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::Bf16,
    GgmlType::Q8_0,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q4K,
    GgmlType::Q5K,
    GgmlType::Q6K,
];

/// Values that one task converts: large against the cost of starting it, small against a core's cache.
const TASK_VALUES: usize = 1 << 14;

/// Converts whole blocks to 32-bit floats; false, with `out` untouched, when the type is not in [`SUPPORTED`].
///
/// # Panics
/// When `bytes` and `out` are not the same number of whole blocks; their lengths come from a checked header.
pub fn dequantize(ggml_type: GgmlType, bytes: &[u8], out: &mut [f32]) -> bool {
    let n_blocks = out.len() / ggml_type.block_size();
    assert_eq!(out.len(), n_blocks * ggml_type.block_size(), "{ggml_type} values are not whole blocks");
    assert_eq!(bytes.len(), n_blocks * ggml_type.block_bytes(), "{ggml_type} bytes do not match the values");
    match ggml_type {
        GgmlType::F32 => each_block(bytes, out, |block, out| *out = [f32::from_le_bytes(*block)]),
        GgmlType::F16 => each_block(bytes, out, |block, out| *out = [f16::from_le_bytes(*block).to_f32()]),
        GgmlType::Bf16 => each_block(bytes, out, |block, out| *out = [bf16::from_le_bytes(*block).to_f32()]),
        GgmlType::Q8_0 => each_block(bytes, out, q8_0),
        GgmlType::Q4_0 => each_block(bytes, out, q4_0),
        GgmlType::Q4_1 => each_block(bytes, out, q4_1),
        GgmlType::Q5_0 => each_block(bytes, out, q5_0),
        GgmlType::Q5_1 => each_block(bytes, out, q5_1),
        GgmlType::Q4K => each_block(bytes, out, q4_k),
        GgmlType::Q5K => each_block(bytes, out, q5_k),
        GgmlType::Q6K => each_block(bytes, out, q6_k),
        _ => return false,
    }
    true
}

/// Applies `decode` to every block of `BYTES` bytes and its `VALUES` values.
fn each_block<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]) + Sync,
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (values, _) = out.as_chunks_mut::<VALUES>();
    let per_task = TASK_VALUES / VALUES;
    blocks.par_chunks(per_task).zip(values.par_chunks_mut(per_task)).for_each(|(blocks, values)| {
        for (block, values) in blocks.iter().zip(values) {
            decode(block, values);
        }
    });
}

/// The half-precision number that a block stores at a byte offset.
fn f16_at(block: &[u8], offset: usize) -> f32 {
    f16::from_le_bytes([block[offset], block[offset + 1]]).to_f32()
}

/// Scale, 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    for (value, quant) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(quant.cast_signed()) * scale;
    }
}

/// Scale, 16 bytes: low halves are values 0 to 15, high halves 16 to 31; 8 stands for zero.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    let (low, high) = out.split_at_mut(16);
    for (i, quants) in block[2..].iter().enumerate() {
        low[i] = scale * (f32::from(quants & 15) - 8.0);
        high[i] = scale * (f32::from(quants >> 4) - 8.0);
    }
}

/// Scale, minimum, 16 bytes as in [`q4_0`].
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, min) = (f16_at(block, 0), f16_at(block, 2));
    let (low, high) = out.split_at_mut(16);
    for (i, quants) in block[4..].iter().enumerate() {
        low[i] = scale * f32::from(quants & 15) + min;
        high[i] = scale * f32::from(quants >> 4) + min;
    }
}

/// The fifth bits of 32 values, stored as one little-endian word at a byte offset.
fn fifth_bits(block: &[u8], offset: usize) -> impl Fn(usize) -> u8 {
    let bytes = [block[offset], block[offset + 1], block[offset + 2], block[offset + 3]];
    move |i| (bytes[i / 8] >> (i % 8) & 1) << 4
}

/// Scale, 32 fifth bits, 16 bytes as in [`q4_0`]; 16 stands for zero.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    let fifth = fifth_bits(block, 2);
    let (low, high) = out.split_at_mut(16);
    for (i, quants) in block[6..].iter().enumerate() {
        low[i] = scale * (f32::from(quants & 15 | fifth(i)) - 16.0);
        high[i] = scale * (f32::from(quants >> 4 | fifth(i + 16)) - 16.0);
    }
}

/// Scale, minimum, 32 fifth bits, 16 bytes as in [`q4_0`].
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, min) = (f16_at(block, 0), f16_at(block, 2));
    let fifth = fifth_bits(block, 4);
    let (low, high) = out.split_at_mut(16);
    for (i, quants) in block[8..].iter().enumerate() {
        low[i] = scale * f32::from(quants & 15 | fifth(i)) + min;
        high[i] = scale * f32::from(quants >> 4 | fifth(i + 16)) + min;
    }
}

/// The 6-bit scale and minimum of sub-block `i` of 8, packed into the 12 bytes that [`q4_k`] and [`q5_k`] share.
///
/// Sub-blocks 0 to 3 have their scales in the low six bits of bytes 0 to 3 and their minima in those of bytes 4 to 7.
/// Sub-blocks 4 to 7 have their low four bits in bytes 8 to 11 and their high two in the top of bytes 0 to 7.
fn scale_and_min(packed: &[u8], i: usize) -> (f32, f32) {
    let (scale, min) = if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        (packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// Scale, scale of the minima, 12 packed bytes, 128 bytes: 32 of them hold two sub-blocks of 32 in their halves.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (scale, min_scale) = (f16_at(block, 0), f16_at(block, 2));
    for (i, sub_block) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (sub_scale, sub_min) = scale_and_min(&block[4..16], i);
        let (sub_scale, sub_min) = (scale * sub_scale, min_scale * sub_min);
        let quants = &block[16 + i / 2 * 32..][..32];
        let shift = i % 2 * 4;
        for (value, quant) in sub_block.iter_mut().zip(quants) {
            *value = sub_scale * f32::from(quant >> shift & 15) - sub_min;
        }
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits before the quants: bit `i` belongs to sub-block `i`.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (scale, min_scale) = (f16_at(block, 0), f16_at(block, 2));
    let fifth = &block[16..48];
    for (i, sub_block) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (sub_scale, sub_min) = scale_and_min(&block[4..16], i);
        let (sub_scale, sub_min) = (scale * sub_scale, min_scale * sub_min);
        let quants = &block[48 + i / 2 * 32..][..32];
        let shift = i % 2 * 4;
        for ((value, quant), fifth) in sub_block.iter_mut().zip(quants).zip(fifth) {
            *value = sub_scale * f32::from(quant >> shift & 15 | (fifth >> i & 1) << 4) - sub_min;
        }
    }
}

/// 128 bytes of low four bits, 64 bytes of high two bits, 16 signed scales, scale; 32 stands for zero.
///
/// Each half of the block has 64 and 32 bytes of these. Its first 64 values are the low halves of its low-bit bytes,
/// its last 64 the high halves; each group of 32 takes two further bits of the high-bit bytes.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let scale = f16_at(block, 208);
    for (i, group) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, quarter) = (i / 4, i % 4);
        let low = &block[half * 64 + quarter % 2 * 32..][..32];
        let high = &block[128 + half * 32..][..32];
        let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
        for (j, value) in group.iter_mut().enumerate() {
            let sub_scale = scale * f32::from(block[192 + i * 2 + j / 16].cast_signed());
            let quant = low[j] >> low_shift & 15 | (high[j] >> high_shift & 3) << 4;
            *value = sub_scale * (f32::from(quant) - 32.0);
        }
    }
}
