//! `greffon import`: adapters of other tools become PEFT folders that every other verb takes.
//!
//! The adapters were written by PEFT (`scripts/fixtures/parity.py`, `methods.py`, `families.py`).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use adapters::export::gguf_lora::write_gguf_lora;
use adapters::{AdapterConfig, GgmlType, LoraPair};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{base, fixture, greffon};

type Adapter = (AdapterConfig, BTreeMap<String, LoraPair>);

fn text(path: &Path) -> &str {
    path.to_str().expect("plain path")
}

/// Runs the program, which must succeed, and gives what it said on both streams.
#[track_caller]
fn done(arguments: &[&str]) -> (String, String) {
    let out = greffon(arguments);
    let [said, told] = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    assert!(out.status.success(), "{arguments:?}: {told}");
    (said, told)
}

#[track_caller]
fn refused(arguments: &[&str], expected: &[&str]) {
    let out = greffon(arguments);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{arguments:?}: {said}");
    for part in expected {
        assert!(said.contains(part), "{said} does not say {part}");
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn read(path: &Path) -> Adapter {
    adapters::read_peft(path).expect("a PEFT folder")
}

/// Writes a fixture's adapter as a GGUF file for `tiny-llama`.
fn gguf(path: &Path, adapter: &Adapter, ggml_type: GgmlType) {
    write_gguf_lora(path, &adapter.0, &adapter.1, &base("tiny-llama").gguf(), ggml_type, false).expect("it fits");
}

/// `scaling · B A` of a module.
fn update(adapter: &Adapter, module: &str) -> Vec<f64> {
    let (pair, scaling) = (&adapter.1[module], adapter.0.scaling(module).expect("a scale"));
    let cell = |at: usize| -> f64 {
        let (row, column) = (at / pair.in_features, at % pair.in_features);
        let term = |k| f64::from(pair.b[row * pair.rank + k]) * f64::from(pair.a[k * pair.in_features + column]);
        scaling * (0..pair.rank).map(term).sum::<f64>()
    };
    (0..pair.in_features * pair.out_features).map(cell).collect()
}

#[test]
fn a_gguf_adapter_comes_back_as_the_peft_adapter_that_it_was() {
    let folder = folder();
    let original = read(&fixture("parity/adapter_final"));
    let bases = [fixture("tiny-llama"), fixture("tiny-llama.gguf")];
    for ggml_type in [GgmlType::F32, GgmlType::F16, GgmlType::Q8_0] {
        let file = folder.path().join(format!("{ggml_type}.gguf"));
        gguf(&file, &original, ggml_type);
        for base in &bases {
            let to = folder.path().join("adapter");
            done(&["import", text(&file), "--model", text(base), "--to", text(&to), "--force"]);
            let (config, pairs) = read(&to);
            assert_eq!((config.r, config.lora_alpha), (original.0.r, original.0.lora_alpha));
            assert_eq!(config.base_model_name_or_path.as_deref(), Some(text(base)));
            assert_eq!(pairs.keys().collect::<Vec<_>>(), original.1.keys().collect::<Vec<_>>());
            for (module, own) in &original.1 {
                let pair = &pairs[module];
                assert_eq!(
                    (pair.rank, pair.in_features, pair.out_features),
                    (own.rank, own.in_features, own.out_features)
                );
                for (got, own, row) in [(&pair.a, &own.a, own.in_features), (&pair.b, &own.b, own.rank)] {
                    for (got, own) in got.chunks_exact(row).zip(own.chunks_exact(row)) {
                        let largest = own.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                        // Half a unit in the last place; Q8_0 has 127 steps to the largest of a block, by a scale in F16.
                        let allowed = |value: f32| match ggml_type {
                            GgmlType::F32 => 0.0,
                            GgmlType::Q8_0 if row.is_multiple_of(32) => largest * (0.5 / 127.0 + 1.0 / 2048.0),
                            _ => value.abs() / 2048.0 + 3e-8,
                        };
                        for (got, own) in got.iter().zip(own) {
                            assert!((got - own).abs() <= allowed(*own), "{module} {ggml_type}: {got}, expected {own}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn ranks_and_scales_of_their_own_survive_gguf() {
    let folder = folder();
    let model = fixture("tiny-llama");
    for name in ["rslora", "patterns"] {
        let original = read(&fixture(&format!("methods/{name}/adapter_final")));
        let (file, to) = (folder.path().join(format!("{name}.gguf")), folder.path().join(name));
        gguf(&file, &original, GgmlType::F32);
        done(&["import", text(&file), "--model", text(&model), "--to", text(&to)]);
        let imported = read(&to);
        for (module, own) in &original.1 {
            assert_eq!(imported.1[module].rank, own.rank, "{name} {module}");
            for (got, own) in update(&imported, module).iter().zip(update(&original, module)) {
                assert!((got - own).abs() < 1e-6, "{name} {module}: {got}, expected {own}");
            }
        }
    }
}

#[test]
fn an_imported_adapter_serves_every_verb() {
    let folder = folder();
    let (model, original) = (fixture("tiny-llama"), fixture("parity/adapter_final"));
    let (file, to, merged) =
        (folder.path().join("adapter.gguf"), folder.path().join("adapter"), folder.path().join("merged"));
    gguf(&file, &read(&original), GgmlType::F32);
    done(&["import", text(&file), "--model", text(&model), "--to", text(&to)]);
    let answer = |adapter: &[&str]| {
        let mut arguments = vec!["generate", "--model", text(&model), "--max-new-tokens", "12"];
        arguments.extend(adapter);
        arguments.push("Which colour is number 3?");
        done(&arguments).0
    };
    let expected = answer(&["--adapter", text(&original)]);
    assert_eq!(answer(&["--adapter", text(&to)]), expected);
    assert_ne!(answer(&[]), expected, "the adapter does nothing");
    assert!(done(&["verify", text(&to)]).0.contains("peft"));
    done(&["merge", "--model", text(&model), "--adapter", text(&to), "--to", text(&merged)]);
}

/// A copy of a PEFT folder with other keys, as tools wrote that saved a model's own state.
fn with_adapter_names(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    let bytes = std::fs::read(from.join("adapter_model.safetensors")).expect("the fixture");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let renamed: HashMap<String, _> =
        tensors.iter().map(|(name, view)| (name.replace(".weight", ".default.weight"), view)).collect();
    safetensors::serialize_to_file(renamed, None, &to.join("adapter_model.safetensors")).expect("written");
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(from.join("adapter_config.json")).expect("the fixture")).expect("JSON");
    config["base_model_name_or_path"] = "unsloth/tiny-bnb-4bit".into();
    config["unsloth_fixed"] = true.into();
    config["layers_to_transform"] = serde_json::json!([0, 1, 2]);
    std::fs::write(to.join("adapter_config.json"), config.to_string()).expect("written");
}

#[test]
fn a_folder_of_another_tool_is_repaired_with_a_warning() {
    let folder = folder();
    let (source, to) = (folder.path().join("source"), folder.path().join("adapter"));
    with_adapter_names(&fixture("parity/adapter_final"), &source);
    let model = fixture("tiny-llama");
    let (said, told) = done(&["import", text(&source), "--model", text(&model), "--to", text(&to), "--json"]);
    assert!(told.contains("42 keys have an adapter's name in them, which is taken out"), "{told}");
    assert!(told.contains("key `unsloth_fixed` is not known"), "{told}");
    let said: Value = serde_json::from_str(&said).expect("JSON and nothing else");
    assert_eq!((&said["form"], &said["rank"], &said["modules"]), (&"peft".into(), &4.into(), &21.into()));
    assert_eq!(said["base"], text(&model));

    let (_, expected) = read(&fixture("parity/adapter_final"));
    let (config, pairs) = read(&to);
    assert!(pairs == expected, "the matrices are others");
    assert!(config.other.is_empty(), "{:?}", config.other);
    // The layers were named, so the modules are.
    let adapters::export::peft::TargetNames::Names(targets) = &config.target_modules else { panic!("a pattern") };
    assert_eq!(targets.len(), 21);
    let (_, told) = done(&["verify", text(&to)]);
    assert_eq!(told, "", "nothing is left to warn of");

    // Without a base the adapter keeps the one that it names.
    done(&["import", text(&source), "--to", text(&to), "--force"]);
    assert_eq!(read(&to).0.base_model_name_or_path.as_deref(), Some("unsloth/tiny-bnb-4bit"));
}

#[test]
fn what_does_not_fit_the_base_is_refused() {
    let folder = folder();
    let (file, to) = (folder.path().join("adapter.gguf"), folder.path().join("adapter"));
    let original = read(&fixture("parity/adapter_final"));
    gguf(&file, &original, GgmlType::F32);
    let to_arguments = ["--to", text(&to)];
    let import = |source: &Path, model: Option<&Path>, expected: &[&str]| {
        let mut arguments = vec!["import", text(source)];
        arguments.extend(to_arguments);
        if let Some(model) = model {
            arguments.extend(["--model", text(model)]);
        }
        refused(&arguments, expected);
        assert!(!to.exists(), "nothing is written");
    };
    import(&file, None, &["adapter.gguf is a file", "name the base with --model"]);
    import(&file, Some(&fixture("families/gemma3")), &["is for the architecture llama, but the base is of gemma3"]);
    let tied = fixture("tiny-llama-tied");
    import(&fixture("parity/adapter_final"), Some(&tied), &["the base has no module model.layers.1", "another base"]);
    import(
        &fixture("tiny-llama.gguf"),
        Some(&fixture("tiny-llama")),
        &["is a model of type none, expected an adapter"],
    );
    import(&folder.path().join("absent"), None, &["there is no", "expected a PEFT folder or a GGUF adapter"]);

    let mut wide = original.clone();
    let module = "model.layers.1.mlp.down_proj";
    let pair = wide.1.get_mut(module).expect("the fixture adapts it");
    pair.in_features += 1;
    pair.a = vec![0.5; pair.rank * pair.in_features];
    let wide_folder = folder.path().join("wide");
    adapters::write_peft(&wide_folder, &wide.0, &wide.1, false).expect("sound in itself");
    let parts = [module, "in the adapter and", "in the base; the adapter belongs to another base"];
    import(&wide_folder, Some(&fixture("tiny-llama")), &parts);

    let mut broken = original.clone();
    broken.1.get_mut(module).expect("the fixture adapts it").b[5] = f32::NAN;
    let broken_file = folder.path().join("broken.gguf");
    gguf(&broken_file, &broken, GgmlType::F32);
    let parts = ["broken.gguf: tensor `blk.1.ffn_down.weight.lora_b`: is NaN at index 5, expected finite values"];
    import(&broken_file, Some(&fixture("tiny-llama")), &parts);

    let mut scaled = original;
    scaled.0.lora_alpha = f64::INFINITY;
    let scaled_file = folder.path().join("scaled.gguf");
    gguf(&scaled_file, &scaled, GgmlType::F32);
    import(&scaled_file, Some(&fixture("tiny-llama")), &["has the adapter.lora.alpha inf, expected a finite number"]);

    let bytes = std::fs::read(&file).expect("written");
    let cut = folder.path().join("cut.gguf");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).expect("written");
    import(&cut, Some(&fixture("tiny-llama")), &["cut.gguf"]);
}
