//! Whole frames into a stack.
