//! Every export of a real run is proved in real servers by `greffon verify --prove`, and a broken one is not.
//!
//! For each model: the GGUF adapter in llama.cpp's server, on the base in float32 and on the quantised base as it is
//! served; the merged GGUF file there; the PEFT folder and the merged folder in transformers. One server takes all the
//! adapters of a base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use adapters::export::gguf_lora::{GgufBase, write_gguf_lora};
use adapters::export::merged::MergedForm;
use adapters::export::safetensors::FloatType;
use adapters::{AdapterConfig, GgmlType, LoraPair};
use serde_json::Value;
use trainer::model::BaseModel;
use trainer::model::merged::Merged;

use super::servers::Server;
use super::{export, open, trained, variable};
use crate::support::greffon;

/// What may be left between float32 in two programs; llama.cpp keeps keys and values in 16 bits.
const LIMIT: f64 = 0.01;

/// The same between our float32 and PyTorch's.
const TORCH_LIMIT: f64 = 0.0005;

/// A real model, and how far its quantised file may be off in llama.cpp, which rounds activations to 8 bits there.
struct Real {
    path: PathBuf,
    template: Option<PathBuf>,
    quantised_limit: f64,
    f16_limit: f64,
    q8_0_limit: f64,
}

/// What the proofs of one model have in common.
struct Case {
    folder: tempfile::TempDir,
    model: PathBuf,
    peft: PathBuf,
}

impl Case {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the verb and gives its exit code and report.
    #[expect(clippy::print_stdout, reason = "the figures, for whoever runs it with --nocapture")]
    fn run(&self, export: &Path, adapter: Option<&Path>, server: &Server, limit: f64) -> (i32, Value) {
        let (limit, export_path) = (limit.to_string(), export.to_str().unwrap());
        let mut arguments = vec!["verify", export_path, "--prove", "--json", "--limit", &limit];
        arguments.extend(["--model", self.model.to_str().unwrap(), "--server", &server.address]);
        if let Some(adapter) = adapter {
            arguments.extend(["--adapter", adapter.to_str().unwrap()]);
        }
        let out = greffon(&arguments);
        let code = out.status.code().expect("it ends by itself");
        assert!(matches!(code, 0 | 3), "{}", String::from_utf8_lossy(&out.stderr));
        let report: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        println!(
            "{} in {} {}: on {} off {} effect {}",
            export.file_name().unwrap().display(),
            report["server"]["kind"],
            report["server"]["model"].as_str().unwrap().rsplit('/').next().unwrap(),
            report["on"],
            report["off"],
            report["effect"]
        );
        assert_eq!(report["proved"], code == 0);
        (code, report)
    }

    /// The export is proved, and every first token is the trainer's.
    fn proves(&self, export: &Path, adapter: Option<&Path>, server: &Server, limit: f64) {
        let (code, report) = self.run(export, adapter, server, limit);
        assert_eq!(code, 0, "{}: {}", export.display(), report["reasons"]);
        for agreement in [&report["on"], &report["off"]].into_iter().filter(|a| !a.is_null()) {
            assert_eq!(agreement["same_first"], report["prompts"], "{}", export.display());
        }
    }

    /// The export is not proved.
    fn refutes(&self, export: &Path, adapter: Option<&Path>, server: &Server, limit: f64) {
        let (code, report) = self.run(export, adapter, server, limit);
        assert_eq!(code, 3, "{}: nothing was noticed", export.display());
        assert!(!report["reasons"].as_array().unwrap().is_empty());
    }
}

/// Adapters that are wrong in one thing each, as GGUF files.
fn broken(case: &Case, config: &AdapterConfig, pairs: &BTreeMap<String, LoraPair>, own: &GgufBase) -> Vec<PathBuf> {
    // Where rows are permuted, they are left; where not, they are permuted.
    let interleaved_heads = if own.interleaved_heads.is_some() { None } else { Some([4, 1]) };
    let permutation = GgufBase { interleaved_heads, ..own.clone() };
    let cases = [
        ("broken-rows.gguf", config.clone(), permutation),
        ("broken-rslora.gguf", AdapterConfig { use_rslora: true, ..config.clone() }, own.clone()),
        ("broken-alpha.gguf", AdapterConfig { lora_alpha: 2.0 * config.lora_alpha, ..config.clone() }, own.clone()),
    ];
    let write = |(name, config, base): (&str, AdapterConfig, GgufBase)| {
        let path = case.path(name);
        write_gguf_lora(&path, &config, pairs, &base, GgmlType::F32, false).unwrap();
        path
    };
    cases.into_iter().map(write).collect()
}

/// The base in float32, which shows what four bits would hide: as a GGUF file and as a folder.
fn float32_base(case: &Case, base: &BaseModel) -> (PathBuf, PathBuf) {
    let (gguf, folder) = (case.path("base-f32.gguf"), case.path("base-f32"));
    let model = Merged::new(base).unwrap();
    model.write_gguf(&gguf, GgmlType::F32, false).unwrap();
    let form = MergedForm { float: FloatType::F32, max_shard_size: 5_000_000_000 };
    model.write_folder(&folder, form, false).unwrap();
    (gguf, folder)
}

/// `greffon merge` in float32.
fn merge(case: &Case, form: &str, to: &Path) {
    let [model, adapter, to] = [case.model.as_path(), &case.peft, to].map(|path| path.to_str().unwrap());
    let arguments = ["merge", "--model", model, "--adapter", adapter, "--as", form, "--type", "f32", "--to", to];
    let merge = greffon(&arguments);
    assert!(merge.status.success(), "{}", String::from_utf8_lossy(&merge.stderr));
}

