//! Linear modules with low-rank updates: up to three of them, with and without update, bias and residual.

use adapters::{LoraLinear, LowRank, Weight};
use burn::tensor::Tensor;
use proptest::prelude::*;

use super::{Draw, Matrix, check, config, device, dot, weight_form};
use crate::kernels::lora_linear::lora_linear;

/// One of the modules; the first input is `x`, then come `A` and `B` of each update, then the residual.
#[derive(Clone, Debug)]
struct Sizes {
    out: usize,
    rank: Option<usize>,
    bias: bool,
    scaling: f64,
}

struct Frozen {
    weight: Weight,
    /// The weight's, in row order.
    numbers: Matrix,
    bias: Option<Matrix>,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1usize..100, prop::option::weighted(0.75, 1usize..41), any::<bool>(), 0.1f64..4.0)
        .prop_map(|(out, rank, bias, scaling)| Sizes { out, rank, bias, scaling })
}

/// `rows · matrixᵀ`.
fn product(rows: &[f64], matrix: &[f64], depth: usize) -> Vec<f64> {
    rows.chunks(depth).flat_map(|row| matrix.chunks(depth).map(|other| dot(row, other))).collect()
}

fn plain(inputs: &[Vec<f64>], depth: usize, modules: &[Sizes], frozen: &[Frozen], residual: bool) -> Vec<f64> {
    let (x, mut pairs) = (&inputs[0], inputs[1..].iter());
    let tokens = x.len() / depth;
    let outputs: Vec<Vec<f64>> = modules
        .iter()
        .zip(frozen)
        .map(|(module, frozen)| {
            let mut out = product(x, &frozen.numbers.doubles(), depth);
            if let Some(rank) = module.rank {
                let (a, b) = (pairs.next().unwrap(), pairs.next().unwrap());
                let update = product(&product(x, a, depth), b, rank);
                // The scaling is rounded to float32, as the operator takes it.
                out.iter_mut().zip(&update).for_each(|(out, update)| *out += f64::from(scaling(module)) * update);
            }
            if let Some(bias) = &frozen.bias {
                for row in out.chunks_mut(module.out) {
                    row.iter_mut().zip(bias.doubles()).for_each(|(out, bias)| *out += bias);
                }
            }
            out
        })
        .collect();
    let mut out: Vec<f64> = (0..tokens)
        .flat_map(|token| {
            outputs.iter().zip(modules).flat_map(move |(out, module)| &out[token * module.out..][..module.out])
        })
        .copied()
        .collect();
    if residual {
        out.iter_mut().zip(pairs.next().unwrap()).for_each(|(out, residual)| *out += residual);
    }
    out
}

#[expect(clippy::cast_possible_truncation, reason = "the operator takes it in float32")]
fn scaling(module: &Sizes) -> f32 {
    module.scaling as f32
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn any_modules(
        tokens in 1usize..60,
        depth in 1usize..120,
        modules in prop::collection::vec(sizes(), 1..4),
        residual: bool,
        form in weight_form(),
        other in weight_form(),
        seed: u64,
    ) {
        // Two forms side by side, as a file of several types has them.
        let depth = other.fit(form.fit(depth));
        let mut draw = Draw::new(seed);
        let deviation = 1.0 / (depth as f64).sqrt();
        let frozen: Vec<Frozen> = modules
            .iter()
            .zip([form, other, form])
            .map(|(module, form)| {
                let (weight, numbers) = draw.matrix(module.out, depth, deviation).stored(form);
                Frozen { weight, numbers, bias: module.bias.then(|| draw.matrix(1, module.out, 1.0)) }
            })
            .collect();
        let mut inputs = vec![draw.matrix(tokens, depth, 1.0)];
        for module in &modules {
            if let Some(rank) = module.rank {
                inputs.push(draw.matrix(rank, depth, deviation));
                inputs.push(draw.matrix(module.out, rank, 1.0 / (rank as f64).sqrt()));
            }
        }
        if residual {
            inputs.push(draw.matrix(tokens, modules.iter().map(|module| module.out).sum(), 1.0));
        }
        check(
            &mut draw,
            &inputs,
            |kernels, inputs: &[Tensor<2>]| {
                let mut rest = inputs[1..].iter().cloned();
                let layers: Vec<LoraLinear> = modules
                    .iter()
                    .zip(&frozen)
                    .map(|(module, frozen)| {
                        let bias = frozen.bias.as_ref().map(|bias| bias.tensor(&device()).flatten(0, 1));
                        let mut layer = LoraLinear::frozen(frozen.weight.clone(), bias);
                        layer.lora = module.rank.map(|_| {
                            let (lora_a, lora_b) = (rest.next().unwrap(), rest.next().unwrap());
                            LowRank::new(lora_a, lora_b, module.scaling)
                        });
                        layer
                    })
                    .collect();
                lora_linear(kernels, inputs[0].clone(), &layers.iter().collect::<Vec<_>>(), rest.next())
            },
            |inputs| plain(inputs, depth, &modules, &frozen, residual),
        );
    }
}
