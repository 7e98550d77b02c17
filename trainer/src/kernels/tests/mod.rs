//! The fused operators on random shapes: against the ordinary operators, and against float64 on the host.
//!
//! They run on the device that the environment variable `GREFFON_TEST_DEVICE` names in a recipe's form (`flex` without
//! it), which is how `scripts/test-gpu.sh` runs them on a software GPU. Every operator is also written here a second
//! time, in the plainest way and in float64: its values must be the operator's, and its difference quotients in random
//! directions the operator's gradients.

mod adamw;
mod attention;
#[cfg(feature = "flex")]
mod bf16;
mod linear_cross_entropy;
mod linear_kl_divergence;
mod lora_linear;
mod rms_norm;
mod rope;
mod seed;
mod swiglu;

use adapters::gguf::quantize;
use adapters::{BlockForm, BlockMatrix, GgmlType, Weight};
use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::Kernels;

/// The largest error of an element, relative to the tensor's largest number.
const TOLERANCE: f64 = 1e-4;

/// The same with products in bfloat16, of whose sides each is up to 0.2 % off.
const BF16_TOLERANCE: f64 = 0.04;

const ON_CPU: &str = "flex";

fn device_name() -> String {
    std::env::var("GREFFON_TEST_DEVICE").unwrap_or_else(|_| ON_CPU.to_owned())
}

/// The device under test.
fn device() -> Device {
    crate::device::open(&device_name()).expect("this build carries the device under test")
}

/// The same cases in every run; fewer where a GPU is computed in software.
fn config(cases: u32) -> ProptestConfig {
    let cases = if device_name() == ON_CPU { cases } else { cases.div_ceil(4) };
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Independent draws from a normal distribution.
struct Draw(ChaCha8Rng);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        let (radius, angle): (f64, f64) = (self.0.random(), self.0.random());
        (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Numbers of the given standard deviation.
    #[expect(clippy::cast_possible_truncation, reason = "the operators' inputs are float32")]
    fn matrix(&mut self, rows: usize, columns: usize, deviation: f64) -> Matrix {
        Matrix { rows, columns, values: (0..rows * columns).map(|_| (deviation * self.normal()) as f32).collect() }
    }
}

/// An input of an operator.
#[derive(Clone, Debug)]
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn tensor(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.values.clone(), [self.rows, self.columns]), device)
    }

    fn doubles(&self) -> Vec<f64> {
        doubles(&self.values)
    }

    /// As a frozen weight, and the numbers that it then has.
    fn stored(&self, form: WeightForm) -> (Weight, Self) {
        let shape = [self.rows, self.columns];
        let weight: Weight = match form {
            WeightForm::Numbers(dtype) => self.tensor(&device()).cast(dtype).into(),
            WeightForm::Blocks(BlockForm::Ggml(ggml_type)) => {
                let bytes = quantize(ggml_type, &self.values).expect("a type that is written");
                BlockMatrix::new(BlockForm::Ggml(ggml_type), shape, bytes.into()).expect("whole blocks").into()
            }
            WeightForm::Blocks(BlockForm::Nf4) => BlockMatrix::nf4(&self.values, shape).expect("whole blocks").into(),
        };
        let values = crate::device::read(weight.dense(&device()));
        (weight, Self { values, ..*self })
    }
}

/// How a frozen weight is kept.
#[derive(Clone, Copy, Debug)]
enum WeightForm {
    Numbers(DType),
    Blocks(BlockForm),
}

impl WeightForm {
    /// The next row length that it can have.
    fn fit(self, columns: usize) -> usize {
        match self {
            Self::Numbers(_) => columns,
            Self::Blocks(form) => columns.next_multiple_of(form.block_size()),
        }
    }
}

