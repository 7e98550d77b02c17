//! Bases whose weights, configuration and tokenizer do not fit each other.

use std::collections::BTreeMap;
use std::fs;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{Case, assert_error, files};
use crate::support::greffon;

/// The f32 weights of a case's own base, to be changed and written back.
pub(super) struct Weights(BTreeMap<String, Weight>);

pub(super) struct Weight {
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Weights {
    pub(super) fn read(case: &Case) -> Self {
        let bytes = fs::read(case.path("base/model.safetensors")).expect("the base");
        let tensors = SafeTensors::deserialize(&bytes).expect("the fixture is sound");
        let weight = |view: TensorView<'_>| Weight { shape: view.shape().to_vec(), bytes: view.data().to_vec() };
        Self(tensors.tensors().into_iter().map(|(name, view)| (name, weight(view))).collect())
    }

    pub(super) fn get(&mut self, name: &str) -> &mut Weight {
        self.0.get_mut(name).expect("a tensor of the fixture")
    }

    pub(super) fn write(&self, case: &Case) {
        let views = self.0.iter().map(|(name, weight)| {
            let view = TensorView::new(Dtype::F32, weight.shape.clone(), &weight.bytes);
            (name, view.expect("the shape is that of the bytes"))
        });
        case.write("base/model.safetensors", safetensors::serialize(views, None).expect("it serialises"));
    }
}

const Q_PROJ: &str = "model.layers.1.self_attn.q_proj.weight";

#[test]
fn a_missing_tensor_is_refused_by_name() {
    let case = Case::with_own_base("tiny-llama");
    let mut weights = Weights::read(&case);
    weights.0.remove(Q_PROJ).expect("it was there");
    weights.write(&case);
    case.refused(&[], &["base: tensor ", Q_PROJ, "is missing", "expected shape [64, 64]"]);
}

#[test]
fn an_extra_tensor_is_refused_by_name() {
    let case = Case::with_own_base("tiny-llama");
    let mut weights = Weights::read(&case);
    let bias = Weight { shape: vec![64], bytes: vec![0; 256] };
    weights.0.insert("model.layers.1.self_attn.q_proj.bias".to_owned(), bias);
    weights.write(&case);
    let words = ["base: 1 tensor", "not used", "model.layers.1.self_attn.q_proj.bias", "does not describe"];
    case.refused(&[], &words);
}

#[test]
fn a_misshapen_tensor_is_refused_with_both_shapes() {
    let case = Case::with_own_base("tiny-llama");
    let mut weights = Weights::read(&case);
    weights.get(Q_PROJ).shape = vec![32, 128];
    weights.write(&case);
    case.refused(&[], &[Q_PROJ, "has shape [32, 128]", "expected [64, 64]"]);
}

#[test]
fn a_weight_that_is_not_a_number_is_refused_with_its_element() {
    let case = Case::with_own_base("tiny-llama");
    let mut weights = Weights::read(&case);
    weights.get(Q_PROJ).bytes[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
    weights.write(&case);
    case.refused(&[], &[Q_PROJ, "holds NaN at element 3"]);
}

#[test]
fn an_unknown_model_type_is_refused_with_the_known_ones() {
    let case = Case::with_own_base("tiny-llama");
    case.edit("base/config.json", "\"model_type\": \"llama\"", "\"model_type\": \"mamba\"");
    case.refused(&[], &["config.json: model family \"mamba\" is not supported", "known families: llama"]);
}

#[test]
fn a_configuration_that_cannot_be_computed_is_refused_with_its_key() {
    for (from, to, words) in [
        ("\"hidden_size\": 64", "\"hidden_size\": \"64\"", ["\"hidden_size\" is \"64\"", "expected a whole number"]),
        (
            "\"num_hidden_layers\": 3",
            "\"num_hidden_layers\": 18446744073709551615",
            ["\"num_hidden_layers\"", "expected 1 to"],
        ),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", ["num_attention_heads", "a multiple of"]),
        ("\"rope_scaling\": null", "\"rope_scaling\": {\"factor\": 2.0}", ["\"rope_type\"", "is missing"]),
        (
            "\"rope_scaling\": null",
            "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2.0}",
            ["rope type \"yarn\" is not supported", "expected default, linear or llama3"],
        ),
        ("\"mlp_bias\": false", "\"mlp_bias\": true", ["\"mlp_bias\" is true", "does not support"]),
        ("\"vocab_size\": 384,", "", ["\"vocab_size\" is missing", "expected a whole number"]),
        ("\"vocab_size\": 384,", "\"vocab_size\": 384", ["config.json: not valid JSON", "line 5"]),
    ] {
        let case = Case::with_own_base("tiny-llama");
        case.edit("base/config.json", from, to);
        let mut all = vec!["config.json: "];
        all.extend(words);
        case.refused(&[], &all);
    }
}

#[test]
fn a_loss_that_is_not_a_number_ends_the_run_with_step_and_examples() {
    let case = Case::with_own_base("tiny-llama");
    let mut weights = Weights::read(&case);
    // Finite weights, whose logits are not.
    let huge: Vec<u8> = (0..384 * 64).flat_map(|_| 3e38_f32.to_le_bytes()).collect();
    weights.get("lm_head.weight").bytes = huge;
    weights.write(&case);
    let words =
        ["loss is NaN at step 1", "(learning rate ", "train.jsonl:", "lower train.learning_rate", "data preview"];
    let error = assert_error(&greffon(&["train", &case.recipe]), 1, &words);
    let info: serde_json::Value = serde_json::from_str(&case.read("run/run.json")).expect("JSON");
    assert_eq!(info["status"], "failed");
    assert_eq!(info["reason"], error);
    assert!(files(&case.path("run/checkpoints")).is_empty(), "nothing that is not a number was saved");
}
