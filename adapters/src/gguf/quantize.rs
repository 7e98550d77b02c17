//! From 32-bit floats to the blocks of a GGUF tensor, as llama.cpp's own quantisers do it.
//!
//! One function a type, each from the values of one block to its bytes; blocks are independent, so they are spread over
//! the cores. `Q8_0`, `Q4_0` and `Q5_0` equal gguf-py's bytes; gguf-py has no `Q4_K`, for which the search follows ggml.
//! Source: ggml's `ggml-quants.c` (`quantize_row_*_ref`) and gguf-py's `quants.py`.

use half::{bf16, f16};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::types::GgmlType;

/// The types that values can be written in.
pub const WRITABLE: [GgmlType; 7] =
    [GgmlType::F32, GgmlType::F16, GgmlType::Bf16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q4K];

/// Values that one task converts.
const TASK_VALUES: usize = 1 << 14;

/// The type in which rows of this length are written when `wanted` is asked for: blocks do not cross rows, so a row
/// that is no whole number of blocks takes the next type that fits, as in llama.cpp.
pub fn type_of_rows(wanted: GgmlType, row: usize) -> GgmlType {
    let fits = |ggml_type: &GgmlType| row.is_multiple_of(ggml_type.block_size());
    let order = [wanted, if wanted == GgmlType::Q4K { GgmlType::Q5_0 } else { GgmlType::F16 }];
    order.into_iter().find(fits).unwrap_or(GgmlType::F16)
}

/// Converts whole blocks of values; `None` when the type is not in [`WRITABLE`].
///
/// # Panics
/// When the values are no whole number of blocks; [`type_of_rows`] finds a type for which they are.
pub fn quantize(ggml_type: GgmlType, values: &[f32]) -> Option<Vec<u8>> {
    let count = values.len() / ggml_type.block_size();
    assert_eq!(values.len(), count * ggml_type.block_size(), "{ggml_type} values are not whole blocks");
    let mut bytes = vec![0; count * ggml_type.block_bytes()];
    match ggml_type {
        GgmlType::F32 => each_block(values, &mut bytes, |[value]: &[f32; 1], out| *out = value.to_le_bytes()),
        GgmlType::F16 => {
            each_block(values, &mut bytes, |[value]: &[f32; 1], out| *out = f16::from_f32(*value).to_le_bytes());
        }
        GgmlType::Bf16 => {
            each_block(values, &mut bytes, |[value]: &[f32; 1], out| *out = bf16::from_f32(*value).to_le_bytes());
        }
        GgmlType::Q8_0 => each_block(values, &mut bytes, q8_0),
        GgmlType::Q4_0 => each_block(values, &mut bytes, q4_0),
        GgmlType::Q5_0 => each_block(values, &mut bytes, q5_0),
        GgmlType::Q4K => each_block(values, &mut bytes, q4_k),
        _ => return None,
    }
    Some(bytes)
}

/// Applies `encode` to every block of `VALUES` values and its `BYTES` bytes.
fn each_block<const VALUES: usize, const BYTES: usize>(
    values: &[f32],
    bytes: &mut [u8],
    encode: impl Fn(&[f32; VALUES], &mut [u8; BYTES]) + Sync,
) {
    let (values, _) = values.as_chunks::<VALUES>();
    let (blocks, _) = bytes.as_chunks_mut::<BYTES>();
    let per_task = TASK_VALUES / VALUES;
    values.par_chunks(per_task).zip(blocks.par_chunks_mut(per_task)).for_each(|(values, blocks)| {
        for (values, block) in values.iter().zip(blocks) {
            encode(values, block);
        }
    });
}

