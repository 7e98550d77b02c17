//! The two rates of a device: measured in about a second, or from the data sheet that a recipe gives.

use std::time::{Duration, Instant};

use adapters::LoraLinear;
use burn::tensor::{Device, Tensor};

use super::time::{Rates, Work};
use crate::kernels::Kernels;
use crate::kernels::lora_linear::lora_linear;
use crate::kernels::swiglu::{Activation, swiglu};
use crate::recipe::DeviceConfig;

/// The share of a data sheet's rate that training on it reaches, as a rule of thumb: no card was at hand to measure.
const DATA_SHEET_SHARE: f64 = 0.5;

/// Rows of the measured operators, as many as a usual micro-batch has tokens.
const ROWS: usize = 1024;

/// How long each rate is measured.
const MEASURED: Duration = Duration::from_millis(400);

/// The rates of a device by its data sheet.
pub fn of_data_sheet(device: &DeviceConfig) -> Rates {
    Rates { flops: 1e12 * device.tflops * DATA_SHEET_SHARE, bytes: 1e9 * device.bandwidth * DATA_SHEET_SHARE }
}

/// Measures the rates of a device with the operators that training uses.
pub fn measure(device: &Device, kernels: Kernels) -> Rates {
    let side = 1024;
    let x = Tensor::<2>::ones([ROWS, side], device);
    let linear = LoraLinear::frozen(Tensor::ones([side, side], device), None);
    let products = seconds(|| read(lora_linear(kernels, x.clone(), &[&linear], None)));
    let flops = 2.0 * (ROWS * side * side) as f64 / products;

    // The gated activation reads two numbers and writes one.
    let width = 2048;
    let gate_up = Tensor::<2>::ones([ROWS, 2 * width], device);
    let elementwise = seconds(|| read(swiglu(kernels, gate_up.clone(), Activation::Silu)));
    let bytes = 4.0 * 3.0 * (ROWS * width) as f64 / elementwise;
    Rates { flops, bytes }
}

/// The seconds of one call, the median of as many as are made in [`MEASURED`]; the first warms up.
fn seconds(call: impl Fn()) -> f64 {
    call();
    let started = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || started.elapsed() < MEASURED {
        let begun = Instant::now();
        call();
        times.push(begun.elapsed().as_secs_f64());
    }
    median(&mut times)
}

/// The middle one of some figures; 0 of none.
pub(super) fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// Waits until a result is there: a device may work in the background.
fn read(tensor: Tensor<2>) {
    let _ = tensor.slice([0..1, 0..1]).into_data();
}

/// How much longer a measured time is than the model's figure.
pub(super) fn correction(measured: f64, work: Work, rates: Rates) -> f64 {
    let modelled = work.seconds(rates);
    if measured > 0.0 && modelled > 0.0 { measured / modelled } else { 1.0 }
}
