//! Adapters written, read back, taken from PEFT itself (`scripts/make_peft_fixtures.py`), and damaged.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::*;
use crate::{LoraConfig, TargetModule, Targets};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/peft")
}

fn pair(rank: usize, in_features: usize, out_features: usize) -> LoraPair {
    let values = |len: usize| (0..len).map(|i| i as f32 / 8.0 - 1.0).collect();
    let (a, b) = (values(rank * in_features), values(out_features * rank));
    LoraPair { rank, in_features, out_features, a, b, magnitude: None }
}

const Q: &str = "model.layers.0.self_attn.q_proj";
const DOWN: &str = "model.layers.1.mlp.down_proj";

fn small() -> (AdapterConfig, BTreeMap<String, LoraPair>) {
    let targets = Targets::Modules(vec![TargetModule::QProj, TargetModule::DownProj]);
    let lora = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.05, targets, ..LoraConfig::default() };
    let config = AdapterConfig::new(&lora, "some/base", Some("main".into()));
    (config, BTreeMap::from([(Q.into(), pair(2, 4, 6)), (DOWN.into(), pair(2, 3, 4))]))
}

fn written() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let folder = parent.path().join("adapter");
    let (config, tensors) = small();
    write_peft(&folder, &config, &tensors, false).expect("well formed");
    (parent, folder)
}

/// The message for an adapter whose configuration has one key changed.
#[track_caller]
fn refused_config(key: &str, value: Value, expected: &str) {
    let (_parent, folder) = written();
    let path = folder.join(CONFIG_FILE);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("written")).expect("JSON");
    config[key] = value;
    fs::write(&path, config.to_string()).expect("room for a small file");
    let error = read_peft(&folder).expect_err("must be refused").to_string();
    assert!(error.contains(CONFIG_FILE) && error.contains(expected), "{error}");
}

/// The message for an adapter with these tensors instead of its own.
#[track_caller]
fn refused_tensors(tensors: &[(&str, [usize; 2])], expected: &str) {
    let (_parent, folder) = written();
    replace_tensors(&folder, tensors);
    let error = read_peft(&folder).expect_err("must be refused").to_string();
    assert!(error.contains(WEIGHTS_FILE) && error.contains(expected), "{error}");
}

fn replace_tensors(folder: &Path, tensors: &[(&str, [usize; 2])]) {
    let tensors = tensors.iter().map(|(key, [rows, cols])| NamedTensor {
        name: (*key).to_owned(),
        shape: vec![*rows, *cols],
        values: vec![0.5; rows * cols].into(),
    });
    fs::remove_file(folder.join(WEIGHTS_FILE)).expect("it was written");
    safetensors::write(&folder.join(WEIGHTS_FILE), tensors.collect(), None).expect("well formed");
}

#[test]
fn an_adapter_of_peft_is_read_and_scaled_as_peft_does() {
    let (config, tensors) = read_peft(&fixture()).expect("PEFT wrote it");
    let deltas = SafetensorsFile::open(fixture().join("deltas.safetensors")).expect("well formed");
    assert_eq!(tensors.keys().map(String::as_str).collect::<Vec<_>>(), deltas.names().collect::<Vec<_>>());
    for (module, pair) in &tensors {
        assert_eq!(pair.rank, if module.ends_with("v_proj") { 2 } else { 4 }, "{module}");
        assert_eq!(deltas.shape(module).expect("there"), [pair.out_features, pair.in_features]);
        let scaling = config.scaling(module).expect("sound patterns");
        let delta = deltas.f32(module).expect("a float");
        for (at, expected) in delta.iter().enumerate() {
            let (row, col) = (at / pair.in_features, at % pair.in_features);
            let product: f64 = (0..pair.rank)
                .map(|k| f64::from(pair.b[row * pair.rank + k]) * f64::from(pair.a[k * pair.in_features + col]))
                .sum();
            let difference = (scaling * product - f64::from(*expected)).abs();
            assert!(difference < 1e-5, "{module} at {row}, {col}: {difference}");
        }
    }
}

/// Continued from PEFT's file, ours must say the same.
#[test]
fn an_adapter_of_peft_is_written_again_with_the_same_content() {
    let (config, tensors) = read_peft(&fixture()).expect("PEFT wrote it");
    let parent = tempfile::tempdir().expect("a temporary folder");
    let folder = parent.path().join("again");
    write_peft(&folder, &config, &tensors, false).expect("well formed");
    assert_eq!(
        fs::read(folder.join(WEIGHTS_FILE)).expect("written"),
        fs::read(fixture().join(WEIGHTS_FILE)).expect("the fixture"),
        "PEFT's safetensors file, byte for byte"
    );
    let json = |folder: &Path| fs::read_to_string(folder.join(CONFIG_FILE)).expect("there");
    assert_eq!(json(&folder).trim_end(), json(&fixture()).trim_end());
}

