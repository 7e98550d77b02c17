//! Functions of vectors, for the operators that go over their numbers once.
//!
//! All are called inside [`pulp`]'s dispatch, so that they become part of the operator's own loop.

use pulp::Simd;

/// Writes `f` of the numbers of several slices at the same place, vector by vector.
#[inline(always)]
pub(in crate::kernels) fn map<S: Simd, const N: usize>(
    simd: S,
    inputs: [&[f32]; N],
    out: &mut [f32],
    f: impl Fn([S::f32s; N]) -> S::f32s,
) {
    update(simd, out, inputs, |_, values| f(values));
}

/// As [`map`], where `f` also sees what was there before.
#[inline(always)]
pub(in crate::kernels) fn update<S: Simd, const N: usize>(
    simd: S,
    out: &mut [f32],
    inputs: [&[f32]; N],
    f: impl Fn(S::f32s, [S::f32s; N]) -> S::f32s,
) {
    let len = out.len();
    let inputs = inputs.map(|input| &input[..len]);
    let (out_vectors, out_rest) = S::as_mut_simd_f32s(out);
    let vectors = inputs.map(|input| S::as_simd_f32s(input).0);
    let count = out_vectors.len();
    let vectors = vectors.map(|v| &v[..count]);
    for i in 0..count {
        out_vectors[i] = f(out_vectors[i], vectors.map(|v| v[i]));
    }
    if !out_rest.is_empty() {
        let start = count * S::F32_LANES;
        let values = inputs.map(|input| simd.partial_load_f32s(&input[start..]));
        let value = f(simd.partial_load_f32s(out_rest), values);
        simd.partial_store_f32s(out_rest, value);
    }
}

/// The sum of `f` over the numbers of several slices at the same place. `f` of zeros must be zero.
#[inline(always)]
pub(in crate::kernels) fn sum<S: Simd, const N: usize>(
    simd: S,
    inputs: [&[f32]; N],
    f: impl Fn([S::f32s; N]) -> S::f32s,
) -> f32 {
    let len = inputs[0].len();
    let inputs = inputs.map(|input| &input[..len]);
    let vectors = inputs.map(|input| S::as_simd_f32s(input).0);
    let count = vectors[0].len();
    let vectors = vectors.map(|v| &v[..count]);
    let mut sums = [simd.splat_f32s(0.0); 2];
    for i in 0..count {
        sums[i % 2] = simd.add_f32s(sums[i % 2], f(vectors.map(|v| v[i])));
    }
    let start = count * S::F32_LANES;
    if start < len {
        sums[0] = simd.add_f32s(sums[0], f(inputs.map(|input| simd.partial_load_f32s(&input[start..]))));
    }
    simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]))
}

/// The largest number; minus infinity for none.
#[inline(always)]
pub(in crate::kernels) fn max<S: Simd>(simd: S, numbers: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(numbers);
    let largest = vectors.iter().fold(simd.splat_f32s(f32::NEG_INFINITY), |a, &b| simd.max_f32s(a, b));
    rest.iter().copied().fold(simd.reduce_max_f32s(largest), f32::max)
}

/// `e^x`, within 2 units in the last place; 0 below -87.3, the largest power in reach above 88.
///
/// Source of the polynomial: Cephes `expf`, <https://www.netlib.org/cephes/>.
#[inline(always)]
pub(in crate::kernels) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Adding and taking off 1.5 · 2^23 rounds to a whole number, which then stands in the low bits.
    let magic = simd.splat_f32s(12_582_912.0);
    let low = simd.splat_f32s(-87.3);
    let clamped = simd.min_f32s(simd.max_f32s(x, low), simd.splat_f32s(88.0));
    let shifted = simd.mul_add_e_f32s(clamped, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
    let whole = simd.sub_f32s(shifted, magic);
    let rest = simd.mul_add_e_f32s(whole, simd.splat_f32s(-0.693_359_375), clamped);
    let rest = simd.mul_add_e_f32s(whole, simd.splat_f32s(2.121_944_4e-4), rest);
    let mut p = simd.splat_f32s(1.987_569_2e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = simd.mul_add_e_f32s(p, rest, simd.splat_f32s(coefficient));
    }
    let one = simd.splat_f32s(1.0);
    let p = simd.mul_add_e_f32s(p, simd.mul_f32s(rest, rest), simd.add_f32s(rest, one));
    // 2^whole by its exponent bits: the shift drops the magic number's own.
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let scaled = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent));
    simd.select_f32s(simd.less_than_f32s(x, low), simd.splat_f32s(0.0), scaled)
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::kernels::simd::arch;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);

    impl WithSimd for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            map(simd, [self.0], self.1, |[x]| exp(simd, x));
        }
    }

    #[test]
    fn exp_is_accurate_over_its_range() {
        let x: Vec<f32> = (-87_000..88_000).map(|i| i as f32 / 1000.0).collect();
        let mut y = vec![0.0; x.len()];
        arch().dispatch(Exp(&x, &mut y));
        for (x, y) in x.iter().zip(&y) {
            let expected = f64::from(*x).exp();
            assert!((f64::from(*y) - expected).abs() <= 2.4e-7 * expected, "exp({x}) = {y}, expected {expected}");
        }
        let mut far = [1.0; 3];
        arch().dispatch(Exp(&[f32::NEG_INFINITY, -100.0, 0.0], &mut far));
        assert_eq!(far, [0.0, 0.0, 1.0]);
    }
}
