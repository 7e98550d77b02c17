//! One folder for each rule, which breaks that rule and no other.

use std::fs;

use serde_json::{Map, json};
use tempfile::TempDir;

use super::*;
use crate::LoraConfig;
use crate::export::safetensors::{NamedTensor, write};

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";
const UP: &str = "base_model.model.model.layers.0.mlp.up_proj";

/// A folder with one module of rank 8 and alpha 16, some of its configuration's keys set otherwise, and more tensors.
fn folder(keys: Value, more: &[(&str, &[usize])]) -> (TempDir, Facts) {
    let folder = tempfile::tempdir().unwrap();
    let lora = LoraConfig { rank: 8, alpha: 16.0, ..LoraConfig::default() };
    let mut config = serde_json::to_value(AdapterConfig::new(&lora, "base", None)).unwrap();
    let (Value::Object(config_keys), Value::Object(keys)) = (&mut config, keys) else { panic!("objects") };
    config_keys.extend(keys.into_iter().collect::<Map<_, _>>());
    fs::write(folder.path().join(CONFIG_FILE), config.to_string()).unwrap();
    let rank = config["r"].as_u64().and_then(|r| usize::try_from(r).ok()).unwrap();
    let mut tensors =
        vec![(format!("{Q}.lora_A.weight"), vec![rank, 4]), (format!("{Q}.lora_B.weight"), vec![4, rank])];
    tensors.extend(more.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())));
    let tensors = tensors.into_iter().map(|(name, shape)| {
        let count = shape.iter().product();
        NamedTensor { name, shape, values: vec![0.5; count].into() }
    });
    write(&folder.path().join(WEIGHTS_FILE), tensors.collect(), None).unwrap();
    let facts = Facts::of_folder(folder.path()).unwrap();
    (folder, facts)
}

fn judge(name: &str, facts: &Facts) -> Verdict {
    server(name).expect("a known server").judge(facts)
}

#[track_caller]
fn refused(facts: &Facts, servers: &[&str], reason: &str) {
    for server in SERVERS {
        let verdict = judge(server.name, facts);
        if servers.contains(&server.name) {
            let Verdict::Refuses { because, remedy } = &verdict else { panic!("{}: {verdict:?}", server.name) };
            assert!(because.contains(reason) && !remedy.is_empty(), "{}: {verdict:?}", server.name);
        } else {
            assert!(!matches!(verdict, Verdict::Refuses { .. }), "{}: {verdict:?}", server.name);
        }
    }
}

#[test]
fn a_plain_adapter_loads_everywhere() {
    let (_folder, facts) = folder(json!({}), &[]);
    for name in ["vllm", "mistral.rs", "lorax", "peft"] {
        assert_eq!(judge(name, &facts), Verdict::Loads, "{name}");
    }
    assert!(matches!(judge("llama.cpp", &facts), Verdict::LoadsWith { with } if with.contains("gguf-lora")));
}

#[test]
fn vllm_is_told_the_rank_it_must_be_started_with() {
    for (rank, flag) in [(16, None), (17, Some(32)), (200, Some(256)), (300, Some(320)), (512, Some(512))] {
        let (_folder, facts) = folder(json!({ "r": rank, "lora_alpha": 2 * rank }), &[]);
        let expected = flag.map_or(Verdict::Loads, |n| Verdict::LoadsWith { with: format!("--max-lora-rank {n}") });
        assert_eq!(judge("vllm", &facts), expected, "{rank}");
    }
    let (_folder, facts) = folder(json!({ "r": 513 }), &[]);
    refused(&facts, &["vllm", "mistral.rs"], "rank 513 is above");
}

#[test]
fn mistral_rs_refuses_ranks_above_256() {
    let (_folder, facts) = folder(json!({ "r": 257 }), &[]);
    refused(&facts, &["mistral.rs"], "rank 257 is above 256");
}