#[test]
fn the_configuration_has_every_key_that_servers_look_at_in_order() {
    let (_parent, folder) = written();
    let text = fs::read_to_string(folder.join(CONFIG_FILE)).expect("written");
    let expected = r#"{
  "alpha_pattern": {},
  "base_model_name_or_path": "some/base",
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "lora_alpha": 4,
  "lora_dropout": 0.05,
  "modules_to_save": null,
  "peft_type": "LORA",
  "peft_version": "0.21.2",
  "r": 2,
  "rank_pattern": {},
  "revision": "main",
  "target_modules": [
    "down_proj",
    "q_proj"
  ],
  "task_type": "CAUSAL_LM",
  "use_dora": false,
  "use_rslora": false
}
"#;
    assert_eq!(text, expected);
}

#[test]
fn what_is_written_comes_back_and_equal_adapters_are_equal_files() {
    let (_first_parent, first) = written();
    let (_second_parent, second) = written();
    for name in [CONFIG_FILE, WEIGHTS_FILE] {
        assert_eq!(fs::read(first.join(name)).expect("written"), fs::read(second.join(name)).expect("written"));
    }
    let (config, tensors) = read_peft(&first).expect("our own");
    assert_eq!((config, tensors), small());
    let file = SafetensorsFile::open(first.join(WEIGHTS_FILE)).expect("well formed");
    assert_eq!(
        file.names().collect::<Vec<_>>(),
        [
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
            "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight",
            "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight",
        ]
    );
    let bytes = fs::read(first.join(WEIGHTS_FILE)).expect("written");
    assert!(bytes[8..].starts_with(br#"{"__metadata__":{"format":"pt"}"#));
}

#[test]
fn an_adapter_is_only_replaced_when_asked_and_other_folders_never() {
    let (_parent, folder) = written();
    let (mut config, tensors) = small();
    config.revision = None;
    let error = write_peft(&folder, &config, &tensors, false).expect_err("it exists");
    assert!(matches!(error, AdapterError::Exists { .. }));
    write_peft(&folder, &config, &tensors, true).expect("asked to");
    assert_eq!(read_peft(&folder).expect("our own").0.revision, None);

    fs::remove_file(folder.join(CONFIG_FILE)).expect("it is there");
    fs::write(folder.join("thesis.tex"), "years of work").expect("room for a small file");
    let error = write_peft(&folder, &config, &tensors, true).expect_err("not an adapter").to_string();
    assert!(
        error.ends_with("is not empty and has no adapter_config.json, so it is not replaced; choose another folder")
    );
    assert!(folder.join("thesis.tex").exists());
}

#[test]
fn a_configuration_that_cannot_be_honoured_is_refused_with_the_reason() {
    refused_config("peft_type", json!("IA3"), "key `peft_type`: is \"IA3\", only LORA is supported");
    refused_config("task_type", json!("SEQ_CLS"), "only CAUSAL_LM is supported");
    refused_config("r", json!(0), "key `r`: is 0, expected a rank of at least 1");
    refused_config("lora_dropout", json!(1.0), "key `lora_dropout`: is 1, expected 0 to below 1");
    refused_config("bias", json!("all"), "key `bias`: is \"all\": biases of the base would change");
    refused_config("modules_to_save", json!(["lm_head"]), "key `modules_to_save`: names lm_head: whole weights other");
    refused_config(
        "use_dora",
        json!(true),
        "lora_magnitude_vector`: is missing, but adapter_config.json says use_dora",
    );
    refused_config("fan_in_fan_out", json!(true), "key `fan_in_fan_out`: is true");
    refused_config("init_lora_weights", json!("pissa"), "is \"pissa\": the adapter belongs to a changed base model");
    refused_config("lora_bias", json!(true), "key `lora_bias`: is set: B has a bias, which is not supported");
    refused_config("trainable_token_indices", json!([5]), "it holds embeddings of tokens");
    refused_config("rank_pattern", json!({"q_proj": 0}), "gives `q_proj` the rank 0");
    refused_config("rank_pattern", json!({"(": 2}), "key `rank_pattern`: cannot use the regular expression `(`");
    refused_config("rank_pattern", json!({"q_proj": 2, "self_attn.q_proj": 3}), "several patterns with different");
    refused_config("target_modules", json!("(?=x)"), "key `target_modules`: cannot use the regular expression");
    refused_config("r", json!("16"), "not the JSON that was expected");
    refused_config("target_modules", Value::Null, "not the JSON that was expected");
}

#[test]
fn keys_that_change_nothing_are_kept() {
    let (_parent, folder) = written();
    let (mut config, tensors) = small();
    config.other = BTreeMap::from([
        ("layers_to_transform".into(), json!([0, 1])),
        ("from_the_future".into(), json!({"b": 1, "a": 2})),
        ("lora_bias".into(), json!(false)),
    ]);
    config.init_lora_weights = InitLoraWeights::Named("gaussian".into());
    write_peft(&folder, &config, &tensors, true).expect("nothing that is refused");
    assert_eq!(read_peft(&folder).expect("our own").0, config);
}

#[test]
fn target_modules_may_be_a_pattern() {
    let (_parent, folder) = written();
    let (mut config, tensors) = small();
    for pattern in ["all-linear", r"model\.layers\.\d+\.(self_attn|mlp)\.(q|down)_proj", r".*(q|down)_proj"] {
        config.target_modules = TargetNames::Pattern(pattern.into());
        write_peft(&folder, &config, &tensors, true).expect("matches both modules");
        assert_eq!(read_peft(&folder).expect("our own").0, config);
    }
    config.target_modules = TargetNames::Pattern("q_proj".into());
    let error = write_peft(&folder, &config, &tensors, true).expect_err("matches no whole path").to_string();
    assert!(error.contains("target_modules of adapter_config.json does not name"), "{error}");
}

#[test]
fn ranks_and_alphas_follow_their_patterns() {
    let (mut config, _) = small();
    config.rank_pattern = BTreeMap::from([("q_proj".into(), 8)]);
    config.alpha_pattern = BTreeMap::from([(r"layers\.0\..*".into(), 2.5)]);
    let scaling = |config: &AdapterConfig, module| config.scaling(module).expect("sound patterns");
    assert_eq!(config.rank(Q).expect("sound patterns"), 8);
    assert_eq!(config.rank("model.layers.0.self_attn.xq_proj").expect("sound patterns"), 2);
    assert!((scaling(&config, Q) - 2.5 / 8.0).abs() < 1e-12);
    assert!((scaling(&config, DOWN) - 4.0 / 2.0).abs() < 1e-12);
    config.use_rslora = true;
    assert!((scaling(&config, Q) - 2.5 / 8_f64.sqrt()).abs() < 1e-12);
    assert!(config.to_json().contains("\"layers\\\\.0\\\\..*\": 2.5"));
}

#[test]
fn tensors_that_are_not_a_plain_lora_are_refused() {
    let a = "base_model.model.m.q_proj.lora_A.weight";
    let b = "base_model.model.m.q_proj.lora_B.weight";
    let with = |key: &str, expected: &str| refused_tensors(&[(a, [2, 3]), (b, [4, 2]), (key, [1, 1])], expected);
    refused_tensors(&[], "holds no adapter: there is no matrix in it");
    refused_tensors(&[(a, [2, 3])], "tensor `base_model.model.m.q_proj.lora_A.weight`: has no counterpart `");
    refused_tensors(&[(b, [4, 2])], "lora_B.weight`: has no counterpart `base_model.model.m.q_proj.lora_A.weight`");
    refused_tensors(&[(a, [3, 3]), (b, [4, 3])], "has rank 3, but adapter_config.json says 2");
    refused_tensors(&[(a, [2, 3]), (b, [4, 3])], "has 2 rows, but B has 3 columns; both must be the rank");
    refused_tensors(&[(a, [2, 0]), (b, [4, 2])], "has the shape [2, 0], expected two dimensions of at least 1");
    with("m.q_proj.lora_A.weight", "does not begin with base_model.model.");
    with("base_model.model.lm_head.weight", "tensor `base_model.model.lm_head.weight`: is not part of a LoRA; whole");
    with("base_model.model.m.q_proj.lora_magnitude_vector", "has the shape [1, 1], expected [4], as B has rows");
    with(
        "base_model.model.m.q_proj.lora_embedding_A",
        "of another kind than its module; expected base_model.model.m.q",
    );
    with(
        "base_model.model.embed_tokens.lora_A.weight",
        "another kind than its module; expected base_model.model.embed",
    );
    with("base_model.model.embed_tokens.base_layer.weight", "save_embedding_layers=False");
    with("base_model.model.m.q_proj.lora_B.bias", "is a bias of the adapter");
    with("base_model.model.m.q_proj.lora_A.default", "expected base_model.model.<module>.lora_A.weight or .lora_B");
    with("base_model.model.m.q_proj.lora_A.default.weight", "are the same matrix of the same module");
    let (k_a, k_b) = ("base_model.model.m.k_proj.lora_A.weight", "base_model.model.m.k_proj.lora_B.weight");
    refused_tensors(&[(k_a, [2, 3]), (k_b, [4, 2])], "target_modules of adapter_config.json does not name");
}

#[test]
fn a_magnitude_goes_with_use_dora_and_back() {
    let (parent, _) = written();
    let folder = parent.path().join("dora");
    let (mut config, mut tensors) = small();
    for pair in tensors.values_mut() {
        pair.magnitude = Some((1..=pair.out_features).map(|row| row as f32).collect());
    }
    let error = write_peft(&folder, &config, &tensors, false).expect_err("no use_dora").to_string();
    assert!(error.contains("lora_magnitude_vector`: belongs to DoRA, but adapter_config.json does not say"), "{error}");
    config.use_dora = true;
    write_peft(&folder, &config, &tensors, false).expect("both say it");
    let file = SafetensorsFile::open(folder.join(WEIGHTS_FILE)).expect("written");
    let key = format!("base_model.model.{Q}.lora_magnitude_vector");
    assert_eq!(file.shape(&key).expect("PEFT's key"), [tensors[Q].out_features]);
    assert_eq!(read_peft(&folder).expect("what was written"), (config, tensors));
}

#[test]
fn an_adapter_name_in_the_keys_is_taken_out() {
    let (_parent, folder) = written();
    let keys = ["base_model.model.m.q_proj.lora_A.default.weight", "base_model.model.m.q_proj.lora_B.default.weight"];
    replace_tensors(&folder, &[(keys[0], [2, 3]), (keys[1], [4, 2])]);
    let (_, tensors) = read_peft(&folder).expect("repaired");
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["m.q_proj"]);
    assert_eq!((tensors["m.q_proj"].in_features, tensors["m.q_proj"].out_features), (3, 4));
}

#[test]
fn values_that_are_not_finite_are_neither_written_nor_read() {
    let (_parent, folder) = written();
    let (config, mut tensors) = small();
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        tensors.get_mut(Q).expect("there").b[5] = value;
        let error = write_peft(&folder, &config, &tensors, true).expect_err("not finite").to_string();
        let expected = format!("q_proj.lora_B.weight`: is {name} at row 2, column 1, expected finite values");
        assert!(error.ends_with(&expected), "{error}");
    }
    read_peft(&folder).expect("the old adapter is still there");

    let path = folder.join(WEIGHTS_FILE);
    let mut bytes = fs::read(&path).expect("written");
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    fs::write(&path, bytes).expect("room for a small file");
    let error = read_peft(&folder).expect_err("not finite").to_string();
    assert!(error.contains("down_proj.lora_B.weight`: is -inf at row 3, column 1"), "{error}");
}

