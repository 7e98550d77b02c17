//! The reader against gguf-py's files and numbers (`scripts/make_gguf_fixtures.py`), and against hostile files.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use safetensors::SafeTensors;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/gguf").join(name)
}

fn blocks() -> GgufFile {
    GgufFile::open(fixture("blocks.gguf")).expect("the fixture is well formed")
}

/// Name, shape and values of the tensors that gguf-py and numpy computed.
fn expected() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(fixture("expected.safetensors")).expect("the fixture is there");
    let tensors = SafeTensors::deserialize(&bytes).expect("the fixture is well formed");
    tensors
        .iter()
        .map(|(name, view)| {
            let values = view.data().as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
            (name.to_owned(), (view.shape().to_vec(), values))
        })
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_supported_type_dequantizes_bit_for_bit_as_gguf_py() {
    let (file, expected) = (blocks(), expected());
    for ggml_type in SUPPORTED {
        let name = ggml_type.name();
        let (shape, values) = &expected[name];
        let tensor = file.tensor(name).expect("one tensor of each type");
        assert_eq!((tensor.ggml_type, &tensor.shape), (ggml_type, shape));
        assert_eq!(bits(&file.dequantize(name).expect("supported")), bits(values), "{name}");
    }
}

#[test]
fn values_become_the_bytes_that_gguf_py_makes_of_them() {
    let file = fs::read(fixture("quantized.safetensors")).expect("the fixture is there");
    let tensors = SafeTensors::deserialize(&file).expect("the fixture is well formed");
    let tensor = |name: &str| tensors.tensor(name).expect("the script wrote it").data();
    let numbers: Vec<f32> = tensor("numbers").as_chunks::<4>().0.iter().map(|n| f32::from_le_bytes(*n)).collect();
    for ggml_type in [GgmlType::F16, GgmlType::Bf16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q5_0] {
        assert!(quantize(ggml_type, &numbers).expect("writable") == tensor(ggml_type.name()), "{ggml_type}");
    }
}

/// The root of the mean squared difference, by the root of the mean square.
fn relative_error(ggml_type: GgmlType, values: &[f32]) -> f64 {
    let mut back = vec![0.0; values.len()];
    assert!(dequantize(ggml_type, &quantize(ggml_type, values).expect("writable"), &mut back));
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let errors = squares(&mut values.iter().zip(&back).map(|(v, b)| v - b));
    (errors / squares(&mut values.iter().copied())).sqrt()
}

#[test]
fn q4_k_loses_less_than_q4_0_and_keeps_what_it_can_represent() {
    // Bell-shaped, as weights are: the sum of four draws.
    let mut state = 1_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..256 * 64).map(|_| (0..4).map(|_| draw()).sum()).collect();
    let (q4_k, q4_0) = (relative_error(GgmlType::Q4K, &values), relative_error(GgmlType::Q4_0, &values));
    assert!(q4_k < 0.9 * q4_0 && q4_k < 0.09, "{q4_k} and {q4_0}");
    let zeros = vec![0.0; 256];
    assert!(quantize(GgmlType::Q4K, &zeros).expect("writable").iter().all(|byte| *byte == 0));
    // Sixteen levels from -15 to 0: a scale and a minimum that six bits and half precision hold.
    let levels: Vec<f32> = (0..256_u16).map(|i| f32::from(i % 16) - 15.0).collect();
    assert!(relative_error(GgmlType::Q4K, &levels) < 1e-2);
}

#[test]
fn a_row_that_is_no_whole_number_of_blocks_takes_the_next_type() {
    for (wanted, row, found) in [
        (GgmlType::Q4K, 1536, GgmlType::Q4K),
        (GgmlType::Q4K, 576, GgmlType::Q5_0),
        (GgmlType::Q4K, 16, GgmlType::F16),
        (GgmlType::Q8_0, 576, GgmlType::Q8_0),
        (GgmlType::Q8_0, 16, GgmlType::F16),
        (GgmlType::F32, 7, GgmlType::F32),
    ] {
        assert_eq!(type_of_rows(wanted, row), found, "{wanted} in rows of {row}");
    }
}

