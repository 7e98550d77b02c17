//! From a file and overrides to a [`Recipe`] whose values are in range and whose paths are absolute.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::{Place, Problem, RecipeError, printable};
use super::key_path::KeyPath;
use super::ranges::Ranges;
use super::tree::{self, FlawKind, Node, Origin, Value};
use super::typed::{self, Misfit, TypeError};
use super::{Recipe, hints, model, overrides, schema};

/// The most bytes that are read of a recipe.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A recipe that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The recipe, resolved: overrides applied, paths absolute, every value within its range.
    pub recipe: Recipe,
    /// The file, as it was named.
    pub path: PathBuf,
    /// The folder of the file, where the recipe's relative paths start; absolute.
    pub root: PathBuf,
    /// The text of the file.
    pub text: String,
    pub(super) source: Source,
}

/// What a recipe was read from, to find the place of a value.
#[derive(Clone, Debug)]
pub(super) struct Source {
    path: PathBuf,
    lines: Vec<String>,
    overrides: Vec<String>,
    pub(super) tree: Node,
}

impl Recipe {
    /// Reads a recipe, with overrides of the form `KEY=VALUE` laid over it.
    ///
    /// Relative paths in the file start at its folder, those in an override at the current folder. Whether the files
    /// are there is for [`Loaded::check`] to say.
    ///
    /// # Errors
    /// [`RecipeError`] with the place in the file or the override.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, RecipeError> {
        let (mut recipe, text, source) = typed(path, overrides)?;
        let root = resolve(&mut recipe, &source)?;
        source.check_ranges(Ranges::problems(&recipe))?;
        Ok(Loaded { recipe, path: path.to_owned(), root, text, source })
    }
}

/// A file as a type, with overrides laid over it: the value, the file's text, and where each key stands.
pub(super) fn typed<T: DeserializeOwned>(
    path: &Path,
    overrides: &[String],
) -> Result<(T, String, Source), RecipeError> {
    let text = read(path)?;
    let mut source = Source::parse(path, &text, overrides)?;
    for (index, text) in overrides.iter().enumerate() {
        overrides::apply(&mut source.tree, text, index)
            .map_err(|problem| RecipeError::Override { text: text.clone(), problem })?;
    }
    let value = typed::from_tree(&source.tree).map_err(|error| source.type_error(error))?;
    Ok((value, text, source))
}