#[test]
fn matrices_that_lie_about_their_shape_are_not_written() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let (config, mut tensors) = small();
    tensors.get_mut(Q).expect("there").in_features = 5;
    let error = write_peft(&parent.path().join("x"), &config, &tensors, false).expect_err("8 values").to_string();
    assert!(error.ends_with("q_proj.lora_A.weight`: has 8 values, expected 2 by 5"), "{error}");
    let error = write_peft(&parent.path().join("x"), &config, &BTreeMap::new(), false).expect_err("empty").to_string();
    assert!(error.ends_with("holds no adapter: there is no matrix in it"), "{error}");
    assert_eq!(fs::read_dir(parent.path()).expect("the test folder").count(), 0);
}

#[test]
fn a_folder_that_is_no_adapter_says_what_is_missing() {
    let (_parent, folder) = written();
    fs::rename(folder.join(WEIGHTS_FILE), folder.join("adapter_model.bin")).expect("it is there");
    let error = read_peft(&folder).expect_err("a pickle").to_string();
    assert!(error.ends_with("refused; load it with PEFT and save it again"), "{error}");
    fs::remove_file(folder.join("adapter_model.bin")).expect("it is there");
    let error = read_peft(&folder).expect_err("no weights").to_string();
    assert!(error.starts_with("cannot open ") && error.ends_with(WEIGHTS_FILE), "{error}");
    fs::remove_file(folder.join(CONFIG_FILE)).expect("it is there");
    let error = read_peft(&folder).expect_err("nothing").to_string();
    assert!(error.starts_with("cannot open ") && error.ends_with(CONFIG_FILE), "{error}");
}

