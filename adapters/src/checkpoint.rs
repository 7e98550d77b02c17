//! A base model's weights as the Hugging Face hub lays them out: one safetensors file, or shards with an index.
//!
//! [`SafetensorsFolder`] and the GGUF reader answer the same questions, so the loader in the trainer sees only
//! [`TensorSource`]. Nothing is converted until a tensor is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
pub use safetensors::Dtype;
use serde::Deserialize;

use crate::AdapterError;
use crate::file::{self, UniqueEntries};
use crate::safetensors_file::SafetensorsFile;

/// The weights when they are one file.
const SINGLE_FILE: &str = "model.safetensors";
/// The index when they are several.
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Where a model's weights come from: tensors by name, as 32-bit floats.
///
/// The names are the source's own: those of Hugging Face in a folder, those of llama.cpp in a GGUF file, where q and k
/// of the llama architecture also have their rows in another order.
pub trait TensorSource {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// The names of all tensors.
    fn names(&self) -> Vec<&str>;

    /// The row-major shape of a tensor, `[out, in]` for a linear layer.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    fn shape(&self, name: &str) -> Result<&[usize], AdapterError>;

    /// Writes the values of a tensor, row-major, into a slice of exactly their number.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`]; [`AdapterError::UnsupportedType`] when they are stored in a type without a
    /// conversion; [`AdapterError::Tensor`] when the slice has another length.
    fn read_f32_into(&self, name: &str, out: &mut [f32]) -> Result<(), AdapterError>;

    /// The values of a tensor, row-major.
    ///
    /// # Errors
    /// As [`TensorSource::read_f32_into`].
    fn read_f32(&self, name: &str) -> Result<Vec<f32>, AdapterError>;
}

/// The safetensors weights of a Hugging Face folder, mapped into memory.
#[derive(Debug)]
pub struct SafetensorsFolder {
    path: PathBuf,
    shards: Vec<SafetensorsFile>,
    /// From a tensor's name to its place in `shards`.
    shard_of: BTreeMap<String, usize>,
}

/// `model.safetensors.index.json`; its `metadata` holds nothing that is needed.
#[derive(Deserialize)]
struct Index {
    weight_map: UniqueEntries<String>,
}

impl SafetensorsFolder {
    /// Maps the weights of a folder, or one safetensors file, and checks every header.
    ///
    /// In a folder `model.safetensors` is used if there is one, else the shards of `model.safetensors.index.json`.
    /// With an index, it and the shards must agree on every tensor.
    ///
    /// # Errors
    /// [`AdapterError::Io`] when the path cannot be read, [`AdapterError::File`] when there are no safetensors
    /// weights, [`AdapterError::Json`] for a malformed index, [`AdapterError::Tensor`] when index and shards disagree,
    /// and what [`SafetensorsFile::open`] finds.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AdapterError> {
        let path = path.into();
        let is_folder = path.metadata().map_err(AdapterError::io("open", &path))?.is_dir();
        if !is_folder {
            return Self::single(path.clone(), path);
        }
        let single = path.join(SINGLE_FILE);
        if file::is_file(&single) {
            return Self::single(path, single);
        }
        let index = path.join(INDEX_FILE);
        if file::is_file(&index) {
            return Self::sharded(path, &index);
        }
        Err(no_weights(&path)?)
    }

    fn single(path: PathBuf, file: PathBuf) -> Result<Self, AdapterError> {
        let file = SafetensorsFile::open(file)?;
        let shard_of = file.names().map(|name| (name.to_owned(), 0)).collect();
        Ok(Self { path, shards: vec![file], shard_of })
    }

    fn sharded(path: PathBuf, index_path: &Path) -> Result<Self, AdapterError> {
        let index: Index = file::read_json(index_path)?;
        let weight_map: BTreeMap<String, String> = index.weight_map.0.into_iter().collect();
        let problem = |tensor: &str, problem: String| AdapterError::Tensor {
            path: index_path.into(),
            tensor: tensor.into(),
            problem,
        };
        for (tensor, shard) in &weight_map {
            if !is_plain_name(shard) {
                let reason = format!("its shard \"{shard}\" is not the plain name of a file beside the index");
                return Err(problem(tensor, reason));
            }
        }

        let mut shards = Vec::new();
        let mut shard_of = BTreeMap::new();
        for shard in weight_map.values().collect::<BTreeSet<_>>() {
            let file = SafetensorsFile::open(path.join(shard))?;
            for name in file.names() {
                match weight_map.get(name) {
                    Some(indexed) if indexed == shard => shard_of.insert(name.to_owned(), shards.len()),
                    Some(indexed) => {
                        return Err(problem(name, format!("is in {shard}, but the index says {indexed}")));
                    }
                    None => return Err(problem(name, format!("is in {shard}, but not in the index"))),
                };
            }
            shards.push(file);
        }
        if let Some((tensor, shard)) = weight_map.iter().find(|(tensor, _)| !shard_of.contains_key(*tensor)) {
            return Err(problem(tensor, format!("is not in {shard}, where the index says it is")));
        }
        Ok(Self { path, shards, shard_of })
    }

    /// How the values of a tensor are stored.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    pub fn dtype(&self, name: &str) -> Result<Dtype, AdapterError> {
        self.file_of(name)?.dtype(name)
    }

    /// The values of a tensor as [`SafetensorsFile::mapped`] gives them.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    pub fn mapped(&self, name: &str) -> Result<Bytes, AdapterError> {
        self.file_of(name)?.mapped(name)
    }

    /// The weight files, in the order of their names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.shards.iter().map(|shard| shard.path().to_owned()).collect()
    }

    fn file_of(&self, name: &str) -> Result<&SafetensorsFile, AdapterError> {
        match self.shard_of.get(name) {
            Some(shard) => Ok(&self.shards[*shard]),
            None => Err(AdapterError::tensor_missing(&self.path, name, self.names().into_iter())),
        }
    }
}

