//! Each hot operator against its reference, forward and backward, at the shapes of a 135 M model and 4 rows of 512
//! tokens; and the products among them against `gemm`, the library that the reference multiplies with.
//!
//! `cargo bench -p trainer` runs all; `cargo bench -p trainer -- lora_linear` some.

use std::hint::black_box;

use adapters::{LoraLinear, LowRank, require_grad};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use trainer::kernels::Kernels;
use trainer::kernels::adamw::{Update, adamw};
use trainer::kernels::allocator;
use trainer::kernels::attention::{Heads, Spans, attention};
use trainer::kernels::linear_cross_entropy::linear_cross_entropy;
use trainer::kernels::linear_kl_divergence::linear_kl_divergence;
use trainer::kernels::lora_linear::lora_linear;
use trainer::kernels::rms_norm::rms_norm;
use trainer::kernels::rope::{Rotation, inverse_frequencies, rope};
use trainer::kernels::seed::seed;
use trainer::kernels::swiglu::{Activation, swiglu};

const TOKENS: usize = 2048;
const LENGTH: usize = 512;
const HIDDEN: usize = 576;
const INTERMEDIATE: usize = 1536;
const VOCABULARY: usize = 49_152;
const SUPERVISED: usize = 512;
const RANK: usize = 16;
const HEADS: Heads = Heads { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125, window: None, soft_cap: None };
const BOTH: [Kernels; 2] = [Kernels::Fused, Kernels::Reference];

fn device() -> Device {
    Device::flex()
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.1), &device())
}

/// Measures an operator of one input forward, and forward with backward.
fn operator<const I: usize, const O: usize>(
    criterion: &mut Criterion,
    name: &str,
    flops: Option<usize>,
    x: &Tensor<I>,
    grad: &Tensor<O>,
    run: impl Fn(Kernels, Tensor<I>) -> Tensor<O>,
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    // Where there is a product with a frozen weight, it may be in bfloat16.
    let with_bf16 = [Kernels::Fused, Kernels::Reference, Kernels::Bf16];
    let all = if name.starts_with("lora_linear") { &with_bf16[..] } else { &BOTH };
    for &kernels in all {
        group.throughput(Throughput::Elements(flops.unwrap_or(TOKENS) as u64));
        group.bench_function(BenchmarkId::new(format!("{kernels:?}"), "forward"), |b| {
            b.iter(|| black_box(run(kernels, x.clone())));
        });
        group.throughput(Throughput::Elements(flops.map_or(TOKENS, |flops| 2 * flops) as u64));
        group.bench_function(BenchmarkId::new(format!("{kernels:?}"), "forward and backward"), |b| {
            b.iter(|| {
                let x = require_grad(x.clone());
                let gradients = seed(kernels, run(kernels, x.clone()), grad.clone()).backward();
                black_box(x.grad(&gradients))
            });
        });
    }
    group.finish();
}

fn module(d_input: usize, d_output: usize) -> LoraLinear {
    let lora = LowRank::new(random([RANK, d_input]), random([d_output, RANK]), 2.0);
    LoraLinear { weight: random([d_output, d_input]).into(), bias: None, lora: Some(lora.require_grad()) }
}

fn products(criterion: &mut Criterion) {
    let shapes = [
        ("lora_linear q k v", HIDDEN, vec![576, 192, 192]),
        ("lora_linear o", HIDDEN, vec![576]),
        ("lora_linear gate up", HIDDEN, vec![1536, 1536]),
        ("lora_linear down", INTERMEDIATE, vec![576]),
    ];
    for (name, d_input, outputs) in shapes {
        let width: usize = outputs.iter().sum();
        let modules: Vec<LoraLinear> = outputs.iter().map(|&out| module(d_input, out)).collect();
        let modules: Vec<&LoraLinear> = modules.iter().collect();
        let flops = 2 * TOKENS * d_input * width;
        let (x, grad) = (random([TOKENS, d_input]), random([TOKENS, width]));
        operator(criterion, name, Some(flops), &x, &grad, |kernels, x| lora_linear(kernels, x, &modules, None));
        gemm(criterion, name, [TOKENS, width, d_input]);
    }
}

