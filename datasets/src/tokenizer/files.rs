//! The tokenizer files of a Hugging Face folder: read strictly, written without leaving halves.
//!
//! `tokenizer.json` holds the tokenizer itself, `tokenizer_config.json` the special tokens and often the
//! chat template, `chat_template.jinja` the template of newer models, and `generation_config.json` or
//! `config.json` the ids that end generation.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::{ChatTokenizer, Parts, guarded};
use crate::atomic;
use crate::{DataError, SpecialTokens, TokenizerError};

impl ChatTokenizer {
    /// Reads the tokenizer of a Hugging Face model folder. `chat_template` is a Jinja file that replaces the
    /// model's own template.
    ///
    /// # Errors
    /// [`TokenizerError::Missing`] without a `tokenizer.json`, [`DataError::Read`] and
    /// [`TokenizerError::File`] when a file is unreadable or says something else than expected,
    /// [`TemplateError::Syntax`](crate::TemplateError::Syntax) when the chat template does not parse.
    pub fn from_folder(folder: &Path, chat_template: Option<&Path>) -> Result<Self, DataError> {
        let path = folder.join("tokenizer.json");
        let bytes =
            read(&path)?.ok_or_else(|| DataError::Tokenizer(TokenizerError::Missing { folder: folder.to_owned() }))?;
        let tokenizer = guarded(|| Tokenizer::from_bytes(&bytes))
            .map_err(|message| refuse(&path, format!("expected a tokenizer in JSON: {message}")))?;

        let config = ObjectFile::read(folder.join("tokenizer_config.json"))?;
        let legacy = ObjectFile::read(folder.join("special_tokens_map.json"))?;
        let token = |name| match config.token(name)? {
            Some(token) => Ok(Some(token)),
            None => legacy.token(name),
        };
        let special = SpecialTokens {
            bos: token("bos_token")?,
            eos: token("eos_token")?,
            padding: token("pad_token")?,
            unknown: token("unk_token")?,
            terminators: Vec::new(),
        };

        let generation = ObjectFile::read(folder.join("generation_config.json"))?.ids("eos_token_id")?;
        let eos_token_ids = match generation {
            Some(ids) => ids,
            None => ObjectFile::read(folder.join("config.json"))?.ids("eos_token_id")?.unwrap_or_default(),
        };

        let own = folder.join("chat_template.jinja");
        let template = match chat_template.or_else(|| own.exists().then_some(own.as_path())) {
            Some(path) => Some(template_file(path)?),
            None => config.template()?.map(|source| (source, config.path.clone())),
        };
        let mut config = config.object;
        config.remove("chat_template");
        Self::assemble(Parts { tokenizer, special, eos_token_ids, template, path, config })
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into a folder that
    /// exists. Each file appears whole or not at all.
    ///
    /// # Errors
    /// [`DataError::Write`] when a file cannot be written; a file that stood there is then untouched.
    pub fn save(&self, folder: &Path) -> Result<(), DataError> {
        let tokenizer = guarded(|| self.tokenizer.to_string(true)).map_err(|message| self.refused(message))?;
        atomic::write(&folder.join("tokenizer.json"), tokenizer.as_bytes())?;
        let config = format!("{:#}\n", Value::Object(self.config.clone()));
        atomic::write(&folder.join("tokenizer_config.json"), config.as_bytes())?;
        match &self.template {
            Some(template) => atomic::write(&folder.join("chat_template.jinja"), template.source().as_bytes()),
            None => Ok(()),
        }
    }
}

/// A JSON file whose content is an object; a file that is not there is an empty one.
struct ObjectFile {
    path: PathBuf,
    object: Map<String, Value>,
}

impl ObjectFile {
    fn read(path: PathBuf) -> Result<Self, DataError> {
        let Some(bytes) = read(&path)? else {
            return Ok(Self { path, object: Map::new() });
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(Self { path, object }),
            Ok(other) => Err(refuse(&path, format!("expected a JSON object, got {}", excerpt(&other)))),
            Err(error) => Err(refuse(&path, format!("expected a JSON object: {error}"))),
        }
    }

    /// The value of a key, `None` for null too.
    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn expected(&self, key: &str, expected: &str, got: &Value) -> DataError {
        refuse(&self.path, format!("{key}: expected {expected}, got {}", excerpt(got)))
    }

    /// A special token: a string, or an object with its text as `content`.
    fn token(&self, key: &str) -> Result<Option<String>, DataError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_str().or_else(|| value.get("content")?.as_str()) {
            Some(token) => Ok(Some(token.to_owned())),
            None => Err(self.expected(key, "a string or an object with `content`", value)),
        }
    }

    /// One token id or a list of them.
    fn ids(&self, key: &str) -> Result<Option<BTreeSet<u32>>, DataError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let ids: Option<BTreeSet<u32>> = list.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect();
        ids.map(Some).ok_or_else(|| self.expected(key, "a token id or a list of them", value))
    }

    /// The chat template: a string, or a list of named ones of which `default` is taken.
    fn template(&self) -> Result<Option<String>, DataError> {
        const KEY: &str = "chat_template";
        let Some(value) = self.get(KEY) else {
            return Ok(None);
        };
        if let Some(source) = value.as_str() {
            return Ok(Some(source.to_owned()));
        }
        let Some(list) = value.as_array() else {
            return Err(self.expected(KEY, "a string or a list of named templates", value));
        };
        let named = |template: &Value| {
            Some((template.get("name")?.as_str()?.to_owned(), template.get("template")?.as_str()?.to_owned()))
        };
        let templates: Vec<(String, String)> = list
            .iter()
            .map(|template| {
                named(template).ok_or_else(|| self.expected(KEY, "templates with `name` and `template`", template))
            })
            .collect::<Result<_, _>>()?;
        let names: Vec<&str> = templates.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("{KEY}: expected a template named \"default\", got {names:?}");
        match templates.into_iter().find(|(name, _)| name == "default") {
            Some((_, source)) => Ok(Some(source)),
            None => Err(refuse(&self.path, message)),
        }
    }
}

fn refuse(path: &Path, message: String) -> DataError {
    DataError::Tokenizer(TokenizerError::File { path: path.to_owned(), message })
}

/// A value as JSON, cut when it is long.
fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A chat template in a file of its own, and its path.
pub(super) fn template_file(path: &Path) -> Result<(String, PathBuf), DataError> {
    let source = fs::read_to_string(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    Ok((source, path.to_owned()))
}

/// The bytes of a file, `None` when there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, DataError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataError::Read { path: path.to_owned(), source }),
    }
}
