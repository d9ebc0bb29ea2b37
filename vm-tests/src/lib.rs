//! Boots nodes.