/// The files of a sound adapter, written once: flushing to the disk is slow.
static WRITTEN: LazyLock<[(&str, Vec<u8>); 2]> = LazyLock::new(|| {
    let (_parent, folder) = written();
    [CONFIG_FILE, WEIGHTS_FILE].map(|name| (name, fs::read(folder.join(name)).expect("written")))
});

/// Random, but the same in every run.
fn seeded(cases: u32) -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(seeded(256))]

    #[test]
    fn a_damaged_adapter_never_panics(
        weights in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        for (name, bytes) in WRITTEN.iter() {
            fs::write(folder.join(name), bytes)?;
        }
        let (name, bytes) = &WRITTEN[usize::from(weights)];
        let path = folder.join(name);
        // Without the configuration's last byte, a newline, the file would still be whole.
        let cut = cut.index(bytes.len() - 1);
        fs::write(&path, &bytes[..cut])?;
        prop_assert!(read_peft(folder).is_err(), "a part of the file is missing");

        let mut bytes = bytes.clone();
        for (at, to) in flips {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        fs::write(&path, &bytes)?;
        let _ = read_peft(folder);
        fs::write(&path, &bytes[..cut])?;
        let _ = read_peft(folder);
    }
}

proptest! {
    #![proptest_config(seeded(32))]

    #[test]
    fn any_adapter_survives_a_round_trip(
        rank in 1_usize..5, in_features in 1_usize..9, out_features in 1_usize..9, layers in 1_usize..4,
        alpha in 0.1_f64..100.0, seed in any::<u32>(),
    ) {
        let lora = LoraConfig { rank, alpha, ..LoraConfig::default() };
        let config = AdapterConfig::new(&lora, "base", None);
        let mut state = seed;
        let mut value = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Any finite bit pattern: the highest bit of the exponent is cleared.
            f32::from_bits(state & 0xBFFF_FFFF)
        };
        let tensors: BTreeMap<String, LoraPair> = (0..layers)
            .map(|layer| {
                let a = (0..rank * in_features).map(|_| value()).collect();
                let b = (0..out_features * rank).map(|_| value()).collect();
                let pair = LoraPair { rank, in_features, out_features, a, b, magnitude: None };
                (format!("model.layers.{layer}.mlp.up_proj"), pair)
            })
            .collect();
        let parent = tempfile::tempdir()?;
        let folder = parent.path().join("adapter");
        write_peft(&folder, &config, &tensors, false)?;
        let (read_config, read_tensors) = read_peft(&folder)?;
        prop_assert_eq!(read_config, config);
        prop_assert_eq!(read_tensors, tensors);
    }
}

