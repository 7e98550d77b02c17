//! Loops over vectors, for the operators that go over their numbers once.
//!
//! They are macros and not functions of closures: a closure does not inherit the instruction set that the function
//! around it was compiled for, and each vector operation in it would become a call.

use pulp::Simd;

/// Replaces each vector `o` of `out` by an expression of it and of the vectors at the same place in other slices:
/// `each!(S, simd, o in out, [x in xs, y in ys], expression)`.
macro_rules! each {
    ($S:ident, $simd:expr, $o:ident in $out:expr, [$($x:ident in $xs:expr),*], $value:expr) => {{
        let out: &mut [f32] = $out;
        let _len = out.len();
        let (vectors, rest) = $S::as_mut_simd_f32s(out);
        let count = vectors.len();
        $(let $x = {
            let numbers: &[f32] = &($xs)[.._len];
            (&$S::as_simd_f32s(numbers).0[..count], &numbers[count * $S::F32_LANES..])
        };)*
        for i in 0..count {
            $(let $x = $x.0[i];)*
            let $o = vectors[i];
            vectors[i] = $value;
        }
        if !rest.is_empty() {
            $(let $x = $simd.partial_load_f32s($x.1);)*
            let $o = $simd.partial_load_f32s(rest);
            let value = $value;
            $simd.partial_store_f32s(rest, value);
        }
    }};
}

/// The sum of an expression of the vectors at the same place in several slices of one length; the expression of zeros
/// must be zero: `total!(S, simd, [x in xs, y in ys], expression)`.
macro_rules! total {
    ($S:ident, $simd:expr, [$first:ident in $firsts:expr $(, $x:ident in $xs:expr)*], $value:expr) => {{
        let numbers: &[f32] = $firsts;
        let (len, count) = (numbers.len(), numbers.len() / $S::F32_LANES);
        let $first = ($S::as_simd_f32s(numbers).0, &numbers[count * $S::F32_LANES..]);
        $(let $x = {
            let numbers: &[f32] = &($xs)[..len];
            (&$S::as_simd_f32s(numbers).0[..count], &numbers[count * $S::F32_LANES..])
        };)*
        let mut sums = [$simd.splat_f32s(0.0); 2];
        for i in 0..count {
            let $first = $first.0[i];
            $(let $x = $x.0[i];)*
            sums[i % 2] = $simd.add_f32s(sums[i % 2], $value);
        }
        if len > count * $S::F32_LANES {
            let $first = $simd.partial_load_f32s($first.1);
            $(let $x = $simd.partial_load_f32s($x.1);)*
            sums[0] = $simd.add_f32s(sums[0], $value);
        }
        $simd.reduce_sum_f32s($simd.add_f32s(sums[0], sums[1]))
    }};
}

pub(in crate::kernels) use {each, total};

/// The largest number; minus infinity for none.
#[inline(always)]
fn max<S: Simd>(simd: S, numbers: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(numbers);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for &vector in vectors {
        largest = simd.max_f32s(largest, vector);
    }
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
    let rest = simd.mul_add_e_f32s(whole, simd.splat_f32s(-0.693_359_4), clamped);
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

/// Turns numbers into `e^(number - largest)`, where the largest is at least `at_least`; returns it and the sum.
#[inline(always)]
pub(in crate::kernels) fn exponentials<S: Simd>(simd: S, numbers: &mut [f32], at_least: f32) -> (f32, f32) {
    let largest = max(simd, numbers).max(at_least);
    let shift = simd.splat_f32s(largest);
    each!(S, simd, x in &mut *numbers, [], exp(simd, simd.sub_f32s(x, shift)));
    (largest, total!(S, simd, [x in numbers], x))
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
            each!(S, simd, _old in self.1, [x in self.0], exp(simd, x));
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
        assert_eq!(far.map(f32::to_bits), [0.0_f32, 0.0, 1.0].map(f32::to_bits));
    }
}
