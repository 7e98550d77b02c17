//! User texts with placeholders, `{context}` and the like, for sources that carry fields and not messages.
//!
//! A placeholder is a lower-case name between braces. Other braces stay as they are, so that a prompt
//! may show a piece of JSON. Filled-in text is not searched again.

/// The names of the placeholders in `template`, in order.
pub(crate) fn placeholders(template: &str) -> Vec<&str> {
    let mut names = Vec::new();
    split(template, |piece| {
        if let Piece::Name(name) = piece {
            names.push(name);
        }
    });
    names
}

/// Fills the placeholders with what `value` gives for a name, and removes white space at both ends.
pub(crate) fn render<'a>(template: &str, value: impl Fn(&str) -> &'a str) -> String {
    let mut text = String::with_capacity(template.len());
    split(template, |piece| {
        text.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Name(name) => value(name),
        });
    });
    text.trim().to_owned()
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn split<'a>(template: &'a str, mut found: impl FnMut(Piece<'a>)) {
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        let after = &after[1..];
        let end = after.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(after.len());
        if end > 0 && after[end..].starts_with('}') {
            found(Piece::Text(before));
            found(Piece::Name(&after[..end]));
            rest = &after[end + 1..];
        } else {
            found(Piece::Text(&rest[..=open]));
            rest = after;
        }
    }
    found(Piece::Text(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_names_between_braces_are_placeholders() {
        assert_eq!(placeholders("{a}{b_c} {} {\"x\": 1} {A} {{d}} {e"), ["a", "b_c", "d"]);
    }

    #[test]
    fn filled_in_text_is_not_filled_again() {
        let value = |name: &str| if name == "a" { "{b}" } else { "2" };
        assert_eq!(render("  {a} {b} {} é{ \n", value), "{b} 2 {} é{");
    }
}
