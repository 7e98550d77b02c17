//! LoRA as a layer: a frozen linear map with an optional low-rank update on the activation path.
//!
//! `None` in [`LoraLinear::lora`] is the frozen base model, so there is one definition of each model, with and
//! without adapter. The dense product `B·A` is never formed.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, GradientCheckpointingStrategy, Int, Tensor, TensorData};

use crate::config::ModuleAdapter;
use crate::principal::principal_parts;
use crate::weight::Weight;

/// The trainable pair of one adapted module: the update is `scaling · B A`. With a magnitude it is `DoRA`.
///
/// Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>, section 4.1; layout as in PEFT.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `A`, shape `[rank, in]`.
    pub lora_a: Tensor<2>,
    /// `B`, shape `[out, rank]`.
    pub lora_b: Tensor<2>,
    /// The factor before the update: `alpha / rank`, or `alpha / √rank`.
    pub scaling: f64,
    /// What gives each output a length of its own; `None` but for `DoRA`.
    pub magnitude: Option<Magnitude>,
    /// What was taken out of the frozen weight; `None` but for `PiSSA`.
    pub initial: Option<Initial>,
}

/// `PiSSA`: the matrices with which the adapter started, `scaling · B₀ A₀` of which the frozen weight is short.
///
/// Source: Meng et al. 2024, <https://arxiv.org/abs/2404.02948>, section 3.
#[derive(Clone, Debug)]
pub struct Initial {
    /// `A₀`, shape `[rank, in]`.
    pub lora_a: Tensor<2>,
    /// `B₀`, shape `[out, rank]`.
    pub lora_b: Tensor<2>,
}

/// `DoRA`: each output of `W + scaling · B A` is brought to the length `m`, which is trained beside its direction:
/// `y = m / ‖W + scaling · B A‖ · (W + scaling · B A) x + b`. The norm counts as a constant in the backward pass.
///
/// Source: Liu et al. 2024, <https://arxiv.org/abs/2402.09353>, sections 4.1 and 4.3; PEFT `tuners/lora/dora.py`.
#[derive(Clone, Debug)]
pub struct Magnitude {
    /// `m`, shape `[out]`.
    pub vector: Tensor<1>,
    /// `‖W‖²` of each row of the frozen weight, shape `[out]`.
    squares: Tensor<1>,
    /// `‖W + scaling · B A‖` of each row, once it is known; the copies of a decoder share it.
    norm: Arc<OnceLock<Tensor<1>>>,
}

impl Magnitude {
    /// A magnitude beside a frozen weight `[out, in]`.
    pub fn new(vector: Tensor<1>, weight: &Weight) -> Self {
        let squares = square_rows(weight.dense(&vector.device()));
        Self { vector, squares, norm: Arc::default() }
    }

    /// The magnitude with which a layer starts: the length of every row of the base's weight.
    pub fn of(weight: &Weight, device: &Device) -> Self {
        let squares = square_rows(weight.dense(device));
        Self { vector: squares.clone().sqrt(), squares, norm: Arc::default() }
    }

    /// To be called when `A` or `B` changes.
    pub fn forget_norm(&mut self) {
        self.norm = Arc::default();
    }
}

/// `‖w‖²` of each row. The sum is a product with ones: added up one by one, thousands of float32 terms lose digits.
fn square_rows(weight: Tensor<2>) -> Tensor<1> {
    let ones = Tensor::ones([weight.dims()[1], 1], &weight.device());
    weight.square().matmul(ones).squeeze_dim(1)
}

impl LowRank {
    /// PEFT's initialisation: `A` uniform in `±1/√in` (Kaiming with `a = √5`), `B` zero, so that the first step starts
    /// from the base model exactly. `uniform` yields independent draws from `[0, 1)`.
    ///
    /// Source: PEFT `tuners/lora/layer.py`, `reset_lora_parameters`.
    pub fn init(
        ModuleAdapter { rank, scaling }: ModuleAdapter,
        d_input: usize,
        d_output: usize,
        uniform: &mut impl FnMut() -> f32,
        device: &Device,
    ) -> Self {
        let bound = 1.0 / (d_input as f32).sqrt();
        let a: Vec<f32> = (0..rank * d_input).map(|_| (2.0 * uniform() - 1.0) * bound).collect();
        let lora_a = Tensor::from_data(TensorData::new(a, [rank, d_input]), device);
        Self::new(lora_a, Tensor::zeros([d_output, rank], device), scaling)
    }

