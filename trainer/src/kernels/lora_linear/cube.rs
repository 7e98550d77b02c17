//! The modules of one input on the GPU: burn's matrix products, and one pass that joins base, update, bias and residual.

use burn::backend::Cube;
use burn::backend::ops::FloatTensorOps as _;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::slice;
use burn_cubecl::tensor::CubeTensor;

use super::{LoraLinearKernel, Module, Modules};
use crate::kernels::Frozen;
use crate::kernels::gpu::{UNITS, dim, elements, empty, frozen, rows};

impl LoraLinearKernel for Cube {
    /// Without an update there is nothing to keep: what is returned for it then has no meaning.
    fn lora_linear_forward(
        x: CubeTensor,
        weights: Vec<Frozen<Cube>>,
        bias: Option<CubeTensor>,
        adapter: Option<CubeTensor>,
        residual: Option<CubeTensor>,
        modules: &Modules,
    ) -> (CubeTensor, CubeTensor) {
        let [bias, residual] = [bias, residual].map(|tensor| tensor.map(rows));
        let modules = &modules.each[..];
        let pairs = Pair::split(adapter, dim(&x, 1), modules);
        let reduced = Pair::side_by_side(&pairs)
            .map_or_else(|| empty(&x, [1, 1]), |a| Cube::float_matmul(x.clone(), Cube::float_transpose(a)));
        let (tokens, width) = (dim(&x, 0), modules.iter().map(|module| module.out).sum());
        let mut parts = weights.into_iter().zip(&pairs).map(|(weight, pair)| {
            let base = Cube::float_matmul(x.clone(), Cube::float_transpose(frozen(weight, &x)));
            let update = pair.as_ref().map(|pair| {
                let reduced = slice(reduced.clone(), &[0..tokens, pair.columns()]);
                rows(Cube::float_matmul(reduced, Cube::float_transpose(pair.b.clone())))
            });
            (rows(base), update)
        });
        if let ([_], [None], None, None) = (modules, &pairs[..], &bias, &residual)
            && let Some((base, _)) = parts.next()
        {
            return (base, reduced);
        }
        let out = empty(&x, [tokens, width]);
        let mut column = 0;
        for (base, update) in parts {
            let columns = dim(&base, 1);
            let (has_update, has_bias, has_residual) = (update.is_some(), bias.is_some(), residual.is_some());
            // A kernel that does not read an argument is given the base in its place.
            let or_base = |tensor: Option<CubeTensor>| tensor.unwrap_or_else(|| base.clone()).into_buffer_arg();
            join_kernel::launch(
                &out.client,
                elements(&out, tokens * columns),
                CubeDim::new_1d(UNITS),
                base.clone().into_buffer_arg(),
                or_base(update),
                or_base(bias.clone()),
                or_base(residual.clone()),
                out.clone().into_buffer_arg(),
                columns,
                column,
                width,
                has_update,
                has_bias,
                has_residual,
            );
            column += columns;
        }
        (out, reduced)
    }

    fn lora_linear_backward(
        grad: CubeTensor,
        x: CubeTensor,
        reduced: CubeTensor,
        weights: Vec<Frozen<Cube>>,
        adapter: Option<CubeTensor>,
        modules: &Modules,
        needs_x: bool,
    ) -> (Option<CubeTensor>, Option<CubeTensor>) {
        let (tokens, depth) = (dim(&x, 0), dim(&x, 1));
        let has_adapter = adapter.is_some();
        let modules = &modules.each[..];
        let pairs = Pair::split(adapter, depth, modules);
        let mut x_grad: Option<CubeTensor> = None;
        let mut add = |product: CubeTensor| {
            x_grad = Some(match x_grad.take() {
                Some(sum) => Cube::float_add(sum, product),
                None => product,
            });
        };
        let mut adapter_grad = Vec::new();
        let mut column = 0;
        for ((weight, pair), module) in weights.into_iter().zip(pairs).zip(modules) {
            let grad = slice(grad.clone(), &[0..tokens, column..column + module.out]);
            column += module.out;
            if needs_x {
                add(Cube::float_matmul(grad.clone(), frozen(weight, &x)));
            }
            let Some(pair) = pair else { continue };
            let grad_reduced = Cube::float_matmul(grad.clone(), pair.b.clone());
            let reduced = slice(reduced.clone(), &[0..tokens, pair.columns()]);
            let a_grad = Cube::float_matmul(Cube::float_transpose(grad_reduced.clone()), x.clone());
            let a_grad = Cube::float_mul_scalar(a_grad, module.scaling.into());
            let b_grad = Cube::float_matmul(Cube::float_transpose(grad), reduced);
            if needs_x {
                add(Cube::float_matmul(grad_reduced, pair.scaled_a));
            }
            for (gradient, count) in [(a_grad, module.rank * depth), (b_grad, module.out * module.rank)] {
                adapter_grad.push(Cube::float_reshape(gradient, [count].into()));
            }
        }
        (x_grad, has_adapter.then(|| Cube::float_cat(adapter_grad, 0)))
    }
}

/// The update of a module.
struct Pair {
    /// `scaling · A`, `[rank, in]`: so the factor costs a pass over the matrix, not one over the activations.
    scaled_a: CubeTensor,
    /// `[out, rank]`.
    b: CubeTensor,
    /// Its first column among the reduced.
    first: usize,
}

impl Pair {
    /// The updates of all modules, from the flat adapter.
    fn split(adapter: Option<CubeTensor>, depth: usize, modules: &[Module]) -> Vec<Option<Self>> {
        let adapter = adapter.map(rows);
        let (mut offset, mut column) = (0, 0);
        let split = modules.iter().map(|module| {
            let adapter = adapter.as_ref().filter(|_| module.rank > 0)?;
            let mut take = |shape: [usize; 2]| {
                let numbers = offset..offset + shape[0] * shape[1];
                offset = numbers.end;
                Cube::float_reshape(slice(adapter.clone(), std::slice::from_ref(&numbers)), shape.into())
            };
            let scaled_a = Cube::float_mul_scalar(take([module.rank, depth]), module.scaling.into());
            let pair = Self { scaled_a, b: take([module.out, module.rank]), first: column };
            column += module.rank;
            Some(pair)
        });
        split.collect()
    }

    /// All scaled `A`, one below the other.
    fn side_by_side(pairs: &[Option<Self>]) -> Option<CubeTensor> {
        let all: Vec<CubeTensor> = pairs.iter().flatten().map(|pair| pair.scaled_a.clone()).collect();
        (!all.is_empty()).then(|| Cube::float_cat(all, 0))
    }

    /// Its columns among the reduced.
    fn columns(&self) -> std::ops::Range<usize> {
        self.first..self.first + dim(&self.b, 1)
    }
}

/// Writes a module's columns of the output: one unit an element.
#[cube(launch)]
fn join_kernel(
    base: &[f32],
    update: &[f32],
    bias: &[f32],
    residual: &[f32],
    out: &mut [f32],
    columns: usize,
    first: usize,
    width: usize,
    #[comptime] has_update: bool,
    #[comptime] has_bias: bool,
    #[comptime] has_residual: bool,
) {
    if ABSOLUTE_POS >= base.len() {
        terminate!();
    }
    let column = first + ABSOLUTE_POS % columns;
    let place = ABSOLUTE_POS / columns * width + column;
    let mut value = base[ABSOLUTE_POS];
    if comptime!(has_update) {
        value += update[ABSOLUTE_POS];
    }
    if comptime!(has_bias) {
        value += bias[column];
    }
    if comptime!(has_residual) {
        value += residual[place];
    }
    out[place] = value;
}
