//! LoRA as a layer: a frozen linear map with an optional low-rank update on the activation path.
//!
//! `None` in [`LoraLinear::lora`] is the frozen base model, so there is one definition of each model, with and
//! without adapter. The dense product `B·A` is never formed.

use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor, TensorData};

use crate::config::ModuleAdapter;
use crate::weight::Weight;

/// The trainable pair of one adapted module: the update is `scaling · B A`.
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
        Self {
            lora_a: Tensor::from_data(TensorData::new(a, [rank, d_input]), device),
            lora_b: Tensor::zeros([d_output, rank], device),
            scaling,
        }
    }

    /// The rank of the update.
    pub fn rank(&self) -> usize {
        self.lora_a.dims()[0]
    }

    /// Marks both matrices as leaves of autodiff whose gradients are kept.
    #[must_use]
    pub fn require_grad(self) -> Self {
        Self { lora_a: require_grad(self.lora_a), lora_b: require_grad(self.lora_b), ..self }
    }

    /// The same matrices outside autodiff; nothing is copied.
    #[must_use]
    pub fn inner(self) -> Self {
        Self { lora_a: self.lora_a.inner(), lora_b: self.lora_b.inner(), ..self }
    }

    /// The update on the activation path: `scaling · x Aᵀ Bᵀ`, `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.lora_a.clone().transpose()).mul_scalar(self.scaling).matmul(self.lora_b.clone().transpose())
    }

    /// The dense update `scaling · B A`, shape `[out, in]`; for merging only.
    pub fn delta(&self) -> Tensor<2> {
        self.lora_b.clone().matmul(self.lora_a.clone()) * self.scaling
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
/// `y = x Wᵀ + b + scaling · x Aᵀ Bᵀ`.
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
        let base = x.clone().matmul(self.weight.dense(&x.device()).transpose());
        let base = match &self.bias {
            Some(bias) => base + bias.clone().unsqueeze(),
            None => base,
        };
        match &self.lora {
            Some(lora) => base + lora.forward(x),
            None => base,
        }
    }

    /// Folds the adapter into the weight: `W + scaling · B A`. A layer without adapter is returned as it is.
    #[must_use]
    pub fn merged(self) -> Self {
        match &self.lora {
            Some(lora) => {
                let weight = self.weight.dense(&lora.lora_a.device()) + lora.delta();
                Self { weight: weight.into(), bias: self.bias, lora: None }
            }
            None => self,
        }
    }

    /// The input and output sizes, `(in, out)`.
    pub fn sizes(&self) -> (usize, usize) {
        let [d_output, d_input] = self.weight.dims();
        (d_input, d_output)
    }
}
