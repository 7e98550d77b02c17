//! The path of a key in a recipe, as messages and `--set` write it: `data.train[0].path`.

use std::fmt;

use super::tree::{Node, Value};

/// A step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Into a section.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

/// The way from the top of a recipe to a value; empty for the recipe itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Segment>);

impl KeyPath {
    /// Reads `data.train[0].path` or `data.train.0.path`.
    ///
    /// `None` when a step is empty or a bracket holds no number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut segments = Vec::new();
        for step in text.split('.') {
            let (name, indices) = step.split_once('[').map_or((step, None), |(name, rest)| (name, Some(rest)));
            segments.push(match name.parse() {
                Ok(index) => Segment::Index(index),
                Err(_) if name.is_empty() => return None,
                Err(_) => Segment::Key(name.to_owned()),
            });
            if let Some(indices) = indices {
                for index in indices.strip_suffix(']')?.split("][") {
                    segments.push(Segment::Index(index.parse().ok()?));
                }
            }
        }
        Some(Self(segments))
    }

    /// Adds a step before the first.
    pub(super) fn prepend(&mut self, segment: Segment) {
        self.0.insert(0, segment);
    }

    /// Adds a step after the last.
    pub(super) fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    /// The steps from the top.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The node at this path.
    pub(super) fn find<'a>(&self, root: &'a Node) -> Option<&'a Node> {
        self.0.iter().try_fold(root, |node, segment| match (segment, &node.value) {
            (Segment::Key(name), _) => node.get(name),
            (Segment::Index(index), Value::List(items)) => items.get(*index),
            (Segment::Index(_), _) => None,
        })
    }

    /// Whether this is the recipe itself.
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(name) if i == 0 => f.write_str(name)?,
                Segment::Key(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
