//! A sum of updates cut to a lower rank: its largest singular parts.

use faer::Mat;

use super::algebra::single;
use crate::LoraPair;

/// The nearest update of at most `rank` to that of a pair: `U S` becomes B and `Vᵀ` becomes A, as in PEFT.
///
/// The dense product is never formed. With `B = Q R` and `Aᵀ = P T`, both thin, `B A = Q (R Tᵀ) Pᵀ`, so the singular parts
/// of the small matrix in the middle are those of the product.
pub(super) fn truncated(pair: &LoraPair, rank: usize) -> LoraPair {
    let &LoraPair { rank: own, in_features, out_features, .. } = pair;
    let b = Mat::from_fn(out_features, own, |row, k| f64::from(pair.b[row * own + k]));
    let a = Mat::from_fn(in_features, own, |column, k| f64::from(pair.a[k * in_features + column]));
    let (b, a) = (b.qr(), a.qr());
    let middle = b.thin_R() * a.thin_R().transpose();
    let svd = middle.thin_svd().expect("a decomposition of finite numbers converges");
    let rank = rank.min(middle.nrows()).min(middle.ncols());
    let left = b.compute_thin_Q() * svd.U().subcols(0, rank);
    let right = a.compute_thin_Q() * svd.V().subcols(0, rank);
    let (right, left) = (&right, &left);
    let a = (0..rank).flat_map(|k| (0..in_features).map(move |column| single(right[(column, k)])));
    let b = (0..out_features).flat_map(|row| (0..rank).map(move |k| (row, k)));
    let b = b.map(|(row, k)| single(left[(row, k)] * svd.S()[k]));
    LoraPair { rank, in_features, out_features, a: a.collect(), b: b.collect(), magnitude: None }
}