impl TensorSource for SafetensorsFolder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<&str> {
        self.shard_of.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Result<&[usize], AdapterError> {
        self.file_of(name)?.shape(name)
    }

    fn read_f32_into(&self, name: &str, out: &mut [f32]) -> Result<(), AdapterError> {
        self.file_of(name)?.f32_into(name, out)
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, AdapterError> {
        self.file_of(name)?.f32(name)
    }
}

/// Whether a shard's name stays in the folder: no `..`, no separators, nothing absolute.
///
/// Symbolic links are followed, since the hub's cache consists of them.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let plain = matches!(components.next(), Some(Component::Normal(first)) if first == name);
    plain && components.next().is_none() && !name.contains('\\')
}

/// The error for a folder without safetensors weights, with what is there instead and what to do about it.
fn no_weights(folder: &Path) -> Result<AdapterError, AdapterError> {
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(AdapterError::io("list", folder))? {
        let entry = entry.map_err(AdapterError::io("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let with_ending = |endings: &[&str]| names.iter().find(|name| endings.iter().any(|ending| name.ends_with(ending)));

    let expected = format!("expected {SINGLE_FILE}, or {INDEX_FILE} with its shards");
    let problem = if let Some(pickle) = with_ending(&[".bin", ".bin.index.json", ".pt", ".pth", ".ckpt"]) {
        format!(
            "has its weights as a Python pickle only ({pickle}), which can run any code when it is read and is \
             refused; convert it once with transformers: \
             AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    } else if let Some(gguf) = with_ending(&[".gguf"]) {
        format!("has no safetensors weights, but {gguf}: name that file itself; or {expected}")
    } else if let Some(other) = with_ending(&[".safetensors"]) {
        format!("has {other}, but under that name it is not taken for the model: name that file itself; or {expected}")
    } else if names.is_empty() {
        format!("is an empty folder, {expected}")
    } else {
        format!("has no weights, {expected}")
    };
    Ok(AdapterError::File { path: folder.into(), problem })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::tensor::TensorView;

    use super::*;

    /// Bytes of a safetensors file with these tensors, each of one value.
    fn weights(tensors: &[(&str, f32)]) -> Vec<u8> {
        let bytes: Vec<_> = tensors.iter().map(|(name, value)| (*name, value.to_le_bytes())).collect();
        let views =
            bytes.iter().map(|(name, bytes)| (*name, TensorView::new(Dtype::F32, vec![1], bytes).expect("four bytes")));
        safetensors::serialize(views, None).expect("well formed")
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in files {
            fs::write(folder.path().join(name), content).expect("room for a small file");
        }
        folder
    }

    #[track_caller]
    fn refused(files: &[(&str, &[u8])], expected: &str) {
        let folder = folder(files);
        let error = SafetensorsFolder::open(folder.path()).expect_err("must be refused").to_string();
        assert!(error.starts_with(&*folder.path().to_string_lossy()) && error.contains(expected), "{error}");
    }

    #[test]
    fn a_single_file_is_read_by_itself_and_in_its_folder() {
        let folder = folder(&[("model.safetensors", &weights(&[("b", 2.0), ("a", 1.0)]))]);
        for path in [folder.path().to_path_buf(), folder.path().join("model.safetensors")] {
            let source = SafetensorsFolder::open(&path).expect("well formed");
            assert_eq!(source.path(), path);
            assert_eq!(source.names(), ["a", "b"]);
            assert_eq!(source.shape("b").expect("there"), [1]);
            assert_eq!(source.dtype("b").expect("there"), Dtype::F32);
            assert_eq!(source.read_f32("b").expect("a float"), [2.0]);
        }
    }

    #[test]
    fn shards_are_read_through_the_index() {
        let index = br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        let (one, two) = (weights(&[("a", 1.0)]), weights(&[("b", 2.0)]));
        let folder = folder(&[(INDEX_FILE, index), ("1.safetensors", &one), ("2.safetensors", &two)]);
        let source = SafetensorsFolder::open(folder.path()).expect("well formed");
        assert_eq!(source.names(), ["a", "b"]);
        assert_eq!(source.read_f32("b").expect("a float"), [2.0]);
        assert_eq!(source.files(), ["1.safetensors", "2.safetensors"].map(|name| folder.path().join(name)));
        let error = source.read_f32("c").expect_err("absent").to_string();
        assert!(error.ends_with("no tensor `c` among the 2 it holds"), "{error}");
    }

    #[test]
    fn an_index_that_disagrees_with_its_shards_is_refused() {
        let shard = weights(&[("a", 1.0), ("b", 2.0)]);
        let other = weights(&[("b", 2.0), ("c", 3.0)]);
        let check = |index: &str, expected| {
            let files: [(&str, &[u8]); 3] =
                [(INDEX_FILE, index.as_bytes()), ("1.safetensors", &shard), ("2.safetensors", &other)];
            refused(&files, expected);
        };
        check(
            r#"{"weight_map": {"a": "1.safetensors", "b": "1.safetensors", "z": "1.safetensors"}}"#,
            "index.json: tensor `z`: is not in 1.safetensors, where the index says it is",
        );
        check(
            r#"{"weight_map": {"a": "1.safetensors"}}"#,
            "index.json: tensor `b`: is in 1.safetensors, but not in the index",
        );
        check(
            r#"{"weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#,
            "index.json: tensor `b`: is in 2.safetensors, but the index says 1.safetensors",
        );
    }

    #[test]
    fn an_index_that_is_malformed_or_leaves_its_folder_is_refused() {
        let index = |text: &str, expected: &str| refused(&[(INDEX_FILE, text.as_bytes())], expected);
        for shard in ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a\\\\b", "./a"] {
            index(&format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#), "is not the plain name of a file beside the");
        }
        index("{", "not the JSON that was expected");
        index("{}", "not the JSON that was expected");
        index(r#"{"weight_map": {"a": 3}}"#, "not the JSON that was expected");
        let twice = folder(&[(INDEX_FILE, br#"{"weight_map": {"a": "x", "a": "y"}}"#)]);
        let error = SafetensorsFolder::open(twice.path()).expect_err("twice");
        let source = std::error::Error::source(&error).expect("the parser's reason").to_string();
        assert!(source.starts_with("key `a` comes twice at line 1 column"), "{source}");

        let absent = folder(&[(INDEX_FILE, br#"{"weight_map": {"a": "1.safetensors"}}"#)]);
        let error = SafetensorsFolder::open(absent.path()).expect_err("no shard").to_string();
        assert!(error.starts_with("cannot open ") && error.ends_with("1.safetensors"), "{error}");
    }

    #[test]
    fn a_folder_without_safetensors_says_what_to_do() {
        refused(&[("pytorch_model.bin", b"x"), ("config.json", b"{}")], "(pytorch_model.bin), which can run any code");
        refused(&[("pytorch_model.bin.index.json", b"{}")], "save_pretrained(new_folder)");
        refused(&[("m.gguf", b"x")], "has no safetensors weights, but m.gguf: name that file itself");
        refused(&[("other.safetensors", b"x")], "has other.safetensors, but under that name");
        refused(&[("config.json", b"{}")], "has no weights, expected model.safetensors, or model.safetensors.index");
        refused(&[], "is an empty folder");
        refused(&[("model.safetensors", b"")], "model.safetensors: is empty; the download or copy did not finish");
        let error = SafetensorsFolder::open("no/such/folder").expect_err("absent");
        assert_eq!(error.to_string(), "cannot open no/such/folder");
        assert!(std::error::Error::source(&error).expect("the reason").to_string().starts_with("No such file"));
    }
}