/// Float32, or a smaller type where the device has it, or blocks.
fn weight_form() -> impl Strategy<Value = WeightForm> {
    let numbers = prop::sample::select(vec![DType::F32, DType::BF16, DType::F16])
        .prop_map(|dtype| WeightForm::Numbers(if device().supports_dtype(dtype) { dtype } else { DType::F32 }));
    let ggml = [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q4K].map(BlockForm::Ggml);
    let blocks = prop::sample::select([&ggml[..], &[BlockForm::Nf4]].concat()).prop_map(WeightForm::Blocks);
    prop_oneof![numbers, blocks]
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    doubles(&crate::device::read(tensor))
}

/// Checks the output of an operator and the gradients of all its inputs.
///
/// - `operator`: the operator; what is no input of it lies outside autodiff.
/// - `plain`: the same, in float64 on the host, numbers in row order.
fn check(
    draw: &mut Draw,
    inputs: &[Matrix],
    operator: impl Fn(Kernels, &[Tensor<2>]) -> Tensor<2>,
    plain: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let inputs_in_f64: Vec<Vec<f64>> = inputs.iter().map(Matrix::doubles).collect();
    let expected = plain(&inputs_in_f64);
    let columns = expected.len();
    let upstream = draw.matrix(1, columns, 1.0);
    let run = |kernels: Kernels| {
        let device = device();
        let tensors: Vec<Tensor<2>> =
            inputs.iter().map(|input| input.tensor(&device.clone().autodiff()).require_grad()).collect();
        let output = operator(kernels, &tensors);
        let loss = (output.clone().reshape([1, columns]) * upstream.tensor(&device)).sum();
        let gradients = loss.backward();
        let gradients = tensors.iter().map(|tensor| read(tensor.grad(&gradients).expect("a gradient of every input")));
        (read(output.inner()), gradients.collect::<Vec<_>>())
    };
    let (output, gradients) = run(Kernels::Fused);
    let (reference, reference_gradients) = run(Kernels::Reference);
    assert_close("output against the reference's", &output, &reference);
    assert_close("output against float64", &output, &expected);
    let (in_bf16, gradients_in_bf16) = run(Kernels::Bf16);
    assert_within(BF16_TOLERANCE, "output in bfloat16", &in_bf16, &expected);
    for (index, (gradient, reference)) in gradients_in_bf16.iter().zip(&reference_gradients).enumerate() {
        assert_within(BF16_TOLERANCE, &format!("gradient of input {index} in bfloat16"), gradient, reference);
    }
    let tensors: Vec<Tensor<2>> = inputs.iter().map(|input| input.tensor(&device())).collect();
    assert_close("output outside autodiff", &read(operator(Kernels::Fused, &tensors)), &expected);
    for (index, (gradient, reference)) in gradients.iter().zip(&reference_gradients).enumerate() {
        assert_close(&format!("gradient of input {index} against the reference's"), gradient, reference);
    }
    for (index, gradient) in gradients.iter().enumerate() {
        let direction: Vec<f64> = gradient.iter().map(|_| draw.normal()).collect();
        let loss_at = |step: f64| {
            let mut moved = inputs_in_f64.clone();
            for (value, direction) in moved[index].iter_mut().zip(&direction) {
                *value += step * direction;
            }
            dot(&plain(&moved), &doubles(&upstream.values))
        };
        let step = 1e-5;
        let quotient = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let slope = dot(gradient, &direction);
        // The slope in a random direction is about as large as the gradient is long.
        let scale = dot(gradient, gradient).sqrt().max(quotient.abs()).max(1e-6);
        assert!(
            (slope - quotient).abs() <= TOLERANCE * scale,
            "gradient of input {index}: slope {slope}, difference quotient {quotient}, length {scale}"
        );
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[track_caller]
fn assert_close(what: &str, got: &[f64], expected: &[f64]) {
    assert_within(TOLERANCE, what, got, expected);
}

/// Fails with the first element that is further off than that, relative to the largest; a NaN always is.
#[track_caller]
fn assert_within(tolerance: f64, what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1e-6, |largest: f64, value| largest.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let close = (got - expected).abs() <= tolerance * scale;
        assert!(close, "{what}: element {index} is {got}, expected {expected}; the largest is {scale}");
    }
}
