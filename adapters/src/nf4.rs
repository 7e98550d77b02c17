//! NF4: four bits a number, as indices into 16 levels at the quantiles of a normal distribution.
//!
//! A block of 64 numbers is divided by its largest magnitude, which is kept in float32; each number becomes the nearest
//! level. The numbers are those of bitsandbytes with `bnb_4bit_quant_type="nf4"`, block size 64, and without double
//! quantisation; the order of the bytes is our own: scale, then 32 bytes of two indices, the first in the low half.
//!
//! Source: Dettmers et al. 2023, <https://arxiv.org/abs/2305.14314>, appendix E; bitsandbytes `csrc/kernels.cu`.

use rayon::prelude::*;

/// Numbers in a block.
pub const BLOCK_SIZE: usize = 64;

/// Bytes in a block: the scale and the indices.
pub const BLOCK_BYTES: usize = 4 + BLOCK_SIZE / 2;

/// The levels, ascending.
pub const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Blocks of a whole number of 64 values.
///
/// # Panics
/// When the values are not whole blocks.
pub(crate) fn quantize(values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(BLOCK_SIZE), "{} values are not whole blocks", values.len());
    let mut bytes = vec![0; values.len() / BLOCK_SIZE * BLOCK_BYTES];
    values.par_chunks_exact(BLOCK_SIZE).zip(bytes.par_chunks_exact_mut(BLOCK_BYTES)).for_each(|(values, block)| {
        let scale = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let (head, indices) = block.split_at_mut(4);
        head.copy_from_slice(&scale.to_le_bytes());
        for (byte, pair) in indices.iter_mut().zip(values.chunks_exact(2)) {
            *byte = nearest(pair[0] * inverse) | nearest(pair[1] * inverse) << 4;
        }
    });
    bytes
}

/// The index of the level nearest to a number; of two that are as near, the lower.
fn nearest(value: f32) -> u8 {
    let is_above = |pair: &[f32]| value > f32::midpoint(pair[0], pair[1]);
    LEVELS.windows(2).fold(0, |index, pair| index + u8::from(is_above(pair)))
}

/// The values of blocks.
pub(crate) fn dequantize(blocks: &[u8], out: &mut [f32]) {
    assert_eq!(blocks.len() / BLOCK_BYTES * BLOCK_SIZE, out.len(), "the blocks do not match the values");
    for (block, out) in blocks.as_chunks::<BLOCK_BYTES>().0.iter().zip(out.as_chunks_mut::<BLOCK_SIZE>().0) {
        let scale = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        for (byte, pair) in block[4..].iter().zip(out.as_chunks_mut::<2>().0) {
            *pair = [LEVELS[usize::from(byte & 15)] * scale, LEVELS[usize::from(byte >> 4)] * scale];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SafetensorsFile;

    fn fixture() -> SafetensorsFile {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/nf4/nf4.safetensors");
        SafetensorsFile::open(path).expect("a committed file")
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn blocks_are_those_of_bitsandbytes() {
        let file = fixture();
        let blocks = quantize(&file.f32("values").expect("float32"));
        let (absmax, packed) = (file.f32("absmax").expect("float32"), file.mapped("packed").expect("bytes"));
        assert_eq!(blocks.len(), absmax.len() * BLOCK_BYTES);
        for (index, block) in blocks.chunks_exact(BLOCK_BYTES).enumerate() {
            assert_eq!(block[..4], absmax[index].to_le_bytes(), "scale of block {index}");
            let theirs: Vec<u8> = packed[index * 32..][..32].iter().map(|byte| byte.rotate_left(4)).collect();
            assert_eq!(block[4..], theirs, "indices of block {index}");
        }
    }

    #[test]
    fn values_are_those_of_bitsandbytes() {
        let file = fixture();
        let blocks = quantize(&file.f32("values").expect("float32"));
        let expected = file.f32("dequantized").expect("float32");
        let mut values = vec![f32::NAN; expected.len()];
        dequantize(&blocks, &mut values);
        assert_eq!(bits(&values), bits(&expected));
    }
}
