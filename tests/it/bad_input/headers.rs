//! Weight files whose headers are cut or lie: refused at once, whatever sizes they claim.
//!
//! Each runs under a limit of memory, in which the sound file trains: who believed a claim would not end with a clear
//! error.

use std::fs;

use super::{Case, assert_error, assert_same_files, files, greffon_with_limits};

/// One gibibyte of address space, one thread so that their number does not count.
#[track_caller]
fn train(case: &Case) -> std::process::Output {
    let mut command = greffon_with_limits(&["-v 1048576"], &["train", &case.recipe]);
    command.env("RAYON_NUM_THREADS", "1").output().expect("bash starts")
}

#[track_caller]
fn refused(case: &Case, words: &[&str]) {
    let before = files(case.folder.path());
    assert_error(&train(case), 2, words);
    assert_same_files(&files(case.folder.path()), &before);
}

#[test]
fn sound_files_train_within_the_limit() {
    for name in ["tiny-llama", "tiny-llama.gguf"] {
        let out = train(&Case::with_own_base(name));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

/// A safetensors file: header, then `data` zeros.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn a_cut_safetensors_file_is_refused_wherever_it_is_cut() {
    let case = Case::with_own_base("tiny-llama");
    let whole = fs::read(case.path("base/model.safetensors")).expect("the base");
    for (length, word) in
        [(0, "is empty"), (5, "ends after 5 bytes"), (100, "truncated"), (whole.len() - 1, "truncated")]
    {
        case.write("base/model.safetensors", &whole[..length]);
        refused(&case, &["base/model.safetensors", word]);
    }
}

#[test]
fn a_lying_safetensors_header_is_refused_with_the_tensor() {
    let case = Case::with_own_base("tiny-llama");
    let file = "base/model.safetensors: ";
    for (bytes, words) in [
        // A header of 2^63 bytes, and of nearly as many as there are.
        ((1_u64 << 63).to_le_bytes().to_vec(), ["claims a header of 9223372036854775808 bytes", "truncated"]),
        (safetensors("{not json", 0), ["byte 8", "not the JSON"]),
        // A shape of 2^60 elements, with offsets that agree and with offsets that do not.
        (
            safetensors(
                r#"{"a.weight":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}"#,
                64,
            ),
            ["tensor `a.weight`", "do not lie in the 64 bytes of data"],
        ),
        (
            safetensors(r#"{"a.weight":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,64]}}"#, 64),
            ["tensor `a.weight`", "shape [1152921504606846976] of type F32 does not fit its 64 bytes"],
        ),
        // A product of dimensions that wraps around to the right size.
        (
            safetensors(r#"{"a.weight":{"dtype":"F32","shape":[4294967296,4294967296,1],"data_offsets":[0,0]}}"#, 0),
            ["tensor `a.weight`", "does not fit its 0 bytes"],
        ),
        (
            safetensors(r#"{"a.weight":{"dtype":"F32","shape":[4],"data_offsets":[18446744073709551608,8]}}"#, 64),
            ["tensor `a.weight`", "do not lie in the 64 bytes of data"],
        ),
        // Two tensors in the same bytes.
        (
            safetensors(
                r#"{"a.weight":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"b.weight":{"dtype":"F32","shape":[8],"data_offsets":[16,48]}}"#,
                48,
            ),
            ["tensor `b.weight`", "overlaps and gaps are not allowed"],
        ),
        (
            safetensors(r#"{"a.weight":{"dtype":"F99","shape":[8],"data_offsets":[0,32]}}"#, 32),
            ["tensor `a.weight`", "F99"],
        ),
    ] {
        case.write("base/model.safetensors", bytes);
        refused(&case, &[file, words[0], words[1]]);
    }
}

/// The bytes of the GGUF fixture, and where a tensor's dimensions, type and offset stand.
struct Gguf {
    bytes: Vec<u8>,
    dims: usize,
    n_dims: usize,
}

impl Gguf {
    fn of(case: &Case, tensor: &str) -> Self {
        let bytes = fs::read(case.path("base.gguf")).expect("the base");
        let mut name = (tensor.len() as u64).to_le_bytes().to_vec();
        name.extend(tensor.as_bytes());
        let at = bytes.windows(name.len()).position(|window| window == name).expect("the tensor's name");
        let n_dims = at + name.len();
        let count = u32::from_le_bytes(bytes[n_dims..n_dims + 4].try_into().unwrap());
        assert_eq!(count, 2, "a matrix");
        Self { bytes, n_dims, dims: n_dims + 4 }
    }

    fn with(mut self, at: usize, value: &[u8]) -> Vec<u8> {
        self.bytes[at..at + value.len()].copy_from_slice(value);
        self.bytes
    }
}

#[test]
fn a_cut_gguf_file_is_refused_wherever_it_is_cut() {
    let case = Case::with_own_base("tiny-llama.gguf");
    let whole = fs::read(case.path("base.gguf")).expect("the base");
    for length in [0, 3, 20, 1000, whole.len() / 2, whole.len() - 1] {
        case.write("base.gguf", &whole[..length]);
        refused(&case, &["base.gguf"]);
    }
    case.write("base.gguf", b"PK\x03\x04 something else altogether");
    refused(&case, &["base.gguf", "magic number", "expected \"GGUF\""]);
}

#[test]
fn a_lying_gguf_header_is_refused_with_place_or_tensor() {
    let case = Case::with_own_base("tiny-llama.gguf");
    let q_proj = "blk.1.attn_q.weight";
    let new = || Gguf::of(&case, q_proj);
    let (dims, n_dims) = (new().dims, new().n_dims);
    let (tensor, huge) = (format!("tensor `{q_proj}`"), (1_u64 << 60).to_le_bytes());
    for (bytes, words) in [
        // Counts of tensors and of metadata entries, and the length of the first key.
        (new().with(8, &huge), ["byte 8", "claims 1152921504606846976 tensors"]),
        (new().with(16, &huge), ["byte 16", "claims 1152921504606846976 metadata entries"]),
        (new().with(24, &huge), ["byte 24", "claims 1152921504606846976 bytes"]),
        (new().with(4, &99_u32.to_le_bytes()), ["byte 4", "found GGUF version 99"]),
        // 2^60 elements: 2^54 rows of 64.
        (new().with(dims + 8, &(1_u64 << 54).to_le_bytes()), [&tensor, "beyond the file"]),
        (new().with(dims, &huge), [&tensor, "its dimensions [1152921504606846976, 64] are not possible"]),
        (new().with(n_dims, &1_000_000_u32.to_le_bytes()), [&tensor, "has 1000000 dimensions"]),
        (new().with(dims + 16, &77_u32.to_le_bytes()), [&tensor, "unknown tensor type 77"]),
        (new().with(dims + 20, &(1_u64 << 40).to_le_bytes()), [&tensor, "beyond the file"]),
        (new().with(dims + 20, &7_u64.to_le_bytes()), [&tensor, "not a multiple of the alignment"]),
        // On top of the first tensor.
        (new().with(dims + 20, &0_u64.to_le_bytes()), ["overlap those of tensor", q_proj]),
    ] {
        case.write("base.gguf", bytes);
        refused(&case, &["base.gguf: ", words[0], words[1]]);
    }
}

#[test]
fn a_lying_adapter_header_is_refused_with_the_tensor() {
    let case = Case::new(&[]);
    let adapter = case.path("adapter");
    fs::create_dir(&adapter).expect("a folder");
    let fixture = crate::support::fixture("parity/adapter_init");
    fs::copy(fixture.join("adapter_config.json"), adapter.join("adapter_config.json")).expect("a copy");
    let header = r#"{"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight":{"dtype":"F32","shape":[1152921504606846976,64],"data_offsets":[0,64]}}"#;
    case.write("adapter/adapter_model.safetensors", safetensors(header, 64));
    case.edit("recipe.yaml", "  adapter: null", &format!("  adapter: {}", adapter.display()));
    refused(&case, &["adapter_model.safetensors: tensor `base_model.model.", "does not fit its 64 bytes"]);
}
