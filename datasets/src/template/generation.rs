//! `{% generation %}` blocks: the part of a template that says which text the model is to learn.
//!
//! `minijinja` knows no custom tags, so each block is rewritten into a filter block whose filter puts
//! a mark before and after its text. The marks are taken out of the rendered text and leave its ranges.

use std::ops::Range;

/// The mark before supervised text: a private-use character of the last plane, which nobody writes.
pub(super) const OPEN: char = '\u{10fff0}';
/// The mark after supervised text.
pub(super) const CLOSE: char = '\u{10fff1}';
/// The name of the filter that writes the marks.
pub(super) const FILTER: &str = "generation";

/// Rewrites generation blocks into filter blocks, or gives `None` when the template has none.
///
/// White space control and line numbers stay as they are. The inner `with` gives the block a scope of
/// its own, as it has in Jinja. Comments, raw blocks and strings are left alone.
pub(super) fn rewrite(source: &str) -> Option<String> {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut found = false;
    while let Some(start) = rest.find('{') {
        let (text, tag) = rest.split_at(start);
        out.push_str(text);
        let length = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map_or(tag.len(), |end| end + 2),
            Some(b'{') => tag_length(tag, "}}"),
            Some(b'%') => {
                let length = tag_length(tag, "%}");
                match Tag::parse(&tag[..length]) {
                    Some(tag) if tag.name == "generation" && tag.is_bare => {
                        out.push_str(&tag.with("filter generation %}{% with"));
                        found = true;
                        rest = &rest[start + length..];
                        continue;
                    }
                    Some(tag) if tag.name == "endgeneration" && tag.is_bare => {
                        out.push_str(&tag.with("endwith %}{% endfilter"));
                        rest = &rest[start + length..];
                        continue;
                    }
                    Some(Tag { name: "raw", .. }) => raw_length(tag, length),
                    _ => length,
                }
            }
            _ => 1,
        };
        out.push_str(&tag[..length]);
        rest = &tag[length..];
    }
    out.push_str(rest);
    found.then_some(out)
}

/// A block tag taken apart: `{%`, sign, space, name, space, sign, `%}`.
struct Tag<'a> {
    before: &'a str,
    name: &'a str,
    after: &'a str,
    is_bare: bool,
}

impl<'a> Tag<'a> {
    fn parse(tag: &'a str) -> Option<Self> {
        let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
        let start = inner.find(|c: char| !matches!(c, '-' | '+') && !c.is_whitespace())?;
        let (before, inner) = inner.split_at(start);
        let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (name, after) = inner.split_at(end);
        let is_bare = matches!(after.trim_start(), "" | "-" | "+");
        Some(Self { before, name, after, is_bare })
    }

    fn with(&self, name: &str) -> String {
        format!("{{%{}{name} {}%}}", self.before, self.after)
    }
}

/// The length of a tag up to and with `end`, which does not count inside a string.
fn tag_length(tag: &str, end: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in tag.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            None if tag[at..].starts_with(end) => return at + end.len(),
            _ => {}
        }
    }
    tag.len()
}

/// The length of a raw block whose opening tag has `opening` bytes, up to its closing tag.
fn raw_length(tag: &str, opening: usize) -> usize {
    let mut at = opening;
    while let Some(next) = tag[at..].find("{%") {
        at += next;
        let length = tag_length(&tag[at..], "%}");
        if Tag::parse(&tag[at..at + length]).is_some_and(|tag| tag.name == "endraw") {
            return at;
        }
        at += 2;
    }
    tag.len()
}

/// Takes the marks out of a rendered text, and gives the byte ranges that stood between them.
///
/// Ranges that touch are joined, empty ones are left out.
///
/// # Errors
/// A sentence when the marks do not alternate.
pub(super) fn unmark(marked: &str) -> Result<(String, Vec<Range<usize>>), &'static str> {
    let mut text = String::with_capacity(marked.len());
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut open = None;
    for character in marked.chars() {
        match (character, open) {
            (OPEN, None) => open = Some(text.len()),
            (CLOSE, Some(start)) => {
                match ranges.last_mut() {
                    Some(last) if last.end == start => last.end = text.len(),
                    _ => ranges.push(start..text.len()),
                }
                open = None;
            }
            (OPEN, Some(_)) => return Err("a block stands inside another"),
            (CLOSE, None) => return Err("a block ends that never began"),
            _ => text.push(character),
        }
    }
    if open.is_some() {
        return Err("a block never ends");
    }
    ranges.retain(|range| !range.is_empty());
    Ok((text, ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_filter_blocks_and_keep_their_white_space_control() {
        assert_eq!(
            rewrite("a{%- generation +%}b{% endgeneration -%}c").unwrap(),
            "a{%- filter generation %}{% with  +%}b{% endwith %}{% endfilter  -%}c"
        );
    }

    #[test]
    fn strings_comments_raw_blocks_and_longer_names_are_left_alone() {
        for source in [
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{{ \"\\\"{% generation %}\" }}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% set generation = 1 %}{% if generation %}{% endif %}",
            "{% generation_mode %}",
            "{",
            "{%",
            "{% '",
            "{% raw %}{% generation",
        ] {
            assert_eq!(rewrite(source), None, "{source}");
        }
    }

    #[test]
    fn marks_give_byte_ranges_of_the_text_without_them() {
        let (text, ranges) =
            unmark("é\u{10fff0}ça\u{10fff1}\u{10fff0}!\u{10fff1}-\u{10fff0}\u{10fff1}\u{10fff0}::\u{10fff1}").unwrap();
        assert_eq!(text, "éça!-::");
        assert_eq!(ranges, vec![2..6, 7..9]);
        assert!(unmark("\u{10fff0}").is_err());
        assert!(unmark("\u{10fff1}").is_err());
        assert!(unmark("\u{10fff0}\u{10fff0}\u{10fff1}\u{10fff1}").is_err());
    }
}
