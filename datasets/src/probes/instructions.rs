//! Instructions whose keeping a program can check.
//!
//! Source: Zhou et al. 2023, <https://arxiv.org/abs/2311.07911> (IFEval).

/// One instruction with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {}