#[test]
fn types_outside_the_list_are_refused_by_name() {
    let error = blocks().dequantize("Q2_K").expect_err("not supported").to_string();
    assert!(
        error.ends_with(
            "blocks.gguf: tensor `Q2_K` is of type Q2_K, which is not supported; supported are F32, F16, BF16, Q8_0, \
             Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K"
        ),
        "{error}"
    );
    for ggml_type in GgmlType::all() {
        let (bytes, mut out) = (vec![0; ggml_type.block_bytes()], vec![1.0; ggml_type.block_size()]);
        let supported = SUPPORTED.contains(&ggml_type);
        assert_eq!(dequantize(ggml_type, &bytes, &mut out), supported, "{ggml_type}");
        assert!(out.iter().all(|value| (*value == 0.0) == supported), "{ggml_type}");
    }
}

#[test]
fn rows_of_q_and_k_are_unpermuted_as_numpy_does() {
    let expected = expected();
    let (shape, hugging_face) = &expected["rows.hugging_face"];
    let (_, llama_cpp) = &expected["rows.llama_cpp.3_heads"];
    assert_eq!(&unpermute(llama_cpp, shape[0], shape[1], 3).expect("three heads of eight"), hugging_face);
    assert_eq!(&permute(hugging_face, shape[0], shape[1], 3).expect("three heads of eight"), llama_cpp);
}

#[test]
fn metadata_of_every_type_is_read() {
    let file = blocks();
    let nested = GgufArray::Array(vec![GgufArray::I32(vec![1, 2]), GgufArray::I32(vec![3])]);
    for (key, value) in [
        ("test.u8", GgufValue::U8(200)),
        ("test.i8", GgufValue::I8(-100)),
        ("test.u16", GgufValue::U16(60000)),
        ("test.i16", GgufValue::I16(-30000)),
        ("test.u32", GgufValue::U32(4_000_000_000)),
        ("test.i32", GgufValue::I32(-2_000_000_000)),
        ("test.f32", GgufValue::F32(0.1)),
        ("test.u64", GgufValue::U64(1 << 63)),
        ("test.i64", GgufValue::I64(-(1 << 62))),
        ("test.f64", GgufValue::F64(0.1)),
        ("test.bool", GgufValue::Bool(true)),
        ("test.string", GgufValue::String("déjà vu".into())),
        ("test.strings", GgufValue::Array(GgufArray::String(vec!["<s>".into(), String::new(), "Ġgreffon".into()]))),
        ("test.floats", GgufValue::Array(GgufArray::F32(vec![0.5, -1.5]))),
        ("test.ints", GgufValue::Array(GgufArray::I32(vec![3, -1, 6]))),
        ("test.bools", GgufValue::Array(GgufArray::Bool(vec![true, false]))),
        ("test.bytes", GgufValue::Array(GgufArray::U8(vec![1, 2, 255]))),
        ("test.nested", GgufValue::Array(nested)),
    ] {
        assert_eq!(file.metadata().get(key), Some(&value), "{key}");
    }
    assert_eq!(file.version(), 3);
    assert_eq!(file.str("general.architecture").expect("a string"), "llama");
    assert_eq!(file.u32("test.u32").expect("a u32"), 4_000_000_000);
    assert!(file.bool("test.bool").expect("a bool"));
    assert_eq!(file.strings("test.strings").expect("strings").len(), 3);
    assert_eq!(file.i32s("test.ints").expect("numbers"), [3, -1, 6]);
    assert_eq!(bits(file.f32s("test.floats").expect("numbers")), bits(&[0.5, -1.5]));
    assert_eq!(file.f32("test.f32").expect("an f32").to_bits(), 0.1_f32.to_bits());
}