#[test]
fn whole_weights_are_refused_by_all_but_peft() {
    let (_folder, facts) = folder(json!({ "modules_to_save": ["lm_head"] }), &[]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax"], "lm_head");
    let (_folder, facts) = folder(json!({}), &[("base_model.model.model.norm.weight", &[4])]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax"], "model.norm.weight");
}

#[test]
fn biases_are_refused_by_all_but_peft() {
    let (_folder, facts) = folder(json!({ "bias": "lora_only" }), &[]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax"], "lora_only");
    let (_folder, facts) = folder(json!({ "lora_bias": true }), &[]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax"], "biases are trained");
}

#[test]
fn dora_is_refused_by_all_but_peft() {
    let (_folder, facts) = folder(json!({ "use_dora": true }), &[(&format!("{Q}.lora_magnitude_vector"), &[4])]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax"], "DoRA");
    let (_folder, facts) = folder(json!({}), &[(&format!("{Q}.lora_magnitude_vector"), &[4])]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax"], "DoRA");
}

#[test]
fn an_initialisation_that_changes_the_base_is_refused_by_all() {
    let (_folder, facts) = folder(json!({ "init_lora_weights": "pissa" }), &[]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax", "peft"], "pissa");
}

#[test]
fn mistral_rs_refuses_initialisations_by_name() {
    let (_folder, facts) = folder(json!({ "init_lora_weights": "gaussian" }), &[]);
    refused(&facts, &["mistral.rs"], "gaussian");
}

#[test]
fn patterns_are_wrong_where_one_scale_is_taken() {
    let (_folder, facts) = folder(json!({ "alpha_pattern": { "q_proj": 32 } }), &[]);
    refused(&facts, &["vllm", "lorax"], "one scale");
    // The same scale by another rank and alpha is the same update.
    let up: [(&str, &[usize]); 2] =
        [(&format!("{UP}.lora_A.weight"), &[4, 4]), (&format!("{UP}.lora_B.weight"), &[4, 4])];
    let keys = json!({ "rank_pattern": { "up_proj": 4 }, "alpha_pattern": { "up_proj": 8 } });
    let (_folder, facts) = folder(keys, &up);
    assert_eq!(judge("vllm", &facts), Verdict::Loads);
    refused(&facts, &["lorax"], "one rank");
}

#[test]
fn rank_stabilised_adapters_have_one_scale() {
    let (_folder, facts) = folder(json!({ "use_rslora": true }), &[]);
    for name in ["vllm", "mistral.rs", "lorax", "peft"] {
        assert_eq!(judge(name, &facts), Verdict::Loads, "{name}");
    }
}

#[test]
fn an_adapted_head_is_refused_where_there_is_no_kernel_for_it() {
    let head: [(&str, &[usize]); 2] =
        [("base_model.model.lm_head.lora_A.weight", &[8, 4]), ("base_model.model.lm_head.lora_B.weight", &[9, 8])];
    let (_folder, facts) = folder(json!({}), &head);
    refused(&facts, &["llama.cpp", "mistral.rs", "lorax"], "lm_head");
    assert!(matches!(judge("vllm", &facts), Verdict::LoadsWith { with } if with.contains("Llama or Mistral")));
}

#[test]
fn an_adapted_embedding_is_skipped_or_has_no_form() {
    let (_folder, facts) = folder(json!({}), &[("base_model.model.model.embed_tokens.lora_embedding_A", &[8, 9])]);
    refused(&facts, &["llama.cpp", "mistral.rs", "lorax"], "embed_tokens");
    assert!(matches!(judge("vllm", &facts), Verdict::LoadsWith { with } if with.contains("Llama or Mistral")));
}

#[test]
fn keys_of_another_form_are_refused() {
    let up: [(&str, &[usize]); 2] =
        [(&format!("{UP}.lora_A.default.weight"), &[8, 4]), (&format!("{UP}.lora_B.default.weight"), &[4, 8])];
    let (_folder, facts) = folder(json!({}), &up);
    refused(&facts, &["vllm", "mistral.rs", "lorax", "peft"], "default.weight");
}

#[test]
fn another_kind_of_adapter_is_refused_by_the_servers() {
    let (_folder, facts) = folder(json!({ "peft_type": "IA3" }), &[]);
    refused(&facts, &["vllm", "llama.cpp", "mistral.rs", "lorax"], "IA3");
}
