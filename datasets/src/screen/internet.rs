//! E-mail and IP addresses.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use super::context::{Context, pattern};
use super::numbers::is_word;
use super::{Finding, Kind};

/// Finds e-mail addresses, from each `@` outwards.
pub(super) fn find_emails(text: &str, found: &mut Vec<Finding>) {
    for (at, _) in text.match_indices('@') {
        let local = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'' | '&' | '~' | '=');
        let before = &text[..at];
        let start = before.char_indices().rev().take_while(|(_, c)| local(*c)).last().map_or(at, |(place, _)| place);
        let start =
            start + text[start..at].len() - text[start..at].trim_start_matches(['.', '\'', '-', '=', '&']).len();
        let host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
        let end = text[at + 1..].find(|c| !host(c)).map_or(text.len(), |length| at + 1 + length);
        let end = at + 1 + text[at + 1..end].trim_end_matches(['.', '-']).len();
        // The password in `scheme://user:password@host` is no mailbox.
        let in_address = text[..start].ends_with(':')
            && text[..start].rsplit(char::is_whitespace).next().is_some_and(|word| word.contains("://"));
        if start < at && !in_address && is_host(&text[at + 1..end]) {
            found.push(Finding { kind: Kind::Email, range: start..end });
        }
    }
}

/// Whether it is a host with a top-level domain of letters.
fn is_host(host: &str) -> bool {
    let mut labels = host.split('.');
    let top = labels.next_back().unwrap_or_default();
    let mut rest = labels.peekable();
    let top_is_one = top.chars().count() >= 2 && (top.starts_with("xn--") || top.chars().all(char::is_alphabetic));
    top_is_one
        && rest.peek().is_some()
        && rest.all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
}

/// Finds addresses of the Internet Protocol.
pub(super) fn find_ips(text: &str, found: &mut Vec<Finding>) {
    static FOUR: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:\d{1,3}\.){3}\d{1,3}"));
    static SIX: LazyLock<Regex> = LazyLock::new(|| pattern(r"[0-9A-Fa-f:]{2,}:[0-9A-Fa-f:.]*"));
    for part in FOUR.find_iter(text) {
        let apart = !is_word(text, part.start())
            && !text[..part.start()].ends_with('.')
            && !text[part.end()..].starts_with(|c: char| c.is_alphanumeric())
            && !text[part.end()..].strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let is_address = part.as_str().parse::<Ipv4Addr>().is_ok_and(|address| !address.is_unspecified());
        if apart && is_address && !Context::before(text, part.start()).speaks_of_versions() {
            found.push(Finding { kind: Kind::IpAddress, range: part.range() });
        }
    }
    if !text.contains(':') {
        return;
    }
    for part in SIX.find_iter(text) {
        let written = part.as_str().trim_end_matches('.');
        let written = if written.ends_with("::") { written } else { written.trim_end_matches(':') };
        let groups = written.split(':').filter(|group| !group.is_empty()).count();
        if groups >= 3 && !is_word(text, part.start()) && written.parse::<Ipv6Addr>().is_ok() {
            found.push(Finding { kind: Kind::IpAddress, range: part.start()..part.start() + written.len() });
        }
    }
}
