//! `PiSSA`: an adapter that starts as the principal singular parts of the frozen weight, which is left without them.
//!
//! Training then moves the directions in which the weight is largest. What leaves is a plain LoRA of twice the rank on
//! the weight as it was: `W - s B₀ A₀ + s B A = W + s [B, -B₀] [A; A₀]`.
//! Source: Meng et al. 2024, <https://arxiv.org/abs/2404.02948>; PEFT `tuners/lora/layer.py`, `pissa_init`.

use faer::{Mat, MatRef, Par, set_global_parallelism};

/// Up to this smaller side a weight is decomposed exactly; above, the cost of that grows out of hand.
const EXACT_SIDE: usize = 1024;
/// Products with the weight and its transpose, and directions beyond the rank, of the randomised decomposition.
const ITERATIONS: usize = 8;
const MORE_DIRECTIONS: usize = 16;

/// The principal parts of a weight: `A` `[rank, in]` and `B` `[out, rank]`, row-major, with `scaling · B A` the nearest
/// matrix of the rank; the singular values are shared evenly between the two.
///
/// `weight` is row-major `[out, in]`, and `rank` at most its smaller side. Above a smaller side of 1024 the decomposition
/// is a randomised one, whose random numbers are always the same.
///
/// Source of the randomised one: Halko et al. 2011, <https://arxiv.org/abs/0909.4061>, algorithms 4.4 and 5.1.
#[expect(clippy::cast_possible_truncation, reason = "the matrices are in single precision")]
pub(crate) fn principal_parts(weight: &[f32], columns: usize, rank: usize, scaling: f64) -> (Vec<f32>, Vec<f32>) {
    // Weights are decomposed side by side; one alone gains little from several threads.
    set_global_parallelism(Par::Seq);
    let weight = MatRef::from_row_major_slice(weight, weight.len() / columns, columns);
    let (rows, smaller) = (weight.nrows(), weight.nrows().min(columns));
    let (basis, small) = if smaller <= EXACT_SIDE {
        (None, weight.to_owned())
    } else {
        let basis = principal_basis(weight, (2 * rank + MORE_DIRECTIONS).min(smaller));
        let small = basis.transpose() * weight;
        (Some(basis), small)
    };
    let svd = small.thin_svd().expect("a decomposition of finite numbers converges");
    let root = |k: usize| (f64::from(svd.S()[k]) / scaling).sqrt() as f32;
    let left = svd.U().subcols(0, rank);
    let left = basis.map_or_else(|| left.to_owned(), |basis| basis * left);
    let a = (0..rank).flat_map(|k| (0..columns).map(move |i| (k, i))).map(|(k, i)| root(k) * svd.V()[(i, k)]);
    let b = (0..rows).flat_map(|i| (0..rank).map(move |k| (i, k))).map(|(i, k)| root(k) * left[(i, k)]);
    (a.collect(), b.collect())
}

/// An orthonormal basis of the directions in which the weight is largest.
fn principal_basis(weight: MatRef<'_, f32>, directions: usize) -> Mat<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let start = Mat::from_fn(weight.ncols(), directions, |_, _| {
        // Knuth's linear congruential generator; any directions do that are not at right angles to the wanted ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from((state >> 48) as u16) / 65536.0 - 0.5
    });
    let mut basis = (weight * start).qr().compute_thin_Q();
    for _ in 0..ITERATIONS {
        let turned = (weight.transpose() * basis).qr().compute_thin_Q();
        basis = (weight * turned).qr().compute_thin_Q();
    }
    basis
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A weight whose singular values are known: a sum of outer products of orthogonal waves.
    fn waves(rows: usize, columns: usize, values: &[f64]) -> Vec<f32> {
        let wave = |size: usize, k: usize, i: usize| {
            let (size, i, k) = (size as f64, i as f64, k as f64);
            (2.0 / size).sqrt() * (std::f64::consts::PI * (i + 0.5) * (k + 1.0) / size).cos()
        };
        let mut weight = Vec::with_capacity(rows * columns);
        for i in 0..rows {
            for j in 0..columns {
                let parts = values.iter().enumerate().map(|(k, s)| s * wave(rows, k, i) * wave(columns, k, j));
                #[expect(clippy::cast_possible_truncation, reason = "weights are in single precision")]
                weight.push(parts.sum::<f64>() as f32);
            }
        }
        weight
    }

    fn nearest(rows: usize, columns: usize) {
        let values: Vec<f64> = (0..12).map(|k| 8.0 * 0.7_f64.powi(k)).collect();
        let weight = waves(rows, columns, &values);
        let (rank, scaling) = (5, 2.0);
        let (a, b) = principal_parts(&weight, columns, rank, scaling);
        let expected = waves(rows, columns, &values[..rank]);
        for (i, row) in b.chunks(rank).enumerate() {
            for j in 0..columns {
                let product: f64 = (0..rank).map(|k| f64::from(row[k]) * f64::from(a[k * columns + j])).sum();
                let off = (scaling * product - f64::from(expected[i * columns + j])).abs();
                assert!(off < 1e-5, "{rows} x {columns}: row {i}, column {j} is off by {off}");
            }
        }
        // Each direction's value is shared evenly.
        let length = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|n| f64::from(n).powi(2)).sum::<f64>();
        for k in 0..rank {
            let in_a = length(&mut a[k * columns..][..columns].iter().copied());
            let in_b = length(&mut b.iter().skip(k).step_by(rank).copied());
            assert!((in_a - values[k] / scaling).abs() < 1e-4 && (in_b - values[k] / scaling).abs() < 1e-4);
        }
    }

    #[test]
    fn the_exact_parts_are_the_nearest_matrix() {
        nearest(40, 64);
        nearest(64, 24);
    }

    #[test]
    fn the_randomised_parts_are_the_nearest_matrix() {
        nearest(EXACT_SIDE + 1, EXACT_SIDE + 40);
    }
}