/// The plain product of the same shape, without an update, by `gemm` on all processors.
#[expect(unsafe_code, reason = "gemm's interface; the slices have the sizes that it is told")]
fn gemm(criterion: &mut Criterion, name: &str, [m, n, k]: [usize; 3]) {
    let (x, w, mut y) = (vec![0.5_f32; m * k], vec![0.25_f32; n * k], vec![0.0_f32; m * n]);
    let strides = [k, n].map(|stride| isize::try_from(stride).expect("a small stride"));
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).throughput(Throughput::Elements((2 * m * n * k) as u64));
    group.bench_function(BenchmarkId::new("gemm", "the plain product"), |b| {
        b.iter(|| {
            let parallelism = gemm::Parallelism::Rayon(0);
            // SAFETY: x is [m, k], w is [n, k] and y is [m, n], all in row order.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    y.as_mut_ptr(),
                    1,
                    strides[1],
                    false,
                    x.as_ptr(),
                    1,
                    strides[0],
                    w.as_ptr(),
                    strides[0],
                    1,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    parallelism,
                );
            }
            black_box(&y);
        });
    });
    group.finish();
}

fn elementwise(criterion: &mut Criterion) {
    let weight = random([HIDDEN]);
    let (x, grad) = (random([TOKENS, HIDDEN]), random([TOKENS, HIDDEN]));
    operator(criterion, "rms_norm", None, &x, &grad, |kernels, x| rms_norm(kernels, x, &weight, 1e-5));

    let (x, grad) = (random([TOKENS, 2 * INTERMEDIATE]), random([TOKENS, INTERMEDIATE]));
    operator(criterion, "swiglu", None, &x, &grad, |kernels, x| swiglu(kernels, x, Activation::Silu));

    let positions: Vec<usize> = (0..TOKENS).map(|token| token % LENGTH).collect();
    let rotation = Rotation::new(&positions, &inverse_frequencies(10_000.0, HEADS.head_dim), &device());
    let (x, grad) = (random([TOKENS, HEADS.width()]), random([TOKENS, HEADS.width()]));
    let heads = HEADS.heads + HEADS.kv_heads;
    operator(criterion, "rope", None, &x, &grad, |kernels, x| rope(kernels, x, &rotation, heads));
}

fn attentions(criterion: &mut Criterion) {
    let (x, grad) = (random([TOKENS, HEADS.width()]), random([TOKENS, HEADS.heads * HEADS.head_dim]));
    for length in [128, LENGTH, TOKENS] {
        let spans: Spans = (0..TOKENS / length).map(|i| (i * length..(i + 1) * length).into()).collect();
        let name = format!("attention in examples of {length}");
        operator(criterion, &name, None, &x, &grad, |kernels, x| attention(kernels, x, &spans, HEADS));
    }
}

fn heads(criterion: &mut Criterion) {
    let head = random([VOCABULARY, HIDDEN]).into();
    let ids: Vec<i64> = (0..i64::try_from(SUPERVISED).expect("few")).map(|i| i * 37 % 49_152).collect();
    let targets: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [SUPERVISED]), &device());
    let (x, grad) = (random([SUPERVISED, HIDDEN]), Tensor::ones([SUPERVISED], &device()));
    let flops = 2 * SUPERVISED * HIDDEN * VOCABULARY;
    operator(criterion, "linear_cross_entropy", Some(flops), &x, &grad, |kernels, x| {
        linear_cross_entropy(kernels, x, &head, targets.clone())
    });
    let base = random([SUPERVISED, HIDDEN]);
    operator(criterion, "linear_kl_divergence", None, &x, &grad, |kernels, x| {
        linear_kl_divergence(kernels, x, base.clone(), &head)
    });
}

fn optimizer(criterion: &mut Criterion) {
    const COUNT: usize = 4_884_480;
    let update = Update {
        beta1: 0.9,
        beta2: 0.999,
        gain1: 0.1,
        gain2: 0.001,
        gradient_scale: 1.0,
        decay: 1.0,
        step_size: 2e-4,
        inverse_correction: 1.0,
        eps: 1e-8,
    };
    let mut group = criterion.benchmark_group("adamw");
    group.sample_size(10).throughput(Throughput::Elements(COUNT as u64));
    for kernels in BOTH {
        let mut state = [(); 3].map(|()| Tensor::<1>::zeros([COUNT], &device()));
        let gradient = random([COUNT]);
        group.bench_function(format!("{kernels:?}"), |b| {
            b.iter(|| {
                let [p, m, v] = std::mem::replace(&mut state, [(); 3].map(|()| Tensor::zeros([0], &device())));
                state = adamw(kernels, p, m, v, gradient.clone(), None, update);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, products, elementwise, attentions, heads, optimizer);

fn main() {
    // As the program does it: memory that stays with the process, and a start on a thread of the pool.
    allocator::keep_freed_memory();
    rayon::scope(|_| {
        benches();
        Criterion::default().configure_from_args().final_summary();
    });
}
