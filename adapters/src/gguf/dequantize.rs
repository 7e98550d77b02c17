//! From the blocks of a GGUF tensor to 32-bit floats, bit for bit as gguf-py does it.
//!
//! One function a type, each from the bytes of one block to its values; blocks are independent, so they are spread
//! over the cores. Products are rounded before sums, as in the reference: no fused multiply-add.
//! Source: ggml's `ggml-quants.c` and gguf-py's `quants.py`, <https://github.com/ggml-org/llama.cpp>.

use std::sync::OnceLock;

use half::{bf16, f16};
use pulp::Arch;
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

/// Applies a function to every block of so many bytes and its values, with the widest instructions that the processor has.
/// A macro and not a function, so that what decodes a block becomes part of the loop.
macro_rules! each_block {
    ($bytes:ident, $out:ident, $decode:expr) => {
        arch().dispatch(|| {
            for (block, values) in $bytes.as_chunks().0.iter().zip($out.as_chunks_mut().0) {
                $decode(block, values);
            }
        })
    };
}

/// The instruction set of this machine.
fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(Arch::new)
}

/// Converts whole blocks to 32-bit floats, on all cores; false, with `out` untouched, when the type is not in
/// [`SUPPORTED`].
///
/// # Panics
/// When `bytes` and `out` are not the same number of whole blocks; their lengths come from a checked header.
pub fn dequantize(ggml_type: GgmlType, bytes: &[u8], out: &mut [f32]) -> bool {
    check(ggml_type, bytes, out);
    if !SUPPORTED.contains(&ggml_type) {
        return false;
    }
    let (values, bytes_of) = (ggml_type.block_size(), ggml_type.block_bytes());
    let blocks = (TASK_VALUES / values).max(1);
    let tasks = bytes.par_chunks(blocks * bytes_of).zip(out.par_chunks_mut(blocks * values));
    tasks.for_each(|(bytes, out)| dequantize_row(ggml_type, bytes, out));
    true
}

/// Converts whole blocks of a type in [`SUPPORTED`] to 32-bit floats, on this thread.
///
/// # Panics
/// As [`dequantize`], and for any other type.
pub fn dequantize_row(ggml_type: GgmlType, bytes: &[u8], out: &mut [f32]) {
    check(ggml_type, bytes, out);
    match ggml_type {
        GgmlType::F32 => {
            each_block!(bytes, out, |block: &[u8; 4], out: &mut [f32; 1]| *out = [f32::from_le_bytes(*block)]);
        }
        GgmlType::F16 => each_block!(bytes, out, |block: &[u8; 2], out: &mut [f32; 1]| *out = [f16_at(block, 0)]),
        GgmlType::Bf16 => {
            each_block!(bytes, out, |block: &[u8; 2], out: &mut [f32; 1]| *out =
                [bf16::from_le_bytes(*block).to_f32()]);
        }
        GgmlType::Q8_0 => each_block!(bytes, out, q8_0),
        GgmlType::Q4_0 => each_block!(bytes, out, q4_0),
        GgmlType::Q4_1 => each_block!(bytes, out, q4_1),
        GgmlType::Q5_0 => each_block!(bytes, out, q5_0),
        GgmlType::Q5_1 => each_block!(bytes, out, q5_1),
        GgmlType::Q4K => each_block!(bytes, out, q4_k),
        GgmlType::Q5K => each_block!(bytes, out, q5_k),
        GgmlType::Q6K => each_block!(bytes, out, q6_k),
        _ => panic!("{ggml_type} blocks cannot be read as numbers"),
    }
}

fn check(ggml_type: GgmlType, bytes: &[u8], out: &[f32]) {
    let n_blocks = out.len() / ggml_type.block_size();
    assert_eq!(out.len(), n_blocks * ggml_type.block_size(), "{ggml_type} values are not whole blocks");
    assert_eq!(bytes.len(), n_blocks * ggml_type.block_bytes(), "{ggml_type} bytes do not match the values");
}

/// The half-precision number that a block stores at a byte offset.
///
/// As [`f16::to_f32`] computes it, without asking at each number what the processor can do: moved into the place of
/// a float32, the exponent is 112 too small.
#[inline]
fn f16_at(block: &[u8], offset: usize) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits((127 + 112) << 23);
    let number = u16::from_le_bytes([block[offset], block[offset + 1]]);
    if number & 0x7c00 == 0x7c00 {
        return f16::from_bits(number).to_f32();
    }
    let magnitude = f32::from_bits(u32::from(number & 0x7fff) << 13) * TWO_TO_112;
    if number >> 15 == 0 { magnitude } else { -magnitude }
}

/// Scale, 32 signed bytes.
#[inline]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    for (value, quant) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(quant.cast_signed()) * scale;
    }
}

/// The halves of 16 bytes: the low ones first.
#[inline]
fn halves(bytes: &[u8]) -> [u8; 32] {
    let mut quants = [0; 32];
    for (i, byte) in bytes[..16].iter().enumerate() {
        quants[i] = byte & 15;
        quants[16 + i] = byte >> 4;
    }
    quants
}

/// Scale, 16 bytes: low halves are values 0 to 15, high halves 16 to 31; 8 stands for zero.
#[inline]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    for (value, quant) in out.iter_mut().zip(halves(&block[2..])) {
        *value = scale * (f32::from(quant) - 8.0);
    }
}

/// Scale, minimum, 16 bytes as in [`q4_0`].
#[inline]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, min) = (f16_at(block, 0), f16_at(block, 2));
    for (value, quant) in out.iter_mut().zip(halves(&block[4..])) {
        *value = scale * f32::from(quant) + min;
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
