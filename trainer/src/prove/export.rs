//! What is proved: a folder or file that was exported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adapters::GgufFile;
use adapters::export::peft::CONFIG_FILE;
use datasets::sha256_files;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::model::adapter;

/// The forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A PEFT folder.
    Peft,
    /// An adapter in a GGUF file.
    GgufLora,
    /// A model in a Hugging Face folder, with the adapter folded in or without one.
    Folder,
    /// The same in a GGUF file.
    Gguf,
}

impl Form {
    /// Whether it is an adapter, which a server can switch on and off.
    pub fn is_adapter(self) -> bool {
        matches!(self, Self::Peft | Self::GgufLora)
    }

    /// Whether it is a folder, not a file.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::Peft | Self::Folder)
    }
}

/// An export on this machine.
#[derive(Debug)]
pub struct Export {
    path: PathBuf,
    form: Form,
}

impl Export {
    /// Finds out what a path holds.
    ///
    /// # Errors
    /// When it is none of the [forms](Form), or a GGUF file that cannot be read.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let form = if path.join(CONFIG_FILE).is_file() {
            Form::Peft
        } else if path.join("config.json").is_file() {
            Form::Folder
        } else if path.is_file() {
            let file = GgufFile::open(path)?;
            let is_adapter = file.contains("general.type") && file.str("general.type")? == "adapter";
            if is_adapter { Form::GgufLora } else { Form::Gguf }
        } else {
            return Err(TrainError::Run(format!(
                "{}: expected a PEFT folder ({CONFIG_FILE}), a model folder (config.json) or a GGUF file",
                path.display()
            )));
        };
        Ok(Self { path: path.to_owned(), form })
    }

    /// Its form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where something lies that is said of it: in the folder, or beside the file under the file's name.
    pub fn beside(&self, name: &str) -> PathBuf {
        if self.form.is_folder() {
            return self.path.join(name);
        }
        self.path.with_file_name(format!("{}.{name}", self.name()))
    }

    /// Its last name, by which a server may know it.
    pub(crate) fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The PEFT folder with which the trainer computes: the export itself, or the one that it was made from.
    pub(super) fn adapter<'a>(&'a self, named: Option<&'a Path>) -> Result<Option<&'a Path>, TrainError> {
        match (self.form, named) {
            (Form::GgufLora, None) => Err(TrainError::Run(format!(
                "{}: a GGUF adapter is proved against the PEFT folder that it was made from; name it with --adapter",
                self.path.display()
            ))),
            (Form::Peft, None) => Ok(Some(&self.path)),
            (_, named) => Ok(named),
        }
    }

    /// SHA-256 of each file that a server reads, by name.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn digests(&self) -> Result<BTreeMap<String, String>, TrainError> {
        let files = match self.form {
            Form::Peft => adapter::files(&self.path).to_vec(),
            Form::GgufLora | Form::Gguf => vec![self.path.clone()],
            Form::Folder => self.model_files()?,
        };
        let digest = |path: PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let digest = sha256_files([path.clone()]).map_err(|source| TrainError::Read { path, source })?;
            Ok((name, digest))
        };
        files.into_iter().map(digest).collect()
    }

    /// `config.json` and the weights, in the order of their names.
    fn model_files(&self) -> Result<Vec<PathBuf>, TrainError> {
        let failed = |source| TrainError::Read { path: self.path.clone(), source };
        let mut files = vec![self.path.join("config.json")];
        for entry in self.path.read_dir().map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == "safetensors") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}