/// Reads the file, as long as it can be a recipe.
fn read(path: &Path) -> Result<String, RecipeError> {
    let fail = |source| RecipeError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        let inside = path.join("recipe.yaml");
        let hint = if inside.is_file() { format!(" such as {}", inside.display()) } else { String::new() };
        return Err(RecipeError::Folder { path: path.to_owned(), hint });
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > MAX_BYTES {
        return Err(RecipeError::TooLarge { path: path.to_owned(), limit: MAX_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = sound.split(|byte| *byte == b'\n').count();
        RecipeError::NotUtf8 { path: path.to_owned(), line }
    })
}

impl Source {
    fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Self, RecipeError> {
        let is_blank = |line: &str| matches!(line.trim(), "" | "---" | "...") || line.trim_start().starts_with('#');
        if text.trim_start_matches('\u{feff}').lines().all(is_blank) {
            return Err(RecipeError::Empty { path: path.to_owned() });
        }
        let mut source = Self {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            overrides: overrides.to_vec(),
            tree: Node { value: Value::Null, origin: Origin::File { line: 1, column: 1 } },
        };
        source.tree = tree::parse(text).map_err(|flaw| {
            let place = match flaw.at {
                Some((line, column)) => source.place(Origin::File { line, column }),
                None => Place::Recipe { path: path.to_owned() },
            };
            match flaw.kind {
                FlawKind::Duplicate(key) => RecipeError::DuplicateKey { place: Box::new(place), key: printable(&key) },
                FlawKind::Syntax(reason) => RecipeError::Syntax { place: Box::new(place), reason },
            }
        })?;
        if source.tree.value == Value::Null {
            return Err(RecipeError::Empty { path: path.to_owned() });
        }
        Ok(source)
    }

    fn place(&self, origin: Origin) -> Place {
        match origin {
            Origin::File { line, column } => {
                let text = self.lines.get(line.saturating_sub(1)).cloned().unwrap_or_default();
                Place::Line { path: self.path.clone(), line, column, text }
            }
            Origin::Override(index) => Place::Override(self.overrides.get(index).cloned().unwrap_or_default()),
        }
    }

    /// The node of a key such as `data.train[0].path`, where the recipe or an override gives it.
    fn find(&self, key: &str) -> Option<&Node> {
        KeyPath::parse(key)?.find(&self.tree)
    }

    /// The place of a key's value; the recipe as a whole for a default.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.find(key).map_or_else(|| Place::Recipe { path: self.path.clone() }, |node| self.place(node.origin))
    }

    /// The text that the recipe's file, and not an override, gives to a key.
    pub(super) fn text_in_file(&self, key: &str) -> Option<&str> {
        match self.find(key)? {
            Node { value: Value::Text(text), origin: Origin::File { .. } } => Some(text),
            _ => None,
        }
    }

    /// Tells what is out of range, each with its place.
    pub(super) fn check_ranges(&self, mut problems: Vec<Problem>) -> Result<(), RecipeError> {
        for problem in &mut problems {
            problem.place = self.place_of(&problem.key);
        }
        if problems.is_empty() { Ok(()) } else { Err(RecipeError::OutOfRange { problems }) }
    }

    /// Makes paths absolute, each with its key. Relative ones start at the recipe's folder, those of an override at the
    /// current one. Gives the recipe's folder.
    pub(super) fn resolve<'p>(
        &self,
        paths: impl IntoIterator<Item = (String, &'p mut PathBuf)>,
    ) -> Result<PathBuf, RecipeError> {
        let (root, current) = self.starts()?;
        for (key, path) in paths {
            *path = absolute(if self.is_override(&key) { &current } else { &root }, path)?;
        }
        Ok(root)
    }

    /// Makes a base absolute, where it is no name on the hub.
    pub(super) fn resolve_base(&self, key: &str, base: &mut String) -> Result<(), RecipeError> {
        let mut path = PathBuf::from(&base);
        self.resolve([(key.to_owned(), &mut path)])?;
        if path.exists() || !model::is_hub_name(base) {
            *base = path.to_string_lossy().into_owned();
        }
        Ok(())
    }

    /// The recipe's folder and the current one, absolute.
    fn starts(&self) -> Result<(PathBuf, PathBuf), RecipeError> {
        let canonical = |folder: &Path| {
            fs::canonicalize(folder).map_err(|source| RecipeError::Read { path: folder.to_owned(), source })
        };
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((canonical(folder)?, canonical(Path::new("."))?))
    }

    fn is_override(&self, key: &str) -> bool {
        self.find(key).is_some_and(|node| matches!(node.origin, Origin::Override(_)))
    }

    fn type_error(&self, error: TypeError) -> RecipeError {
        let TypeError { path, origin, kind } = error;
        let recipe = || Place::Recipe { path: self.path.clone() };
        let place = Box::new(match (origin, &kind) {
            (Some(_), Misfit::MissingKey(_)) if path.is_root() => recipe(),
            (Some(origin), _) => self.place(origin),
            (None, _) => recipe(),
        });
        let key = if path.is_root() { "the recipe".to_owned() } else { path.to_string() };
        let remedy = |words: String| if words.is_empty() { words } else { format!("; {words}") };
        match kind {
            Misfit::UnknownKey { key, known } => {
                let section = if path.is_root() { "at the top level".to_owned() } else { format!("in `{path}`") };
                let hint = hints::unknown_key(&key, &path.to_string(), known);
                RecipeError::UnknownKey { place, key: printable(&key), section, hint }
            }
            Misfit::MissingKey(name) => {
                let key = if path.is_root() { name.to_owned() } else { format!("{path}.{name}") };
                let hint = schema::describe(path.segments(), name).map(|purpose| {
                    let (first, rest) = purpose.split_at(purpose.chars().next().map_or(0, char::len_utf8));
                    format!(": {}{}", first.to_lowercase(), rest.trim_end_matches('.'))
                });
                RecipeError::MissingKey { place, key, hint: hint.unwrap_or_default() }
            }
            Misfit::Type { expected, got, remedy: words } => {
                RecipeError::WrongType { place, key, expected, got, remedy: remedy(words.to_owned()) }
            }
            Misfit::Word { got, known } => {
                let near = hints::nearest(&got, known);
                let words = if near.is_empty() { String::new() } else { hints::did_you_mean(&near) };
                let expected = format!("one of {}", known.join(", "));
                let got = Value::Text(got).to_string();
                RecipeError::WrongType { place, key, expected, got, remedy: remedy(words) }
            }
            Misfit::Custom(problem) => RecipeError::Value { place, key, problem: printable(&problem) },
        }
    }
}