/// The inverse of a scale; 0 for a scale of 0, so that a block of zeros stays one.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Writes a half-precision number at a byte offset.
fn put_f16(block: &mut [u8], offset: usize, value: f32) {
    block[offset..offset + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// Scale, 32 signed bytes.
#[expect(clippy::cast_possible_truncation, reason = "at most 127 by the scale")]
fn q8_0(values: &[f32; 32], block: &mut [u8; 34]) {
    let scale = values.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
    put_f16(block, 0, scale);
    let inverse = inverse(scale);
    for (quant, value) in block[2..].iter_mut().zip(values) {
        *quant = ((value * inverse).round() as i8).cast_unsigned();
    }
}

/// The value that is largest without its sign; the first of equals.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0_f32, |most, value| if value.abs() > most.abs() { *value } else { most })
}

/// `value / scale + half` without its fraction, from 0 to `most`. In double precision, since in single precision the
/// outcome would depend on whether the processor fuses the sum.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of the type")]
fn level(value: f32, inverse: f32, half: f64, most: f64) -> u8 {
    (f64::from(value) * f64::from(inverse) + half).trunc().clamp(0.0, most) as u8
}

/// Scale, 16 bytes: low halves are values 0 to 15, high halves 16 to 31; 8 stands for zero.
fn q4_0(values: &[f32; 32], block: &mut [u8; 18]) {
    let scale = largest(values) / -8.0;
    put_f16(block, 0, scale);
    let inverse = inverse(scale);
    for (i, quants) in block[2..].iter_mut().enumerate() {
        let [low, high] = [values[i], values[i + 16]].map(|value| level(value, inverse, 8.5, 15.0));
        *quants = low | high << 4;
    }
}

/// Scale, 32 fifth bits, 16 bytes as in [`q4_0`]; 16 stands for zero.
fn q5_0(values: &[f32; 32], block: &mut [u8; 22]) {
    let scale = largest(values) / -16.0;
    put_f16(block, 0, scale);
    let inverse = inverse(scale);
    let mut fifth = 0_u32;
    for i in 0..16 {
        let [low, high] = [values[i], values[i + 16]].map(|value| level(value, inverse, 16.5, 31.0));
        fifth |= u32::from(low >> 4) << i | u32::from(high >> 4) << (i + 16);
        block[6 + i] = low & 15 | high << 4;
    }
    block[2..6].copy_from_slice(&fifth.to_le_bytes());
}

/// Scale, scale of the minima, 12 packed bytes, 128 bytes: 32 of them hold two sub-blocks of 32 in their halves.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to six or four bits")]
fn q4_k(values: &[f32; 256], block: &mut [u8; 144]) {
    let (sub_blocks, _) = values.as_chunks::<32>();
    let affine: Vec<Affine> = sub_blocks.iter().map(Affine::fit).collect();
    let most = |of: fn(&Affine) -> f32| affine.iter().map(of).fold(0.0, f32::max);
    let (scale, minimum) = (most(|a| a.scale), most(|a| a.minimum));
    let six_bits = |value: f32, most: f32| (value * 63.0 * inverse(most)).round_ties_even().clamp(0.0, 63.0) as u8;
    put_f16(block, 0, scale / 63.0);
    put_f16(block, 2, minimum / 63.0);
    let [d, d_minimum] = [0, 2].map(|at| f16::from_le_bytes([block[at], block[at + 1]]).to_f32());
    for (i, (own, values)) in affine.iter().zip(sub_blocks).enumerate() {
        let (sub_scale, sub_minimum) = (six_bits(own.scale, scale), six_bits(own.minimum, minimum));
        let packed = &mut block[4..16];
        if i < 4 {
            packed[i] |= sub_scale;
            packed[i + 4] |= sub_minimum;
        } else {
            packed[i + 4] = sub_scale & 15 | (sub_minimum & 15) << 4;
            packed[i - 4] |= sub_scale >> 4 << 6;
            packed[i] |= sub_minimum >> 4 << 6;
        }
        let (d, shift) = (d * f32::from(sub_scale), d_minimum * f32::from(sub_minimum));
        let quants = &mut block[16 + i / 2 * 32..][..32];
        for (quant, value) in quants.iter_mut().zip(values) {
            let level = ((value + shift) * inverse(d)).round_ties_even().clamp(0.0, 15.0) as u8;
            *quant |= level << (i % 2 * 4);
        }
    }
}

/// How 32 values are written as `scale · level - minimum`, with levels from 0 to 15.
#[derive(Clone, Copy, Debug)]
struct Affine {
    scale: f32,
    minimum: f32,
}

impl Affine {
    const LEVELS: f32 = 15.0;

    /// The scale and minimum with the least squared error, larger values counting for more, over a search of 21 widths
    /// of a level; for each, the levels are rounded and the best line through them is computed.
    ///
    /// Source: ggml's `make_qkx2_quants`.
    fn fit(values: &[f32; 32]) -> Self {
        let mean_square = values.iter().map(|x| x * x).sum::<f32>() / 32.0;
        let weights = values.map(|x| mean_square.sqrt() + x.abs());
        let low = values.iter().copied().fold(0.0, f32::min);
        let high = values.iter().copied().fold(f32::MIN, f32::max);
        if high <= low {
            return Self { scale: 0.0, minimum: 0.0 - low };
        }
        let sum_w: f32 = weights.iter().sum();
        let sum_x: f32 = weights.iter().zip(values).map(|(w, x)| w * x).sum();
        let levels = |width: f32| values.map(|x| ((x - low) * width).round_ties_even().clamp(0.0, Self::LEVELS));
        let error = |line: Self, levels: &[f32; 32]| -> f32 {
            let terms = weights.iter().zip(values).zip(levels);
            terms.map(|((w, x), level)| w * (line.scale * level - line.minimum - x).powi(2)).sum()
        };
        let mut best = Self { scale: (high - low) / Self::LEVELS, minimum: 0.0 - low };
        let mut least = error(best, &levels(Self::LEVELS / (high - low)));
        for step in 0..=20_u8 {
            let levels = levels((Self::LEVELS - 1.0 + 0.1 * f32::from(step)) / (high - low));
            let [mut sum_l, mut sum_ll, mut sum_xl] = [0.0_f32; 3];
            for ((w, x), level) in weights.iter().zip(values).zip(&levels) {
                sum_l += w * level;
                sum_ll += w * level * level;
                sum_xl += w * level * x;
            }
            let determinant = sum_w * sum_ll - sum_l * sum_l;
            if determinant <= 0.0 {
                continue;
            }
            let mut line = Self {
                scale: (sum_w * sum_xl - sum_x * sum_l) / determinant,
                minimum: (sum_l * sum_xl - sum_ll * sum_x) / determinant,
            };
            if line.minimum < 0.0 {
                line = Self { scale: sum_xl / sum_ll, minimum: 0.0 };
            }
            let error = error(line, &levels);
            if error < least {
                (best, least) = (line, error);
            }
        }
        best
    }
}
