//! The map against what was really touched.