#[test]
fn a_wrong_key_a_wrong_type_and_a_wrong_tensor_are_named() {
    let file = blocks();
    let message = |error: AdapterError| error.to_string();
    let missing = message(file.u32("llama.block_count").expect_err("absent"));
    assert!(missing.ends_with("blocks.gguf: metadata key `llama.block_count` is missing"), "{missing}");
    let wrong = message(file.u32("test.strings").expect_err("an array"));
    assert!(wrong.ends_with("`test.strings` is of type array of string, expected u32"), "{wrong}");
    let wrong = message(file.strings("test.u8").expect_err("a number"));
    assert!(wrong.ends_with("`test.u8` is of type u8, expected array of string"), "{wrong}");
    let absent = message(file.bytes("Q4_k").expect_err("absent"));
    assert!(absent.contains("no tensor `Q4_k` among the 12 it holds; did you mean `Q4_"), "{absent}");
    let length = message(file.dequantize_into("F32", &mut [0.0; 3]).expect_err("too short"));
    assert!(length.contains("tensor `F32`: holds 1536 values of shape [3, 512], expected 3"), "{length}");
}

/// A small file of our own, for changing one thing at a time.
fn small() -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer
        .metadata("general.architecture", GgufValue::String("llama".into()))
        .metadata("strings", GgufValue::Array(GgufArray::String(vec!["a".into(), "bc".into()])))
        .metadata("nested", GgufValue::Array(GgufArray::Array(vec![GgufArray::I16(vec![1, -2])])))
        .tensor("first", &[2, 4], GgmlType::F32, vec![1; 32])
        .tensor("second", &[1, 32], GgmlType::Q8_0, vec![2; 34]);
    let mut bytes = Vec::new();
    writer.write(&mut bytes).expect("memory is not full");
    bytes
}

fn open_bytes(bytes: &[u8]) -> Result<GgufFile, AdapterError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).expect("room for a small file");
    GgufFile::open(path)
}

#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    let error = open_bytes(bytes).expect_err("must be refused").to_string();
    assert!(error.contains("model.gguf: ") && error.contains(expected), "{error}");
}

/// The place of a text in the file; tests change the bytes after it.
#[track_caller]
fn after(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the text is there") + text.len()
}

