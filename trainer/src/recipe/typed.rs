//! From a tree to a typed value, with errors in a user's terms.
//!
//! A serde deserializer over [`Node`]. It checks each type itself, so that a message says "a whole number" and not
//! `usize`, and it builds the key's path on the way back from an error.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer as _, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::key_path::{KeyPath, Segment};
use super::tree::{Key, Node, Origin, Value};

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct TypeError {
    /// The path of the value, or of the section in which a key is missing or unknown.
    pub(super) path: KeyPath,
    /// Unknown only for what is wrong with the whole tree.
    pub(super) origin: Option<Origin>,
    pub(super) kind: Misfit,
}

/// The kinds of [`TypeError`].
#[derive(Debug, PartialEq)]
pub(super) enum Misfit {
    /// A section has a key that it does not know.
    UnknownKey { key: String, known: &'static [&'static str] },
    /// A section lacks a key that it needs.
    MissingKey(&'static str),
    /// A value is of another type or form.
    Type { expected: String, got: String, remedy: &'static str },
    /// A word is not among those that a key takes.
    Word { got: String, known: &'static [&'static str] },
    /// The type's own words.
    Custom(String),
}

/// Reads a typed value from a tree.
pub(super) fn from_tree<'de, T: de::Deserialize<'de>>(root: &'de Node) -> Result<T, TypeError> {
    T::deserialize(root)
}

impl TypeError {
    fn new(kind: Misfit) -> Self {
        Self { path: KeyPath::default(), origin: None, kind }
    }

    /// Adds the step that led to the error, and the place unless a deeper one is known.
    fn below(mut self, segment: Segment, origin: Origin) -> Self {
        self.path.prepend(segment);
        self.origin.get_or_insert(origin);
        self
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Misfit::Custom(message.to_string()))
    }

    fn invalid_type(got: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let got = got.to_string();
        Self::new(Misfit::Type { expected: expected.to_string(), got, remedy: "" })
    }

    fn invalid_value(got: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(got, expected)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(Misfit::UnknownKey { key: field.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Misfit::MissingKey(field))
    }

    fn unknown_variant(got: &str, known: &'static [&'static str]) -> Self {
        Self::new(Misfit::Word { got: got.to_owned(), known })
    }
}

impl Node {
    fn misfit<T>(&self, expected: impl Into<String>, remedy: &'static str) -> Result<T, TypeError> {
        let got = self.value.to_string();
        let kind = Misfit::Type { expected: expected.into(), got, remedy };
        Err(TypeError { path: KeyPath::default(), origin: Some(self.origin), kind })
    }

    fn whole_number<'de, V: Visitor<'de>>(&self, visitor: V, signed: bool) -> Result<V::Value, TypeError> {
        let expected = if signed { "a whole number" } else { "a whole number of at least 0" };
        match &self.value {
            Value::Unsigned(number) => visitor.visit_u64(*number),
            Value::Signed(number) if signed => visitor.visit_i64(*number),
            Value::Float(number) if number.fract() == 0.0 && (0.0..1e15).contains(number) => {
                self.misfit(expected, "write it without a point or an exponent")
            }
            Value::Text(text) if text.parse::<u64>().is_ok() => self.misfit(expected, "remove the quotes"),
            Value::Null => self.misfit(expected, "remove the key to get its default"),
            _ => self.misfit(expected, ""),
        }
    }

    fn items(&self) -> Result<&[Self], TypeError> {
        match &self.value {
            Value::List(items) => Ok(items),
            Value::Null => self.misfit("a list", "write [] for an empty one"),
            Value::Section(_) => self.misfit("a list", "begin each entry with a dash"),
            _ => self.misfit("a list", "put the values in brackets, or each on its own line after a dash"),
        }
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let result = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_str(value),
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Section(entries) => visitor.visit_map(Entries { entries, next: 0 }),
        };
        // The visitor's words for what it got are the machine's; the tree has better ones.
        result.map_err(|mut error| {
            if let (true, Misfit::Type { got, .. }) = (error.origin.is_none(), &mut error.kind) {
                *got = self.value.to_string();
            }
            error
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Text(text) if matches!(text.as_str(), "true" | "false") => {
                self.misfit("true or false", "remove the quotes")
            }
            _ => self.misfit("true or false", ""),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor, false)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor, false)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor, true)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Unsigned(value) => visitor.visit_f64(*value as f64),
            Value::Signed(value) => visitor.visit_f64(*value as f64),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) if text.parse::<f64>().is_ok() => self.misfit("a number", "remove the quotes"),
            Value::Null => self.misfit("a number", "remove the key to get its default"),
            _ => self.misfit("a number", ""),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Null => self.misfit("a text", ""),
            _ => self.misfit("a text", "put it in quotes"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_seq(Items { items: self.items()?, next: 0 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, TypeError> {
        let items = self.items()?;
        if items.len() != len {
            return self.misfit(format!("a list of {len}"), "");
        }
        visitor.visit_seq(Items { items, next: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Section(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            // A section whose keys are all commented out.
            Value::Null => visitor.visit_map(Entries { entries: &[], next: 0 }),
            _ => self.misfit(format!("a section with keys among {}", fields.join(", ")), ""),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(StrDeserializer::<TypeError>::new(text)),
            Value::Section(entries) => match entries.as_slice() {
                [(key, node)] => visitor.visit_enum(Named { key, node }),
                _ => self.misfit(format!("exactly one key among {}", variants.join(", ")), ""),
            },
            _ => self.misfit(format!("one of {}", variants.join(", ")), ""),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TypeError> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(item).map(Some).map_err(|error| error.below(Segment::Index(index), item.origin))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'de> {
    entries: &'de [(Key, Node)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypeError> {
        let Some((key, _)) = self.entries.get(self.next) else {
            return Ok(None);
        };
        seed.deserialize(key.name.as_str().into_deserializer()).map(Some).map_err(|mut error: TypeError| {
            error.origin.get_or_insert(key.origin);
            error
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        let (key, node) = &self.entries[self.next];
        self.next += 1;
        seed.deserialize(node).map_err(|error| error.below(Segment::Key(key.name.clone()), node.origin))
    }
}

/// A section with a single key, which says what the section below it is.
struct Named<'de> {
    key: &'de Key,
    node: &'de Node,
}

impl<'de> EnumAccess<'de> for Named<'de> {
    type Error = TypeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), TypeError> {
        let name: StrDeserializer<'de, TypeError> = self.key.name.as_str().into_deserializer();
        match seed.deserialize(name) {
            Ok(variant) => Ok((variant, self)),
            // A key, and not a word, is what is unknown.
            Err(TypeError { kind: Misfit::Word { got, known }, path, .. }) => {
                Err(TypeError { path, origin: Some(self.key.origin), kind: Misfit::UnknownKey { key: got, known } })
            }
            Err(error) => Err(error),
        }
    }
}

impl<'de> VariantAccess<'de> for Named<'de> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        self.node.misfit("nothing below this word", "write the word alone")
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TypeError> {
        let below = |error: TypeError| error.below(Segment::Key(self.key.name.clone()), self.node.origin);
        seed.deserialize(self.node).map_err(below)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, TypeError> {
        self.node.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.node.deserialize_struct("", fields, visitor)
    }
}
