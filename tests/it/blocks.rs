//! A base in blocks: the same run as on the numbers that the blocks stand for, in less memory.

use std::fs;
use std::path::{Path, PathBuf};

use adapters::{GgmlType, GgufFile, Weight};
use trainer::model::BaseModel;
use trainer::model::merged::Merged;
use trainer::recipe::{ModelConfig, WeightType};

use crate::support::{base, device, fixture, greffon, tiny_recipe};

/// The tiny model as a GGUF file whose matrices are in blocks.
fn quantised(folder: &Path, ggml_type: GgmlType) -> PathBuf {
    let path = folder.join(format!("{ggml_type}.gguf"));
    Merged::new(&base("tiny-llama.gguf")).unwrap().write_gguf(&path, ggml_type, true).unwrap();
    path
}

fn open(path: &Path, dtype: WeightType) -> Result<trainer::model::Decoder, trainer::TrainError> {
    let model = ModelConfig { dtype, ..ModelConfig::new(path.to_str().unwrap()) };
    BaseModel::open(&model, None, &datasets::Hub::from_env()).unwrap().decoder(&device())
}

#[test]
fn training_on_blocks_gives_the_bytes_of_training_on_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for ggml_type in [GgmlType::Q8_0, GgmlType::Q4_0] {
        let model = format!("model.base={}", quantised(folder.path(), ggml_type).display());
        let run = |method: &str, dtype: &str| {
            let output = folder.path().join(dtype);
            let (dtype, place) = (format!("model.dtype={dtype}"), format!("output={}", output.display()));
            let set = [&model, method, "train.max_steps=4", &dtype, &place];
            let recipe = tiny_recipe(folder.path(), &set.map(|s: &str| s));
            let done = greffon(&["train", &recipe, "--force"]);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            fs::read(output.join("adapter/adapter_model.safetensors")).unwrap()
        };
        for method in ["lora.use_dora=false", "lora.use_dora=true", "lora.targets=[q_proj, embed_tokens, lm_head]"] {
            assert!(run(method, "stored") == run(method, "f32"), "{ggml_type}, {method}: other bytes");
        }
    }
}

#[test]
fn principal_parts_are_taken_out_of_numbers_and_not_of_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("model.base={}", quantised(folder.path(), GgmlType::Q8_0).display());
    let train = |more: &str| {
        let set = [&model, "lora.init=pissa", "train.max_steps=1", more];
        greffon(&["train", &tiny_recipe(folder.path(), &set), "--force"])
    };
    let refused = train("model.dtype=stored");
    let said = String::from_utf8_lossy(&refused.stderr).replace('\n', " ");
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("lora.init is pissa on model.layers.0.self_attn.q_proj, which is kept in blocks"), "{said}");
    assert!(said.contains("model.dtype: f32"), "{said}");
    let done = train("model.dtype=f32");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn blocks_stay_blocks_unless_the_recipe_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = quantised(folder.path(), GgmlType::Q4_0);
    let is_blocks = |weight: &Weight| matches!(weight, Weight::Blocks(_));
    let stored = open(&path, WeightType::Stored).unwrap();
    assert!(stored.linears().all(|(_, linear)| is_blocks(&linear.weight)));
    assert!(is_blocks(&stored.embed_tokens) && is_blocks(stored.head()));
    let dense = open(&path, WeightType::F32).unwrap();
    assert!(dense.linears().all(|(_, linear)| !is_blocks(&linear.weight)) && !is_blocks(&dense.embed_tokens));
}

#[test]
fn nf4_is_made_of_numbers_and_not_of_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&quantised(folder.path(), GgmlType::Q4_0), WeightType::Nf4).unwrap_err().to_string();
    assert!(error.contains("q_proj.weight is stored in Q4_0 blocks, and nf4 is made from a floating-point"), "{error}");
    // The MLP's rows of 160 numbers are not whole blocks of 64.
    let error = open(&fixture("tiny-llama"), WeightType::Nf4).unwrap_err().to_string();
    assert!(error.contains("down_proj.weight are 160 long, and nf4 needs multiples of 64"), "{error}");
}

/// A number that is not finite is found wherever it lies.
#[test]
fn a_scale_that_is_not_a_number_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = quantised(folder.path(), GgmlType::Q8_0);
    let file = GgufFile::open(&path).unwrap();
    let bytes = file.bytes("blk.1.ffn_up.weight").unwrap();
    let mut all = fs::read(&path).unwrap();
    let start = all.windows(bytes.len()).position(|window| window == bytes).unwrap();
    // The scale of the second block of the first row: infinity in half precision.
    all[start + 34..][..2].copy_from_slice(&[0x00, 0x7c]);
    fs::write(&path, all).unwrap();
    let error = open(&path, WeightType::Stored).unwrap_err().to_string();
    assert!(error.contains("model.layers.1.mlp.up_proj.weight holds"), "{error}");
}
