//! The beginning of a backward pass.

use super::{Draw, assert_close, device, read};
use crate::kernels::Kernels;
use crate::kernels::seed::seed;

#[test]
fn the_output_gets_the_gradient_that_was_given() {
    let mut draw = Draw::new(3);
    let (x, grad) = (draw.matrix(17, 29, 1.0), draw.matrix(17, 29, 1.0));
    for kernels in [Kernels::Fused, Kernels::Reference] {
        let x = x.tensor(&device().autodiff()).require_grad();
        let gradients = seed(kernels, x.clone().mul_scalar(3.0), grad.tensor(&device())).backward();
        let expected: Vec<f64> = grad.doubles().iter().map(|g| 3.0 * g).collect();
        assert_close("gradient", &read(x.grad(&gradients).unwrap()), &expected);
    }
}
