//! Products in bfloat16: of numbers that have so few digits they are those of float32, of others those of the rounded.

use adapters::{LoraLinear, LowRank};
use burn::tensor::Tensor;
use half::bf16;
use proptest::prelude::*;

use super::{Draw, Matrix, assert_close, config, device, dot, doubles, read};
use crate::kernels::Kernels;
use crate::kernels::lora_linear::lora_linear;
use crate::kernels::simd::{Form, Panels, Product, Rhs, Term, has_pairs};

impl Matrix {
    /// Every number as the nearest of -1, 0 and 1, so that sums of products of a few hundred are numbers of bfloat16.
    fn small(self) -> Self {
        let values = self.values.iter().map(|value| value.round().clamp(-1.0, 1.0)).collect();
        Self { values, ..self }
    }

    /// Every number as bfloat16 has it.
    fn rounded(&self) -> Self {
        let values = self.values.iter().map(|&value| bf16::from_f32(value).to_f32()).collect();
        Self { values, ..*self }
    }
}

/// The forms that this processor has.
fn forms() -> Vec<Form> {
    if has_pairs() { vec![Form::Plain, Form::Rounded, Form::Paired] } else { vec![Form::Plain, Form::Rounded] }
}

/// `x wᵀ + reduced bᵀ` of rounded or other `x` and `w`, from both ways of packing; in float64 without a form.
fn product(form: Option<Form>, x: &Matrix, w: &Matrix, reduced: &Matrix, b: &Matrix) -> Vec<f64> {
    let (rows, depth, columns, rank) = (x.rows, x.columns, w.rows, reduced.columns);
    let Some(form) = form else {
        let of = |left: &Matrix, right: &Matrix, row: usize, column: usize| {
            let of_row =
                |matrix: &Matrix, row: usize| doubles(&matrix.values[row * matrix.columns..][..matrix.columns]);
            dot(&of_row(left, row), &of_row(right, column))
        };
        let places = (0..rows * columns).map(|place| (place / columns, place % columns));
        return places.map(|(row, column)| of(x, w, row, column) + of(reduced, b, row, column)).collect();
    };
    let panels = Panels::transposed(form, columns, depth, |row, out| {
        out.copy_from_slice(&w.values[row * depth..][..depth]);
    });
    let update = Panels::transposed(form, columns, rank, |row, out| {
        out.copy_from_slice(&b.values[row * rank..][..rank]);
    });
    let (left, of_update) =
        (form.along(&x.values, depth, 0..depth, rows), form.along(&reduced.values, rank, 0..rank, rows));
    let terms =
        &[left.rows(Rhs::Panels(&panels), form.steps(depth)), of_update.rows(Rhs::Panels(&update), form.steps(rank))];
    let mut out = vec![1.0; rows * columns];
    Product { rows, columns, terms, form, out: &mut out, out_row: columns, accumulate: true }.compute();
    out.into_iter().map(|sum| f64::from(sum) - 1.0).collect()
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn every_form_multiplies_the_numbers_that_it_has(
        rows in 1usize..20, columns in 1usize..110, depth in 1usize..80, rank in 1usize..9, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let (x, w) = (draw.matrix(rows, depth, 1.0), draw.matrix(columns, depth, 1.0));
        let (reduced, b) = (draw.matrix(rows, rank, 1.0), draw.matrix(columns, rank, 1.0));
        for form in forms() {
            let own = |matrix: &Matrix| if form == Form::Plain { matrix.clone() } else { matrix.rounded() };
            let expected = product(None, &own(&x), &own(&w), &own(&reduced), &own(&b));
            assert_close(&format!("{form:?}"), &product(Some(form), &x, &w, &reduced, &b), &expected);
        }
    }

    #[test]
    fn of_small_whole_numbers_output_and_gradients_are_those_of_float32(
        tokens in 1usize..40, depth in 1usize..100, outs in prop::collection::vec(1usize..60, 1..4), seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let x = draw.matrix(tokens, depth, 1.0).small();
        let weights: Vec<Matrix> = outs.iter().map(|&out| draw.matrix(out, depth, 0.5).rounded()).collect();
        let pairs: Vec<[Matrix; 2]> =
            outs.iter().map(|&out| [(3, depth), (out, 3)].map(|(rows, columns)| draw.matrix(rows, columns, 0.5).small())).collect();
        let upstream = draw.matrix(tokens, outs.iter().sum(), 1.0).small();
        let run = |kernels: Kernels| {
            let tensor = |matrix: &Matrix| matrix.tensor(&device().autodiff()).require_grad();
            let x = tensor(&x);
            let adapters: Vec<[Tensor<2>; 2]> = pairs.iter().map(|pair| [tensor(&pair[0]), tensor(&pair[1])]).collect();
            let modules: Vec<LoraLinear> = weights
                .iter()
                .zip(&adapters)
                .map(|(weight, [a, b])| {
                    let mut module = LoraLinear::frozen(weight.tensor(&device()), None);
                    module.lora = Some(LowRank::new(a.clone(), b.clone(), 2.0));
                    module
                })
                .collect();
            let output = lora_linear(kernels, x.clone(), &modules.iter().collect::<Vec<_>>(), None);
            let loss = (output.clone() * upstream.tensor(&device())).sum();
            let gradients = loss.backward();
            let of = |tensor: &Tensor<2>| read(tensor.grad(&gradients).expect("a gradient of every input"));
            let gradients: Vec<Vec<f64>> = std::iter::once(&x).chain(adapters.iter().flatten()).map(of).collect();
            (read(output.inner()), gradients)
        };
        let (expected, expected_gradients) = run(Kernels::Fused);
        let (output, gradients) = run(Kernels::Bf16);
        assert_close("output", &output, &expected);
        for (index, (gradient, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
            assert_close(&format!("gradient {index}"), gradient, expected);
        }
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn every_form_multiplies_what_lies_from_row_to_row(
        rows in 1usize..40, columns in 1usize..110, depth in 1usize..40, apart in 0usize..5, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let (x, w) = (draw.matrix(depth, rows, 1.0), draw.matrix(depth, columns + apart, 1.0));
        for form in forms() {
            let own = |matrix: &Matrix| if form == Form::Plain { matrix.clone() } else { matrix.rounded() };
            let (own_x, own_w) = (own(&x), own(&w));
            let number = |matrix: &Matrix, row: usize, column: usize| f64::from(matrix.values[row * matrix.columns + column]);
            let sum = |row, column| (0..depth).map(|k| number(&own_x, k, row) * number(&own_w, k, column)).sum::<f64>();
            let expected: Vec<f64> = (0..rows * columns).map(|place| sum(place / columns, place % columns)).collect();
            let left = form.across(&x.values, rows, rows, depth);
            let right = form.across(&w.values, columns + apart, columns, depth);
            let rhs = Rhs::Rows { data: &right.numbers, row: right.row };
            let terms = &[Term { lhs: &left.numbers, lhs_row: 1, lhs_depth: left.row, rhs, depth: form.steps(depth) }];
            let mut out = vec![f32::NAN; rows * columns];
            Product { rows, columns, terms, form, out: &mut out, out_row: columns, accumulate: false }.compute();
            assert_close(&format!("{form:?}"), &doubles(&out), &expected);
        }
    }
}

#[test]
fn what_is_no_number_stays_none_and_what_is_endless_endless() {
    for form in forms() {
        let numbers = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
        for number in numbers {
            let x = Matrix { rows: 1, columns: 1, values: vec![number] };
            let one = Matrix { rows: 1, columns: 1, values: vec![1.0] };
            let nothing = Matrix { rows: 1, columns: 1, values: vec![0.0] };
            let got = product(Some(form), &x, &one, &nothing, &nothing)[0];
            let expected = doubles(&if form == Form::Plain { x } else { x.rounded() }.values)[0];
            assert!(
                got.is_nan() && expected.is_nan() || got.total_cmp(&expected).is_eq(),
                "{form:?} of {number}: {got}, not {expected}"
            );
        }
    }
}