    /// PEFT's initialisation of an embedding's adapter: `A` zero, `B` normal. The embedding counts as a map from the
    /// vocabulary, so `A` is `[rank, vocab]` and `B` `[hidden, rank]`.
    ///
    /// Source: PEFT `tuners/lora/layer.py`, `reset_lora_parameters`.
    #[expect(clippy::cast_possible_truncation, reason = "the matrices are in single precision")]
    pub fn init_embedding(
        ModuleAdapter { rank, scaling }: ModuleAdapter,
        [vocab, hidden]: [usize; 2],
        uniform: &mut impl FnMut() -> f32,
        device: &Device,
    ) -> Self {
        // Box and Muller's way from two uniform numbers to a normal one.
        let mut normal = || {
            let (radius, angle) = (1.0 - f64::from(uniform()), f64::from(uniform()));
            ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
        };
        let b: Vec<f32> = (0..hidden * rank).map(|_| normal()).collect();
        let lora_b = Tensor::from_data(TensorData::new(b, [hidden, rank]), device);
        Self::new(Tensor::zeros([rank, vocab], device), lora_b, scaling)
    }

    /// `PiSSA`'s initialisation: the principal parts of a frozen weight.
    ///
    /// # Panics
    /// When the rank is larger than a side of the weight.
    pub fn principal(ModuleAdapter { rank, scaling }: ModuleAdapter, weight: &Weight, device: &Device) -> Self {
        let [d_output, d_input] = weight.dims();
        assert!(rank <= d_output.min(d_input), "rank {rank} of a {d_output} by {d_input} weight");
        let numbers = weight.dense(device).into_data();
        let numbers = numbers.as_slice::<f32>().expect("just made float32");
        let (a, b) = principal_parts(numbers, d_input, rank, scaling);
        let matrix = |numbers, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(numbers, shape), device);
        let (lora_a, lora_b) = (matrix(a, [rank, d_input]), matrix(b, [d_output, rank]));
        let initial = Some(Initial { lora_a: lora_a.clone(), lora_b: lora_b.clone() });
        Self { initial, ..Self::new(lora_a, lora_b, scaling) }
    }

    /// Takes an adapter that [`Self::whole`] put together apart again.
    #[must_use]
    pub fn with_initial(self, scaling: f64) -> Self {
        let rank = self.rank() / 2;
        let half =
            |first: usize| (self.lora_a.clone().narrow(0, first, rank), self.lora_b.clone().narrow(1, first, rank));
        let ((lora_a, lora_b), (initial_a, initial_b)) = (half(0), half(rank));
        let initial = Some(Initial { lora_a: initial_a, lora_b: initial_b.neg() });
        Self { lora_a, lora_b, scaling, initial, magnitude: self.magnitude }
    }

    /// The adapter as it is on the weight from which nothing was taken, `[A; A₀]` and `[B, -B₀]`: with `PiSSA` a plain
    /// LoRA of twice the rank, else itself.
    ///
    /// Source: PEFT `tuners/lora/model.py`, `subtract_mutated_init`.
    #[must_use]
    pub fn whole(self) -> Self {
        let Some(initial) = self.initial else { return self };
        let lora_a = Tensor::cat(vec![self.lora_a, initial.lora_a], 0);
        let lora_b = Tensor::cat(vec![self.lora_b, initial.lora_b.neg()], 1);
        Self { lora_a, lora_b, scaling: self.scaling, magnitude: self.magnitude, initial: None }
    }

    /// What the base has beside the layer's weight while this adapter is on it: the pair that a `PiSSA` adapter started
    /// with, which was taken out of the weight. `None` for every other adapter.
    pub fn taken_out(self) -> Option<Self> {
        let Initial { lora_a, lora_b } = self.initial?;
        Some(Self::new(lora_a, lora_b, self.scaling))
    }

    /// Two matrices and nothing else.
    pub fn new(lora_a: Tensor<2>, lora_b: Tensor<2>, scaling: f64) -> Self {
        Self { lora_a, lora_b, scaling, magnitude: None, initial: None }
    }

    /// The numbers of inputs and outputs, `(in, out)`.
    pub fn sizes(&self) -> (usize, usize) {
        (self.lora_a.dims()[1], self.lora_b.dims()[0])
    }

    /// The rank of the update.
    pub fn rank(&self) -> usize {
        self.lora_a.dims()[0]
    }

    /// Marks what is trained as leaves of autodiff whose gradients are kept.
    #[must_use]
    pub fn require_grad(self) -> Self {
        let magnitude = self.magnitude.map(|m| Magnitude { vector: require_grad(m.vector), ..m });
        Self { lora_a: require_grad(self.lora_a), lora_b: require_grad(self.lora_b), magnitude, ..self }
    }

    /// The same numbers outside autodiff; nothing is copied.
    #[must_use]
    pub fn inner(self) -> Self {
        let magnitude = self.magnitude.map(|m| Magnitude { vector: m.vector.inner(), ..m });
        Self { lora_a: self.lora_a.inner(), lora_b: self.lora_b.inner(), magnitude, ..self }
    }

    /// The update on the activation path: `scaling · x Aᵀ Bᵀ`, `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.lora_a.clone().transpose()).mul_scalar(self.scaling).matmul(self.lora_b.clone().transpose())
    }

    /// The update of an embedding's rows: `scaling · Aᵀ[ids] Bᵀ`, `[tokens]` to `[tokens, hidden]`.
    pub fn embed(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let rows = self.lora_a.clone().select(1, ids).transpose();
        rows.mul_scalar(self.scaling).matmul(self.lora_b.clone().transpose())
    }

    /// The dense update `scaling · B A`, shape `[out, in]`; for merging only.
    pub fn delta(&self) -> Tensor<2> {
        self.lora_b.clone().matmul(self.lora_a.clone()) * self.scaling
    }

    /// What every output of `W x + scaling · B A x` is multiplied by, shape `[out]`; `None` but for `DoRA`. `base`
    /// applies the frozen weight without its bias, `[rows, in]` to `[rows, out]`.
    ///
    /// The norm of a row follows without the dense product:
    /// `‖w + s b A‖² = ‖w‖² + 2 s b·(A w) + s² b (A Aᵀ) bᵀ`.
    pub fn factor(&self, base: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Option<Tensor<1>> {
        let magnitude = self.magnitude.as_ref()?;
        let norm = magnitude.norm.get_or_init(|| {
            let (a, b) = (self.lora_a.clone().inner(), self.lora_b.clone().inner().transpose());
            let cross = b.clone() * base(a.clone());
            let own = b.clone() * a.clone().matmul(a.transpose()).matmul(b);
            let both = cross * (2.0 * self.scaling) + own * self.scaling.powi(2);
            (magnitude.squares.clone() + both.sum_dim(0).squeeze_dim(0)).sqrt()
        });
        Some(magnitude.vector.clone() / norm.clone())
    }
}

