//! Keys and values of the tokens already seen, one [`KvCache`] a sequence.

use burn::tensor::Tensor;

/// The cache of one sequence.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// For each layer `(k, v)`, both `[seen, kv_heads · head_dim]`; `None` before the first token.
    layers: Vec<Option<(Tensor<2>, Tensor<2>)>>,
    seen: usize,
}

impl KvCache {
    /// An empty cache for a model of that many layers.
    pub fn new(num_hidden_layers: usize) -> Self {
        Self { layers: vec![None; num_hidden_layers], seen: 0 }
    }

    /// How many tokens the sequence has behind it.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Adds the new keys and values of a layer and returns all of them. The last layer's call moves [`Self::seen`].
    pub(super) fn append(&mut self, layer: usize, k: Tensor<2>, v: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let new = k.dims()[0];
        let (k, v) = match self.layers[layer].take() {
            Some((past_k, past_v)) => (Tensor::cat(vec![past_k, k], 0), Tensor::cat(vec![past_v, v], 0)),
            None => (k, v),
        };
        self.layers[layer] = Some((k.clone(), v.clone()));
        if layer + 1 == self.layers.len() {
            self.seen += new;
        }
        (k, v)
    }
}