/// Two servers at a time would share the processors, and each wait for the other.
static ALONE: Mutex<()> = Mutex::new(());

fn every_export_is_proved(real: &Real) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path(), &real.path, real.template.as_deref());
    let peft = folder.path().join("adapter");
    export(&run, &peft, &[]);
    let case = Case { folder, model: real.path.clone(), peft };
    let peft = Some(case.peft.as_path());
    let base = open(&real.path);
    let (config, pairs) = adapters::read_peft(&case.peft).unwrap();
    let (base_gguf, base_folder) = float32_base(&case, &base);

    // The same matrices with the rank-stabilised scale are another adapter, and as good.
    let (rslora, rslora_gguf) = (case.path("rslora"), case.path("rslora.gguf"));
    let rslora_config = AdapterConfig { use_rslora: true, lora_alpha: config.lora_alpha / 2.0, ..config.clone() };
    adapters::write_peft(&rslora, &rslora_config, &pairs, false).unwrap();
    write_gguf_lora(&rslora_gguf, &rslora_config, &pairs, &base.gguf(), GgmlType::F32, false).unwrap();

    let adapter = |number_type: &str| {
        let path = case.path(&format!("adapter-{number_type}.gguf"));
        export(&run, &path, &["--as", "gguf-lora", "--type", number_type]);
        path
    };
    let (f32, f16, q8_0) = (adapter("f32"), adapter("f16"), adapter("q8_0"));
    let broken = broken(&case, &config, &pairs, &base.gguf());
    let mut all = vec![f32.as_path(), &f16, &q8_0, &rslora_gguf];
    all.extend(broken.iter().map(PathBuf::as_path));

    let server = Server::llama_cpp(&base_gguf, &all);
    case.proves(&f32, peft, &server, LIMIT);
    case.proves(&rslora_gguf, Some(&rslora), &server, LIMIT);
    case.proves(&f16, peft, &server, real.f16_limit);
    case.proves(&q8_0, peft, &server, real.q8_0_limit);
    for path in &broken {
        case.refutes(path, peft, &server, LIMIT);
    }
    // With another adapter than the trainer's, it is not proved either.
    case.refutes(&f32, Some(&rslora), &server, LIMIT);
    drop(server);
    proof_is_told_until_the_file_changes(&f32, &rslora_gguf);

    // As it is served: llama.cpp rounds activations to 8 bits before it multiplies them with blocks, and the trainer
    // does not, so that first tokens may differ within the limit.
    let server = Server::llama_cpp(&real.path, &[&f32]);
    let (code, report) = case.run(&f32, peft, &server, real.quantised_limit);
    assert_eq!(code, 0, "{}", report["reasons"]);
    drop(server);

    let merged_gguf = case.path("merged-f32.gguf");
    merge(&case, "gguf", &merged_gguf);
    let server = Server::llama_cpp(&merged_gguf, &[]);
    case.proves(&merged_gguf, peft, &server, LIMIT);
    // Merged, it is no longer the base.
    case.refutes(&merged_gguf, None, &server, LIMIT);
    drop(server);

    let server = Server::transformers(&base_folder, &[("adapter", &case.peft), ("rslora", &rslora)]);
    case.proves(&case.peft, None, &server, TORCH_LIMIT);
    case.proves(&rslora, None, &server, TORCH_LIMIT);
    case.refutes(&case.peft, Some(&rslora), &server, TORCH_LIMIT);
    drop(server);

    let merged_folder = case.path("merged");
    merge(&case, "safetensors", &merged_folder);
    let server = Server::transformers(&merged_folder, &[]);
    case.proves(&merged_folder, peft, &server, TORCH_LIMIT);
    case.refutes(&merged_folder, None, &server, TORCH_LIMIT);
}

/// `greffon verify` tells a proof, and that it no longer holds once the file is another.
fn proof_is_told_until_the_file_changes(proved: &Path, other: &Path) {
    let told = || {
        let out = greffon(&["verify", proved.to_str().unwrap(), "--json"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<Value>(&out.stdout).expect("JSON")["proofs"].clone()
    };
    // The last one failed on purpose, against another adapter.
    assert_eq!((&told()[0]["proof"]["proved"], &told()[0]["outdated"]), (&Value::Bool(false), &Value::Null));
    let kept = std::fs::read(proved).unwrap();
    std::fs::copy(other, proved).unwrap();
    assert_eq!(told()[0]["outdated"], "the files have changed since");
    std::fs::write(proved, kept).unwrap();
    assert_eq!(told()[0]["outdated"], Value::Null);
}

#[test]
fn every_export_of_smollm2_is_proved() {
    every_export_is_proved(&Real {
        path: variable("GREFFON_SMOLLM2"),
        template: None,
        quantised_limit: 0.15,
        f16_limit: LIMIT,
        q8_0_limit: 2.0 * LIMIT,
    });
}

#[test]
fn every_export_of_gemma3_is_proved() {
    every_export_is_proved(&Real {
        path: variable("GREFFON_GEMMA3"),
        template: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/chat_templates/gemma.jinja")),
        quantised_limit: 0.2,
        f16_limit: LIMIT,
        q8_0_limit: 2.0 * LIMIT,
    });
}
