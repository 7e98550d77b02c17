//! `--set KEY=VALUE`: laid over the recipe's tree before it is typed.
//!
//! The value is YAML, so `--set lora.targets=[q_proj,v_proj]` is a list. Whether the key exists is found out when the
//! tree is typed; the message then names the override.

use super::key_path::{KeyPath, Segment};
use super::tree::{self, FlawKind, Key, Node, Origin, Value};

/// Lays one override over a tree. `index` is its number on the command line.
///
/// The error is what is wrong with it, without the override itself.
pub(super) fn apply(root: &mut Node, text: &str, index: usize) -> Result<(), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "expected KEY=VALUE, for example --set train.learning_rate=1e-4".to_owned())?;
    let path = KeyPath::parse(key.trim())
        .ok_or_else(|| format!("`{key}` is no key, expected one such as train.learning_rate or data.train[0].path"))?;
    let mut value = parse_value(value)?;
    let origin = Origin::Override(index);
    value.set_origin(origin);

    let mut node = root;
    let mut done = KeyPath::default();
    for segment in path.segments() {
        node = step(node, segment, &done, origin)?;
        done.push(segment.clone());
    }
    *node = value;
    Ok(())
}

fn parse_value(text: &str) -> Result<Node, String> {
    if text.trim().is_empty() {
        return Ok(Node { value: Value::Null, origin: Origin::Override(0) });
    }
    tree::parse(text).map_err(|flaw| match flaw.kind {
        FlawKind::Duplicate(key) => format!("the key `{key}` stands twice in the value, remove one"),
        FlawKind::Syntax(reason) => {
            format!("the value is {reason}; put a text with special characters in quotes: --set 'KEY=\"...\"'")
        }
    })
}

/// The node one step further, made where it is missing.
fn step<'a>(node: &'a mut Node, segment: &Segment, done: &KeyPath, origin: Origin) -> Result<&'a mut Node, String> {
    let missing = || Node { value: Value::Null, origin };
    let here = if done.is_root() { "the recipe".to_owned() } else { format!("`{done}`") };
    if node.value == Value::Null {
        if matches!(segment, Segment::Index(1..)) {
            return Err(format!("{here} is not written in the recipe, set it as a whole: --set {done}=[...]"));
        }
        *node = Node {
            origin,
            value: match segment {
                Segment::Key(_) => Value::Section(Vec::new()),
                Segment::Index(_) => Value::List(Vec::new()),
            },
        };
    }
    match (&mut node.value, segment) {
        (Value::Section(entries), Segment::Key(name)) => {
            let index = entries.iter().position(|(key, _)| key.name == *name).unwrap_or_else(|| {
                entries.push((Key { name: name.clone(), origin }, missing()));
                entries.len() - 1
            });
            Ok(&mut entries[index].1)
        }
        (Value::List(items), Segment::Index(index)) => {
            let count = items.len();
            if *index == count {
                items.push(missing());
            }
            items.get_mut(*index).ok_or_else(|| {
                format!("{here} holds {count}, expected an index from 0 to {count}; the last one adds an entry")
            })
        }
        (Value::List(items), Segment::Key(name)) => {
            let last = items.len().saturating_sub(1);
            Err(format!("{here} is a list, expected an index from 0 to {last} instead of `{name}`, as in {done}[0]"))
        }
        (value, segment) => {
            let step = match segment {
                Segment::Key(name) => format!("key `{name}`"),
                Segment::Index(index) => format!("entry {index}"),
            };
            Err(format!("{here} is {value}, it has no {step}"))
        }
    }
}