/// Makes a tensor a leaf of autodiff whose gradient is kept, with the strategy by which operators that are marked as
/// cheap are computed again in the backward pass. Every leaf of a graph needs the same strategy.
#[must_use]
pub fn require_grad<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let strategy = GradientCheckpointingStrategy::Balanced;
    tensor.autodiff().with_gradient_checkpointing_strategy(strategy).require_grad()
}

/// Linear layer with an optional low-rank update:
/// `y = x Wᵀ + b + scaling · x Aᵀ Bᵀ`, or what [`Magnitude`] says.
///
/// Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>, section 4.1.
#[derive(Clone, Debug)]
pub struct LoraLinear {
    /// The frozen weight `W`, shape `[out, in]`, as in the checkpoint.
    pub weight: Weight,
    /// The frozen bias, shape `[out]`, where the family has one.
    pub bias: Option<Tensor<1>>,
    /// The adapter; `None` is the base model.
    pub lora: Option<LowRank>,
}

impl LoraLinear {
    /// Puts an adapter on the layer, and takes out of its weight what the adapter started with.
    ///
    /// The weight then becomes float32: in 16 bits its rounding would not be that of the weight as it was, to which the
    /// adapter belongs once it is saved.
    pub fn attach(&mut self, mut lora: LowRank) {
        if let Some(initial) = &lora.initial {
            let start = initial.lora_b.clone().matmul(initial.lora_a.clone()) * lora.scaling;
            self.weight = (self.weight.dense(&start.device()) - start).into();
            lora.magnitude = lora.magnitude.map(|magnitude| Magnitude::new(magnitude.vector, &self.weight));
        }
        self.lora = Some(lora);
    }

    /// A frozen layer without adapter.
    pub fn frozen(weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Self {
        Self { weight: weight.into(), bias, lora: None }
    }

    /// Applies the layer in ordinary tensor operators.
    ///
    /// # Shapes
    /// - `x`: `[tokens, in]`; output: `[tokens, out]`.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = x.clone().matmul(self.weight.dense(&x.device()).transpose());
        let y = match &self.lora {
            Some(lora) => y + lora.forward(x),
            None => y,
        };
        let y = match self.factor() {
            Some(factor) => y * factor.unsqueeze(),
            None => y,
        };
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }

    /// [`LowRank::factor`] by its definition, from the dense sum.
    pub fn factor(&self) -> Option<Tensor<1>> {
        let lora = self.lora.as_ref()?;
        let magnitude = lora.magnitude.as_ref()?;
        let update = lora.clone().inner().delta();
        let dense = self.weight.dense(&update.device()) + update;
        Some(magnitude.vector.clone() / square_rows(dense).sqrt())
    }

    /// Folds the adapter into the weight: `W + scaling · B A`, with its rows brought to their magnitude. A layer
    /// without adapter is returned as it is.
    #[must_use]
    pub fn merged(self) -> Self {
        let Some(lora) = &self.lora else { return self };
        let weight = self.weight.dense(&lora.lora_a.device()) + lora.delta();
        let weight = match self.factor() {
            Some(factor) => weight * factor.unsqueeze_dim(1),
            None => weight,
        };
        Self { weight: weight.into(), bias: self.bias, lora: None }
    }

    /// The input and output sizes, `(in, out)`.
    pub fn sizes(&self) -> (usize, usize) {
        let [d_output, d_input] = self.weight.dims();
        (d_input, d_output)
    }
}