#[track_caller]
fn changed(at: usize, to: &[u8]) -> Vec<u8> {
    let mut bytes = small();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn what_the_writer_writes_comes_back() {
    let file = open_bytes(&small()).expect("well formed");
    assert_eq!(file.strings("strings").expect("strings"), ["a", "bc"]);
    assert_eq!(file.bytes("first").expect("a tensor"), [1; 32]);
    assert_eq!(file.bytes("second").expect("a tensor"), [2; 34]);
    assert_eq!(file.tensors()[1].shape, [1, 32]);

    // gguf-py's own file, written again.
    let original = blocks();
    let mut writer = GgufWriter::new();
    for (key, value) in original.metadata() {
        writer.metadata(key, value.clone());
    }
    for tensor in original.tensors() {
        let bytes = original.bytes(&tensor.name).expect("its own tensor");
        writer.tensor(&tensor.name, &tensor.shape, tensor.ggml_type, bytes);
    }
    let mut bytes = Vec::new();
    writer.write(&mut bytes).expect("memory is not full");
    let again = open_bytes(&bytes).expect("well formed");
    assert_eq!(again.metadata(), original.metadata());
    for (before, after) in original.tensors().iter().zip(again.tensors()) {
        assert_eq!((&before.name, &before.shape, before.ggml_type), (&after.name, &after.shape, after.ggml_type));
        assert_eq!(original.bytes(&before.name).expect("there"), again.bytes(&after.name).expect("there"));
    }

    let mut wrong = GgufWriter::new();
    wrong.tensor("short", &[1, 32], GgmlType::Q8_0, vec![0; 33]);
    let error = wrong.write(&mut Vec::new()).expect_err("33 bytes for 34").to_string();
    assert_eq!(error, "tensor `short`: 33 bytes do not fit the shape [1, 32] of type Q8_0");
}

#[test]
fn version_2_is_read_and_others_are_refused() {
    assert_eq!(open_bytes(&changed(4, &[2])).expect("version 2").version(), 2);
    refused(&changed(4, &[1]), "byte 4: found GGUF version 1, supported are 2 and 3");
    refused(&changed(4, &[4]), "byte 4: found GGUF version 4, supported are 2 and 3");
    refused(&changed(4, &[0, 0, 0, 3]), "byte 4: the file is big-endian");
    refused(&changed(0, b"tjgg"), "byte 0: found the magic number \"tjgg\", expected \"GGUF\"; this is an older");
    refused(b"PK\x03\x04", "byte 0: found the magic number \"PK\\x03\\x04\", expected \"GGUF\"");
    refused(b"", "is empty");
    refused(b"GGU", "byte 0: the magic number takes 4 bytes, but the file ends after 3");
    refused(b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer");
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused_without_allocating() {
    let bytes = small();
    let huge = u64::MAX.to_le_bytes();
    refused(&changed(8, &huge), "byte 8: claims 18446744073709551615 tensors, but the rest of the file has room for");
    refused(&changed(16, &huge), "byte 16: claims 18446744073709551615 metadata entries");
    refused(&changed(24, &huge), "byte 24: claims 18446744073709551615 bytes of metadata key");
    // A value is its type in four bytes, then an array's element type in four, then its length.
    let list = after(&bytes, "strings");
    refused(&changed(list + 8, &(1_u64 << 60).to_le_bytes()), "claims 1152921504606846976 elements of the array");
    refused(&changed(list + 16, &huge), "bytes of an array's string");
    refused(&changed(list, &[13]), "metadata key `strings` has the unknown value type 13, known are 0 to 12");
    let nested = after(&bytes, "nested");
    refused(&changed(nested + 20, &huge), "elements of the array `nested`");
}

#[test]
fn arrays_that_nest_too_deep_are_refused() {
    let deep = |depth: usize| {
        let mut array = GgufArray::U8(vec![7]);
        for _ in 1..depth {
            array = GgufArray::Array(vec![array]);
        }
        let mut bytes = Vec::new();
        let mut writer = GgufWriter::new();
        writer.metadata("deep", GgufValue::Array(array)).write(&mut bytes).expect("memory is not full");
        bytes
    };
    open_bytes(&deep(4)).expect("at the limit");
    refused(&deep(5), "metadata key `deep` nests arrays more than 4 deep, the limit");
    refused(&deep(1000), "nests arrays more than 4 deep");
}

#[test]
fn tensors_that_lie_about_themselves_are_refused() {
    let bytes = small();
    // After a tensor's name: number of dimensions in four bytes, the dimensions, type in four, offset in eight.
    let (first, second) = (after(&bytes, "first"), after(&bytes, "second"));
    refused(&changed(first, &[5]), "tensor `first`: has 5 dimensions, at most 4 are supported");
    refused(&changed(first + 4, &(1_u64 << 60).to_le_bytes()), "beyond the file of");
    refused(&changed(first + 4, &[0]), "tensor `first`: its dimensions [0, 2] are not possible");
    let overflow = [(1_u64 << 60).to_le_bytes(), (1_u64 << 60).to_le_bytes()].concat();
    refused(&changed(first + 4, &overflow), "tensor `first`: its dimensions [1152921504606846976, 11529215046");
    refused(&changed(first + 20, &[5]), "tensor `first`: is of the unknown tensor type 5");
    refused(&changed(second + 4, &[31]), "the first a multiple of 32 for Q8_0");
    refused(&changed(first + 24, &[64]), "overlap those of tensor");
    refused(&changed(second + 24, &[0]), "overlap those of tensor `first`");
    refused(&changed(second + 24, &[33]), "tensor `second`: its offset 33 is not a multiple of the alignment 32");
    refused(&changed(second + 24, &[0xE0, 0xFF]), "tensor `second`: its 34 bytes at offset 65504 of the data section");
    refused(&changed(second + 24, &(u64::MAX - 31).to_le_bytes()), "beyond the file of");
    // The padding after the last tensor may be missing, a byte of the tensor may not.
    let padding = bytes.len() - 30;
    open_bytes(&bytes[..padding]).expect("only padding is gone");
    refused(&bytes[..padding - 1], "tensor `second`: its 34 bytes at offset 32");
}

#[test]
fn names_that_come_twice_are_refused() {
    let mut writer = GgufWriter::new();
    writer.tensor("one", &[1], GgmlType::F32, vec![0; 4]).tensor("one", &[1], GgmlType::F32, vec![0; 4]);
    let mut bytes = Vec::new();
    writer.write(&mut bytes).expect("memory is not full");
    refused(&bytes, "tensor `one` comes twice");

    let mut writer = GgufWriter::new();
    writer.metadata("key.a", GgufValue::U8(1)).metadata("key.b", GgufValue::U8(2));
    let mut bytes = Vec::new();
    writer.write(&mut bytes).expect("memory is not full");
    let at = after(&bytes, "key.b") - 1;
    bytes[at] = b'a';
    refused(&bytes, "metadata key `key.a` comes twice");
}

#[test]
fn the_alignment_of_the_metadata_is_checked_and_used() {
    let aligned = |value: GgufValue| {
        let mut bytes = Vec::new();
        let mut writer = GgufWriter::new();
        writer.metadata("general.alignment", value).tensor("one", &[1], GgmlType::F32, vec![1; 4]).tensor(
            "two",
            &[1],
            GgmlType::F32,
            vec![2; 4],
        );
        writer.write(&mut bytes).expect("memory is not full");
        bytes
    };
    let file = open_bytes(&aligned(GgufValue::U32(256))).expect("a power of two");
    assert_eq!(file.bytes("two").expect("there"), [2; 4]);
    refused(&aligned(GgufValue::U64(32)), "metadata key `general.alignment` is of type u64, expected u32");
    for wrong in [0_u32, 48] {
        let mut bytes = aligned(GgufValue::U32(64));
        let at = after(&bytes, "general.alignment") + 4;
        bytes[at..at + 4].copy_from_slice(&wrong.to_le_bytes());
        refused(&bytes, &format!("`general.alignment` is {wrong}, expected a power of two"));
    }
}

/// Opens and reads everything; the outcome does not matter, only that there is one.
fn read_all(bytes: &[u8]) {
    // In memory first, since most damaged files go no further than this.
    if header::parse(Path::new("model.gguf"), bytes).is_ok() {
        let file = open_bytes(bytes).expect("the same bytes");
        for tensor in file.tensors() {
            let read = file.dequantize(&tensor.name);
            assert!(read.is_err() || read.is_ok_and(|values| values.len() == tensor.len()));
        }
    }
}

/// Random, but the same in every run.
fn seeded(cases: u32) -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(seeded(512))]

    #[test]
    fn a_damaged_file_never_panics(
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = small();
        for (at, to) in flips {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        read_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        read_all(&bytes);
    }

    /// Large numbers in the places of counts, lengths, dimensions and offsets.
    #[test]
    fn a_large_number_anywhere_never_panics(at in any::<prop::sample::Index>(), shift in 0_u32..64) {
        let mut bytes = small();
        let at = at.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&(u64::MAX >> shift).to_le_bytes());
        read_all(&bytes);
    }

    #[test]
    fn metadata_and_tensors_survive_a_round_trip(
        strings in prop::collection::vec(".*", 0..4),
        numbers in prop::collection::vec(any::<i64>(), 0..4),
        values in prop::collection::vec(any::<u32>(), 1..40),
    ) {
        let mut writer = GgufWriter::new();
        let strings = GgufValue::Array(GgufArray::String(strings));
        let numbers = GgufValue::Array(GgufArray::I64(numbers));
        let tensor: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer
            .metadata("strings", strings.clone())
            .metadata("numbers", numbers.clone())
            .tensor("values", &[values.len()], GgmlType::F32, tensor);
        let mut bytes = Vec::new();
        writer.write(&mut bytes)?;
        let file = open_bytes(&bytes)?;
        prop_assert_eq!(file.metadata().get("strings"), Some(&strings));
        prop_assert_eq!(file.metadata().get("numbers"), Some(&numbers));
        prop_assert_eq!(bits(&file.dequantize("values")?), values);
    }
}