#[test]
fn folded_patterns_leave_every_update_as_it_was() {
    let values =
        |len: usize, seed: usize| -> Vec<f32> { (0..len).map(|i| ((i * 37 + seed) % 29) as f32 / 8.0 - 1.5).collect() };
    let pair = |rank, seed| LoraPair {
        rank,
        in_features: 5,
        out_features: 3,
        a: values(rank * 5, seed),
        b: values(3 * rank, seed + 7),
        magnitude: None,
    };
    let tensors =
        BTreeMap::from([("layers.0.q_proj".to_owned(), pair(2, 1)), ("layers.0.v_proj".to_owned(), pair(4, 2))]);
    let mut config = AdapterConfig::new(&LoraConfig { rank: 2, alpha: 8.0, ..LoraConfig::default() }, "base", None);
    config.use_rslora = true;
    config.rank_pattern.insert("v_proj".into(), 4);
    config.alpha_pattern.insert("v_proj".into(), 3.0);
    let (folded, folded_tensors) = fold_patterns(&config, &tensors).expect("the patterns agree");
    assert_eq!((folded.r, folded.use_rslora, folded.rank_pattern.len(), folded.alpha_pattern.len()), (4, false, 0, 0));
    let update = |config: &AdapterConfig, tensors: &BTreeMap<String, LoraPair>, module: &str| -> Vec<f64> {
        let (pair, scale) = (&tensors[module], config.scaling(module).expect("a scale"));
        let product = |row: usize, column: usize| -> f64 {
            let terms =
                (0..pair.rank).map(|k| f64::from(pair.b[row * pair.rank + k]) * f64::from(pair.a[k * 5 + column]));
            scale * terms.sum::<f64>()
        };
        (0..15).map(|i| product(i / 5, i % 5)).collect()
    };
    for module in tensors.keys() {
        let (before, after) = (update(&config, &tensors, module), update(&folded, &folded_tensors, module));
        for (before, after) in before.iter().zip(after) {
            assert!((before - after).abs() < 1e-5, "{module}: {before} and {after}");
        }
    }
}
