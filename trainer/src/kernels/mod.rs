//! The hot operators of the decoder, one file each, written in ordinary tensor operators.
//!
//! These definitions run on every backend and are the oracle for any faster form of the same operator. Activations are
//! `[tokens, ..]`: the examples of a micro-batch lie one after the other, and only [`attention`] knows their borders.

pub mod attention;
pub mod linear_cross_entropy;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;
