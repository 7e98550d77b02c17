//! Products in bfloat16: of numbers that have such few digits they are those of float32, of others those of the rounded.

use adapters::{LoraLinear, LowRank};
use burn::tensor::Tensor;
use half::bf16;
use proptest::prelude::*;

use super::{Draw, Matrix, assert_close, config, device, dot, doubles, read};
use crate::kernels::Kernels;
use crate::kernels::lora_linear::lora_linear;
use crate::kernels::simd::{Form, Panels, Product, Rhs, Term, has_pairs};

impl Matrix {
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
    let update = Panels::transposed(Form::Plain, columns, rank, |row, out| {
        out.copy_from_slice(&b.values[row * rank..][..rank]);
    });
    let (left, steps) = (form.left(&x.values, depth, 0..depth), form.steps(depth));
    let terms = &[
        Term { lhs: &left.numbers, lhs_row: left.row, lhs_depth: 1, rhs: Rhs::Panels(&panels), depth: steps },
        Term { lhs: &reduced.values, lhs_row: rank, lhs_depth: 1, rhs: Rhs::Panels(&update), depth: rank },
    ];
    let mut out = vec![1.0; rows * columns];
    Product { rows, columns, terms, out: &mut out, out_row: columns, accumulate: true }.compute();
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
            let (own_x, own_w) = if form == Form::Plain { (x.clone(), w.clone()) } else { (x.rounded(), w.rounded()) };
            let expected = product(None, &own_x, &own_w, &reduced, &b);
            assert_close(&format!("{form:?}"), &product(Some(form), &x, &w, &reduced, &b), &expected);
        }
    }

    #[test]
    fn of_numbers_with_few_digits_output_and_gradients_are_those_of_float32(
        tokens in 1usize..40, depth in 1usize..100, outs in prop::collection::vec(1usize..60, 1..4), seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let x = draw.matrix(tokens, depth, 1.0).rounded();
        let weights: Vec<Matrix> = outs.iter().map(|&out| draw.matrix(out, depth, 0.2).rounded()).collect();
        let pairs: Vec<[Matrix; 2]> =
            outs.iter().map(|&out| [draw.matrix(3, depth, 0.2), draw.matrix(out, 3, 0.5)]).collect();
        let upstream = draw.matrix(tokens, outs.iter().sum(), 1.0).rounded();
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
