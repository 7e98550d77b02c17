//! Delivery against a small server on this machine that misbehaves as servers do.

mod fake;
