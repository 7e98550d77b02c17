//! Instructions whose keeping a program can check.
//!
//! Source: Zhou et al. 2023, <https://arxiv.org/abs/2311.07911> (IFEval).

/// One instruction with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {}

impl Instruction {
    /// Placeholder.
    pub fn is_followed(&self, _: &str) -> bool {
        false
    }
}

/// Placeholder.
pub fn loose_variants(response: &str) -> Vec<String> {
    vec![response.to_owned()]
}

/// Placeholder.
pub fn language_of(_: &str) -> Option<&'static str> {
    None
}
