//! What several tests need: the fixtures, and comparisons that name the worst place.

use std::path::{Path, PathBuf};

use datasets::{Example, Origin};
use safetensors::SafeTensors;
use serde_json::Value;
use trainer::model::BaseModel;
use trainer::recipe::ModelConfig;

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub(crate) fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(name)).expect("the fixture is committed");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

/// A base model among the fixtures.
pub(crate) fn base(name: &str) -> BaseModel {
    let path = fixture(name);
    let model = ModelConfig { base: path.to_str().expect("plain path").to_owned(), revision: None, adapter: None };
    BaseModel::open(&model, None).expect("the fixture opens")
}

/// The f32 tensors of a safetensors file.
pub(crate) struct Tensors(Vec<u8>);

impl Tensors {
    pub(crate) fn open(name: &str) -> Self {
        Self(std::fs::read(fixture(name)).expect("the fixture is committed"))
    }

    pub(crate) fn get(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).expect("the fixture is safetensors");
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("the fixture has no tensor {name}"));
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

/// Fails with the worst element when two vectors differ by more than `tolerance`.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let worst = (0..got.len()).max_by(|&i, &j| distance(got[i], expected[i]).total_cmp(&distance(got[j], expected[j])));
    if let Some(i) = worst {
        let difference = distance(got[i], expected[i]);
        assert!(difference <= tolerance, "{what}[{i}]: got {}, expected {}, off by {difference}", got[i], expected[i]);
    }
}

fn distance(a: f32, b: f32) -> f32 {
    let difference = (a - b).abs();
    if difference.is_nan() { f32::INFINITY } else { difference }
}

#[track_caller]
pub(crate) fn assert_near(what: &str, got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{what}: got {got}, expected {expected}");
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| u32::try_from(id.as_u64().expect("an id")).expect("a small id")).collect()
}

pub(crate) fn mask(value: &Value) -> Vec<bool> {
    ids(value).into_iter().map(|bit| bit != 0).collect()
}

/// The sequences of the parity fixture.
pub(crate) fn parity_examples() -> Vec<Example> {
    let parity = json("parity/parity.json");
    let sequences = parity["sequences"].as_array().expect("sequences");
    sequences
        .iter()
        .enumerate()
        .map(|(index, sequence)| Example {
            input_ids: ids(&sequence["input_ids"]),
            loss_mask: mask(&sequence["loss_mask"]),
            origin: Origin { path: Path::new("parity.json").into(), line: index + 1 },
        })
        .collect()
}