/// Makes the recipe's paths absolute and fills in the folder for the run. Gives the recipe's folder.
fn resolve(recipe: &mut Recipe, source: &Source) -> Result<PathBuf, RecipeError> {
    let (_, current) = source.starts()?;
    source.resolve_base("model.base", &mut recipe.model.base)?;
    let named = !recipe.output.as_os_str().is_empty();
    if !named {
        recipe.output = absolute(&current, &Path::new("runs").join(run_name(&source.path)))?;
    }
    let mut output = std::mem::take(&mut recipe.output);
    let output_of_file = named.then(|| ("output".to_owned(), &mut output));
    let root = source.resolve(paths(recipe).into_iter().chain(output_of_file))?;
    recipe.output = output;
    Ok(root)
}

/// The paths of all files that a recipe reads, with their keys; the base apart, which may be a name on the hub.
pub(super) fn paths(recipe: &mut Recipe) -> Vec<(String, &mut PathBuf)> {
    let mut paths = Vec::new();
    paths.extend(recipe.model.adapter.as_mut().map(|path| ("model.adapter".to_owned(), path)));
    paths.extend(recipe.data.chat_template.as_mut().map(|path| ("data.chat_template".to_owned(), path)));
    let screening_key = recipe.data.screen.as_mut().and_then(|screen| screen.key.as_mut());
    paths.extend(screening_key.map(|path| ("data.screen.key".to_owned(), path)));
    let textfile = recipe.tracking.prometheus.as_mut().map(|prometheus| &mut prometheus.textfile);
    paths.extend(textfile.map(|path| ("tracking.prometheus.textfile".to_owned(), path)));
    let forgetting = &mut recipe.forgetting;
    paths.extend(listed("probes", &mut forgetting.probes));
    if let Some(orthogonal) = &mut forgetting.orthogonal {
        paths.extend(listed("orthogonal.adapters", &mut orthogonal.adapters));
    }
    let replay = forgetting.replay.as_mut().map(|replay| ("forgetting.replay.sources", &mut replay.sources));
    let lists = [
        ("data.train", &mut recipe.data.train),
        ("data.validation", &mut recipe.data.validation),
        ("eval.test", &mut recipe.eval.test),
    ];
    for (list, sources) in lists.into_iter().chain(replay) {
        let files = sources.iter_mut().enumerate();
        paths.extend(files.filter_map(|(i, source)| Some((format!("{list}[{i}].path"), source.path.as_mut()?))));
    }
    paths
}

/// Paths of a list in the section `forgetting`, with their keys.
fn listed<'a>(key: &str, files: &'a mut [PathBuf]) -> Vec<(String, &'a mut PathBuf)> {
    files.iter_mut().enumerate().map(|(i, path)| (format!("forgetting.{key}[{i}]"), path)).collect()
}

/// A path from an absolute folder without links; an empty one stays empty.
pub(super) fn absolute(folder: &Path, path: &Path) -> Result<PathBuf, RecipeError> {
    if path.as_os_str().is_empty() {
        return Ok(PathBuf::new());
    }
    let mut whole = folder.to_owned();
    let mut rest = path.components().peekable();
    while let Some(Component::CurDir | Component::ParentDir) = rest.peek() {
        if rest.next() == Some(Component::ParentDir) {
            whole.pop();
        }
    }
    whole.push(rest.collect::<PathBuf>());
    if whole.to_str().is_none() { Err(RecipeError::PathNotUtf8 { path: whole }) } else { Ok(whole) }
}

/// The name of a recipe: its file's, or its folder's when the file is called `recipe`.
pub(crate) fn run_name(path: &Path) -> &Path {
    let name = Path::new(path.file_stem().unwrap_or_default());
    let folder = path.parent().and_then(Path::file_name).map(Path::new);
    match folder {
        Some(folder) if name == Path::new("recipe") => folder,
        _ => name,
    }
}
